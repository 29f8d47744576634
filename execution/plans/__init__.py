"""Plans: a query understood once, then answered without walking its document again."""
