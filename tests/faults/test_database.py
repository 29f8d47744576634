"""PostgreSQL that crashes, freezes, is cut off or overfull: told quickly, healed, nothing doubled.

Proves cases 18, 19 and 23 of research/webhooks.md §6, and of research/reliability.md §3 the rows of
a PostgreSQL crashed, killed at commit, frozen, deadlocked, and of delay, cut and half-open.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from conftest import serving
from core.errors import Overloaded, Unavailable
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Transaction
from db.migrate import upgrade
from db.postgres import PostgresDatabase
from factories import Cafe, a_business, a_card, a_card_template, an_award_goal, stamps
from faults.proxy import FaultProxy
from faults.servers import Postgres
from faults.tills import TYPED, Tills
from patience import until

pytestmark = pytest.mark.on("postgres")

SIZE = 10
"""Connections of a pool."""
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The message by which the pool commits."""
HEALED = 5.0
AT_MOST = 2.0
"""How long a call waits for a connection that does not come."""
MARGIN = 0.5


@pytest.fixture(scope="session")
def template(the_postgres: Postgres) -> str:
    """A migrated database to copy."""
    if not the_postgres.is_running:
        the_postgres.start()
    upgrade(the_postgres.fresh("template_of_faults"))
    return "template_of_faults"


@pytest.fixture
def settings(settings: Settings, postgres: Postgres, template: str) -> Settings:
    """On a database that may be broken; within a process no broker is needed."""
    url = postgres.fresh("faulty", like=template)
    told = {"database_url": url, "broadcast_url": "memory://"}
    return Settings(**{**settings.model_dump(), **told})


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[PostgresDatabase]:
    """The database, open."""
    async with opened(settings.database) as database:
        yield database


@contextlib.asynccontextmanager
async def opened(url: str, size: int = SIZE) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(url, size)
    await database.open()
    yield database
    await database.close()


@contextlib.asynccontextmanager
async def shop(settings: Settings) -> AsyncIterator[tuple[Tills, Database, Cafe]]:
    """A server on the database, and tills before it."""
    async with serving(settings) as server:
        database = server.app.state.deployment.database
        secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
        cafe = await a_business(database, secrets)
        goals = [an_award_goal(10), an_award_goal(50)]
        kind = await a_card_template(database, cafe.owner, 50, goals)
        cards = [(await a_card(database, cafe.owner, kind.id)).id for _ in range(4)]
        yield Tills([server.graphql], cafe.api_key, cards), database, cafe


# -- Under load ------------------------------------------------------------------------------------


@pytest.mark.calm
async def test_a_crash_is_told_as_such_and_healed_soon(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    """What was acknowledged is stored; the rest is stored once, when it is asked for again."""
    for _ in range(2):
        async with shop(settings) as (tills, database, cafe):
            async with tills.at_work():
                await until(lambda: len(tills.acknowledged) >= 50)
                await asyncio.to_thread(postgres.kill)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(postgres.start)
                accepts = time.monotonic()
                await until(lambda since=accepts: tills.is_served_since(since))  # type: ignore[misc]
                await asyncio.sleep(0.3)
            await tills.check(database, cafe.business)
        healed = tills.healed_after(accepts)
        figure(f"healed {healed:.2f} s after it accepted again; told meanwhile: {tills.refusals}")
        assert set(tills.refusals) <= {*TYPED}
        assert sum(tills.refusals.values()) > 0
        if healed <= HEALED:
            return
    raise AssertionError


_KILL_ONE = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'stampwire' ORDER BY state = 'idle', random() LIMIT 1"""


async def sessions_killed(
    settings: Settings, postgres: Postgres, rounds: int, figure: Callable[[str], None]
) -> None:
    admin = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres")
    async with shop(settings) as (tills, database, cafe):
        async with tills.at_work():
            for _ in range(rounds):
                await asyncio.sleep(random.uniform(0.01, 0.05))
                await admin.execute(_KILL_ONE)
        await tills.check(database, cafe.business)
    await admin.close()
    repeated = sum(times > 1 for times in tills.tries.values())
    figure(f"{len(tills.acknowledged)} sales, {repeated} of them asked for again, none doubled")
    assert set(tills.refusals) <= {*TYPED}


async def test_killed_sessions_double_nothing(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    await sessions_killed(settings, postgres, 50, figure)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_killed_sessions_double_nothing_over_many(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    await sessions_killed(settings, postgres, 500, figure)


async def cut_at_commit(
    settings: Settings, postgres: Postgres, cuts: int, figure: Callable[[str], None]
) -> None:
    async with FaultProxy(postgres.port) as proxy:
        told = {**settings.model_dump(), "database_url": _through(proxy, settings)}
        through = Settings(**told)
        async with shop(through) as (tills, database, cafe):
            async with tills.at_work(4):
                while proxy.cuts < cuts:
                    proxy.cut_after = COMMIT
                    await until(lambda before=proxy.cuts: proxy.cuts > before)  # type: ignore[misc]
                    proxy.cut_after = None
                    await asyncio.sleep(0.02)
            await tills.check(database, cafe.business)
    repeated = sum(times > 1 for times in tills.tries.values())
    figure(
        f"{proxy.cuts} commits cut off, {len(tills.acknowledged)} sales, "
        f"{repeated} of them asked for again, none doubled"
    )
    assert repeated >= cuts // 10
    assert set(tills.refusals) <= {*TYPED}


async def test_a_commit_without_an_answer_has_one_effect(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    """Nobody knows whether it was stored: repeated under its key, it is there once."""
    await cut_at_commit(settings, postgres, 30, figure)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_many_commits_without_an_answer_have_one_effect_each(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    await cut_at_commit(settings, postgres, 500, figure)


@pytest.mark.calm
async def test_a_frozen_database_makes_no_pile(
    settings: Settings, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    """Each call ends with an answer; no more connections are held than the pool has."""
    async with shop(settings) as (tills, database, cafe):
        assert isinstance(database, PostgresDatabase)
        async with tills.at_work(30):
            await until(lambda: len(tills.acknowledged) >= 60)
            with postgres.frozen():
                most = 0
                ends = time.monotonic() + 3
                while time.monotonic() < ends:
                    most = max(most, database._made)
                    await asyncio.sleep(0.02)
            thawed = time.monotonic()
            await until(lambda: tills.is_served_since(thawed))
            await asyncio.sleep(0.2)
        await tills.check(database, cafe.business)
    figure(
        f"longest call {tills.longest:.1f} s, at most {most} connections, "
        f"healed {tills.healed_after(thawed):.2f} s after; told meanwhile: {tills.refusals}"
    )
    assert most <= SIZE
    assert set(tills.refusals) <= {*TYPED}
    assert tills.healed_after(thawed) <= HEALED
    assert tills.longest <= 3 * AT_MOST + 2


# -- The pool --------------------------------------------------------------------------------------


@pytest.mark.calm
async def test_a_call_waits_two_seconds_for_a_connection_that_does_not_come(
    pool: PostgresDatabase, figure: Callable[[str], None]
) -> None:
    """Case 23; and when connections come back, it goes on as before."""
    cafe = await a_business(pool)
    release = asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await release.wait()

    holders = [asyncio.create_task(pool.read(cafe.business.id, hold)) for _ in range(SIZE)]
    await until(lambda: pool.load.busy == SIZE)
    for _ in range(2):
        began = time.monotonic()
        calls = [pool.read(cafe.business.id, _one) for _ in range(50)]
        told = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - began
        figure(f"50 calls told after {took:.2f} s")
        assert {type(one) for one in told} == {Overloaded}
        assert pool.load.waiting == 0
        if took <= AT_MOST + MARGIN:
            break
    assert took <= AT_MOST + MARGIN
    release.set()
    await asyncio.gather(*holders)
    assert await pool.read(cafe.business.id, _one) == 1


@pytest.mark.calm
async def test_a_long_line_that_moves_is_not_turned_away(pool: PostgresDatabase) -> None:
    """Longer than those two seconds in all, while connections come back all the time."""

    async def work(tx: Transaction) -> int:
        await asyncio.sleep(0.3)
        return await _one(tx)

    began = time.monotonic()
    assert await asyncio.gather(*(pool.read(None, work) for _ in range(SIZE * 8))) == [1] * 80
    assert time.monotonic() - began > AT_MOST


@pytest.mark.parametrize("does", ["read", "write"])
@pytest.mark.calm
async def test_connections_that_went_silent_are_replaced(
    settings: Settings,
    postgres: Postgres,
    does: str,
    figure: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half-open, as behind a firewall that forgot them: the call itself succeeds on a fresh one."""
    monkeypatch.setattr("db.postgres._IDLE", 0.0)
    async with FaultProxy(postgres.port) as proxy, opened(_through(proxy, settings), 2) as database:
        cafe = await a_business(database)
        await asyncio.gather(*(database.read(cafe.business.id, _slowly) for _ in range(2)))
        proxy.abandon()
        began = time.monotonic()
        call = getattr(database, does)
        assert await call(cafe.business.id, _one) == 1
        figure(f"answered after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began <= 2 * AT_MOST + MARGIN


@pytest.mark.calm
async def test_an_absent_database_is_told_at_once(settings: Settings, postgres: Postgres) -> None:
    async with opened(settings.database) as database:
        cafe = await a_business(database)
        await asyncio.to_thread(postgres.kill)
        for do in (database.read, database.write, database.rehearse, database.snapshot):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await do(cafe.business.id, _one)
            assert time.monotonic() - began <= MARGIN
        assert database.load.connections == 0
        await asyncio.to_thread(postgres.start)
        assert await database.read(cafe.business.id, _one) == 1


async def test_a_slow_way_to_the_database_only_takes_longer(
    settings: Settings, postgres: Postgres
) -> None:
    async with FaultProxy(postgres.port) as proxy, opened(_through(proxy, settings)) as database:
        cafe = await a_business(database)
        card = await a_card(database, cafe.owner)
        proxy.delay = 0.01
        added = await stamps(database, cafe.owner, card)
        assert added.card
        assert added.card.stamps == 1


# -- What the server says --------------------------------------------------------------------------


async def test_a_database_that_only_reads_takes_nothing_and_reads_on(
    settings: Settings, postgres: Postgres
) -> None:
    async with opened(settings.database) as database:
        cafe = await a_business(database)
    postgres.run("ALTER DATABASE faulty SET default_transaction_read_only = on")
    async with opened(settings.database) as database:
        with pytest.raises(Unavailable, match="takes nothing"):
            await a_card(database, cafe.owner)
        assert await database.read(cafe.business.id, _one) == 1


async def test_a_server_without_a_connection_left_says_so(
    settings: Settings, postgres: Postgres
) -> None:
    async with opened(settings.database) as database:
        postgres.run("ALTER ROLE stampwire CONNECTION LIMIT 1")
        try:
            told = await asyncio.gather(
                *(database.read(None, _slowly) for _ in range(3)), return_exceptions=True
            )
        finally:
            postgres.run("ALTER ROLE stampwire CONNECTION LIMIT -1")
        assert [type(one) for one in told if isinstance(one, Exception)] == [Unavailable] * 2
        assert await database.read(None, _one) == 1


@pytest.mark.parametrize(
    ("error", "told", "tries"),
    [
        (asyncpg.DiskFullError, Unavailable, 1),
        (asyncpg.OutOfMemoryError, Unavailable, 1),
        (asyncpg.PostgresIOError, Unavailable, 1),
        (asyncpg.QueryCanceledError, Overloaded, 1),
        (asyncpg.AdminShutdownError, Unavailable, 2),
        (asyncpg.ConnectionDoesNotExistError, Unavailable, 2),
        (ConnectionResetError, Unavailable, 2),
        (TimeoutError, Unavailable, 2),
        (asyncpg.DeadlockDetectedError, Overloaded, 5),
        (asyncpg.SerializationError, Overloaded, 5),
    ],
)
async def test_what_went_wrong_is_typed_and_tries_are_bounded(
    pool: PostgresDatabase, error: type[Exception], told: type[Exception], tries: int
) -> None:
    tried = 0

    async def work(tx: Transaction) -> None:
        nonlocal tried
        tried += 1
        raise error("as the server says it")

    with pytest.raises(told):
        await pool.write(None, work)
    assert tried == tries
    assert pool.load.busy == 0
    assert await pool.read(None, _one) == 1


@pytest.mark.calm
async def test_those_who_deadlock_both_get_through(
    pool: PostgresDatabase, postgres: Postgres, figure: Callable[[str], None]
) -> None:
    """Two rows, locked in opposite order; a try more is made apart from the other."""
    postgres.run("ALTER SYSTEM SET deadlock_timeout = '50ms'")
    postgres.run("SELECT pg_reload_conf()")
    cafes = [await a_business(pool) for _ in range(2)]
    tried = 0

    def crossed(*order: int) -> Callable[[Transaction], Any]:
        async def work(tx: Transaction) -> None:
            nonlocal tried
            tried += 1
            for place in order:
                await tx.change(cafes[place].business, name=f"Kopi {order}")
                await asyncio.sleep(0.05)

        return work

    took = []
    for _ in range(5):
        began = time.monotonic()
        await asyncio.gather(pool.write(None, crossed(0, 1)), pool.write(None, crossed(1, 0)))
        took.append(time.monotonic() - began)
    figure(f"10 units of work in {tried} tries, the slowest pair {1000 * max(took):.0f} ms")
    assert 10 < tried <= 50
    assert max(took) <= 2


def _through(proxy: FaultProxy, settings: Settings) -> str:
    """The database's URL by way of the proxy."""
    return settings.database.replace(f":{proxy.target}/", f":{proxy.port}/")


async def _one(tx: Transaction) -> int:
    wire: Any = tx._wire  # type: ignore[attr-defined]
    return await wire.fetchval("SELECT 1")  # type: ignore[no-any-return]


async def _slowly(tx: Transaction) -> int:
    await asyncio.sleep(0.2)
    return await _one(tx)
