"""What the business can do: one function per operation, named as the business says it."""
