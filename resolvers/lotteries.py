"""Lotteries: from a field to its operation."""

from resolvers.perform import performs
from services import lotteries

play_lottery = performs(lotteries.play_lottery)
