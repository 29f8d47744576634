"""What fault tests need: servers of their own to break."""

from collections.abc import Iterator

import pytest

from faults.servers import Postgres, Redis


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
