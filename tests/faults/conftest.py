"""What fault tests need: servers of their own to break, and figures shown at the end of the run."""

from collections.abc import Callable, Iterator

import pytest

from faults.servers import Postgres, Redis

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured."""

    def say(text: str) -> None:
        request.config.stash.setdefault(_FIGURES, []).append(f"{request.node.name}: {text}")

    return say


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for text in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(f"measured: {text}")


@pytest.fixture(scope="session")
def the_redis() -> Iterator[Redis]:
    """A Redis that no other kind of test uses."""
    made = Redis()
    yield made
    made.remove()


@pytest.fixture
def redis(the_redis: Redis) -> Iterator[Redis]:
    """It, running."""
    if not the_redis.is_running:
        the_redis.start()
    yield the_redis
    the_redis.thaw()


@pytest.fixture(scope="session")
def the_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other kind of test uses."""
    made = Postgres()
    yield made
    made.remove()


@pytest.fixture
def postgres(the_postgres: Postgres) -> Iterator[Postgres]:
    """It, running."""
    if not the_postgres.is_running:
        the_postgres.start()
    yield the_postgres
    the_postgres.thaw()
