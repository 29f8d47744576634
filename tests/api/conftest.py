"""What tests of the API start from."""

from houses import database, deployment, house, open_house

__all__ = ["database", "deployment", "house", "open_house"]
