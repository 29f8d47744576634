"""What tests of the database may ask for."""

from second_wall import robbed

__all__ = ["robbed"]
