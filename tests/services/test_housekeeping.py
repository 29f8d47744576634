"""Housekeeping: what was promised to be kept is kept, and no longer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

import factories
from core.ids import new_id
from db import BUSINESS, Database, Transaction, query
from models import (
    AccessToken,
    Attempt,
    AttemptStatus,
    Delivery,
    DeliveryState,
    EventRow,
    IdempotencyRecord,
    Rendering,
    Replay,
    ReplayStatus,
    Vocabulary,
    WebhookEndpoint,
)
from services.businesses import update_business
from services.housekeeping import (
    ACCESS_TOKENS_KEPT,
    ATTEMPTS_KEPT,
    IDEMPOTENCY_KEPT,
    REPLAYS_KEPT,
    keep_house,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


async def test_an_idempotency_record_is_kept_for_seven_days_and_then_thrown_away(
    database: Database,
) -> None:
    owner = (await factories.a_business(database)).owner
    ages = {"young": IDEMPOTENCY_KEPT - timedelta(seconds=1), "old": IDEMPOTENCY_KEPT * 2}

    async def remember(tx: Transaction) -> None:
        for key, age in ages.items():
            await tx.add(
                IdempotencyRecord(
                    business_id=owner.business_id,
                    actor_id=owner.id,
                    mutation="add_stamps",
                    key=key,
                    fingerprint="f",
                    created_at=NOW - age,
                )
            )

    await database.write(owner.business_id, remember)

    assert await keep_house(database, NOW) == 1
    assert await keep_house(database, NOW) == 0


class House:
    """A café with an endpoint, and rows of any kind."""

    def __init__(self, database: Database, cafe: factories.Cafe) -> None:
        self.database = database
        self.cafe = cafe
        self.id = cafe.business.id

    async def add(self, *rows: Any) -> None:
        await self.database.write(self.id, lambda tx: tx.add(*rows))

    async def endpoint(self, **values: Any) -> WebhookEndpoint:
        made = WebhookEndpoint(
            id=new_id("we"), business_id=self.id, url="https://till.example/",
            vocabulary=Vocabulary.EN, created_at=NOW, next_attempt_at=NOW, lease_until=NOW,
            **{"cursor_sequence": 10} | values,
        )  # fmt: skip
        await self.add(made)
        return made

    async def rows(self, kind: Any) -> list[Any]:
        statement = query(select(kind).where(kind.business_id == BUSINESS))
        return await self.database.read(self.id, lambda tx: tx.many(statement))

    def replay(self, endpoint: WebhookEndpoint, **values: Any) -> Replay:
        return Replay(
            id=new_id("rpl"), business_id=self.id, endpoint_id=endpoint.id, types=[], since=NOW,
            cursor_sequence=0, last_sequence=9, created_at=NOW, next_attempt_at=NOW,
            lease_until=NOW, **values,
        )  # fmt: skip


@pytest.fixture
async def house(database: Database) -> House:
    return House(database, await factories.a_business(database))


async def test_finished_replays_and_attempts_are_kept_for_thirty_days(house: House) -> None:
    endpoint = await house.endpoint()

    def attempt(age: timedelta) -> Attempt:
        return Attempt(
            id=new_id("att"), business_id=house.id, endpoint_id=endpoint.id, sequence=1,
            status=AttemptStatus.SUCCEEDED, started_at=NOW - age,
        )  # fmt: skip

    second = timedelta(seconds=1)
    attempts = [attempt(ATTEMPTS_KEPT - second), attempt(ATTEMPTS_KEPT + second)]
    done = [
        house.replay(endpoint, status=ReplayStatus.DONE, finished_at=NOW - REPLAYS_KEPT + second),
        house.replay(endpoint, status=ReplayStatus.STOPPED, finished_at=NOW - REPLAYS_KEPT * 2),
        house.replay(endpoint, status=ReplayStatus.RUNNING),
    ]
    await house.add(*attempts, *done)

    assert await keep_house(house.database, NOW) == 2

    assert {row.id for row in await house.rows(Attempt)} == {attempts[0].id}
    assert {row.id for row in await house.rows(Replay)} == {done[0].id, done[2].id}


async def test_expired_access_tokens_are_kept_for_seven_days(house: House) -> None:
    staff = house.cafe.owner.staff
    assert staff

    def token(age: timedelta) -> AccessToken:
        return AccessToken(
            id=new_id("tok"), business_id=house.id, staff_id=staff.id, digest=new_id("d"),
            issuer_digest="", role="owner", scope={}, created_at=NOW, expires_at=NOW - age,
        )  # fmt: skip

    tokens = [token(ACCESS_TOKENS_KEPT - timedelta(seconds=1)), token(ACCESS_TOKENS_KEPT * 2)]
    await house.add(*tokens)

    assert await keep_house(house.database, NOW) == 1
    assert [row.id for row in await house.rows(AccessToken)] == [tokens[0].id]


async def test_what_was_rendered_is_kept_until_its_event_is_done_with(house: House) -> None:
    plain = await house.endpoint()
    replayed = await house.endpoint()
    deleted = await house.endpoint(deleted_at=NOW)
    ended = await house.endpoint()
    await house.add(
        *(
            Rendering(endpoint_id=endpoint.id, sequence=sequence, business_id=house.id, body="{}")
            for endpoint in (plain, replayed, deleted, ended)
            for sequence in (9, 10, 11)
        ),
        Delivery(endpoint_id=plain.id, sequence=9, business_id=house.id, state=DeliveryState.DEAD),
        Delivery(
            endpoint_id=deleted.id, sequence=9, business_id=house.id, state=DeliveryState.RETRY
        ),
        house.replay(replayed),
        house.replay(ended, status=ReplayStatus.DONE, finished_at=NOW),
    )

    assert await keep_house(house.database, NOW) == 6
    assert await keep_house(house.database, NOW) == 0

    left = {(row.endpoint_id, row.sequence) for row in await house.rows(Rendering)}
    assert left == {
        *((plain.id, sequence) for sequence in (9, 11)),
        *((replayed.id, sequence) for sequence in (9, 10, 11)),
        (ended.id, 11),
    }


async def test_the_log_is_kept_house_of_with_the_rest(house: House) -> None:
    await factories.a_card(house.database, house.cafe.owner, now=NOW - timedelta(days=31))
    given = {"event_retention_days": 30}
    await house.database.write(
        house.id, lambda tx: update_business(tx, house.cafe.owner, given, NOW)
    )

    assert await keep_house(house.database, NOW, lambda: True) == 0, "it was told to stop"
    assert await keep_house(house.database, NOW) == 1
    assert await house.rows(EventRow) == []
