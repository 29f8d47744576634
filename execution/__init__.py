"""How a document runs: parsing, limits and validation in one memoised function."""
