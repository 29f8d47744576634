"""What people and programs read about Stampwire, and what writes it."""
