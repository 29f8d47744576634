"""The documents that follow from the code, each written by a module of its own name."""
