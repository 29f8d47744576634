"""From a GraphQL field to one service call: the caller, the transaction, the outcome."""
