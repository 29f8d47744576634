"""What tests of hostile callers start from."""

from houses import database, deployment, house, open_house

__all__ = ["database", "deployment", "house", "open_house"]
