"""What tests of the kits start from: the npm packages that they are run with."""

from pathlib import Path

import pytest

from npm import installed


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder of the npm packages, as the lock has them."""
    return installed(Path(__file__).parent)
