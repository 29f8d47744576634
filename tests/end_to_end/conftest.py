"""What tests of the whole system share."""

from browsers import browser

__all__ = ["browser"]
