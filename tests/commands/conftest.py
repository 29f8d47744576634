"""What tests of commands start from: a server that is started as `stampwire` was installed."""

from collections.abc import Iterator

import pytest

from core.settings import Settings
from processes import Process


@pytest.fixture
def installed(settings: Settings) -> Iterator[Process]:
    """`stampwire serve` with the demo café, ready."""
    started = Process(settings, demo=True, installed=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()
