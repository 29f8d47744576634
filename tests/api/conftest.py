"""What tests of the API start from."""

from houses import database, deployment, house, open_house
from second_wall import robbed

__all__ = ["database", "deployment", "house", "open_house", "robbed"]
