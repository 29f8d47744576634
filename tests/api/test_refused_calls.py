"""Refused calls: who tried what, and why it was refused, for the owner to see."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from clients import Client
from core.clock import ManualClock
from core.ids import new_id
from db import BUSINESS, query
from factories import a_card, a_voucher
from houses import House
from models import RefusedCall, Role
from services.housekeeping import REFUSED_KEPT, keep_house

REFUSED = """{ refusedCalls(first: 50) { totalCount nodes {
    id mutation code count firstAt lastAt staff { id name } } } }"""
REDEEM = """mutation ($id: ID!) { redeemVoucher(input: {voucher: {id: $id}}) {
    userErrors { code } } }"""
STAMP = """mutation ($token: String!, $count: Int!) {
    addStamps(input: {card: {token: $token}, count: $count}) { userErrors { code } } }"""
HIRE = """mutation { createStaff(input: {name: "Eve", login: "eve@mail.example",
    password: "correct horse", role: OWNER}) { userErrors { code } } }"""
NOBODYS = new_id("vch")
_ROWS = query(select(RefusedCall).where(col(RefusedCall.business_id) == BUSINESS))


async def refused(client: Client) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await client.do(REFUSED))["refusedCalls"]["nodes"]
    return sorted(nodes, key=lambda node: (node["mutation"], node["code"]))


async def test_the_owner_sees_who_was_refused_what_and_how_often(
    house: House, clock: ManualClock
) -> None:
    budi, scanner = await house.hire(Role.SCANNER)
    voucher = await a_voucher(house.database, house.actor)
    began = clock.now()
    await scanner.do(REDEEM, {"id": voucher.id})

    for _ in range(3):
        clock.advance(timedelta(seconds=10))
        await scanner.do(REDEEM, {"id": voucher.id})
    assert (await scanner.call(HIRE)).code == "FORBIDDEN"

    hired, redeemed = await refused(house.owner)
    assert budi.staff is not None
    assert (hired["mutation"], hired["code"], hired["count"]) == ("createStaff", "FORBIDDEN", 1)
    assert redeemed | {"id": ""} == {
        "id": "",
        "mutation": "redeemVoucher",
        "code": "VOUCHER_ALREADY_REDEEMED",
        "count": 3,
        "firstAt": (began + timedelta(seconds=10)).isoformat().replace("+00:00", "Z"),
        "lastAt": (began + timedelta(seconds=30)).isoformat().replace("+00:00", "Z"),
        "staff": {"id": budi.staff.id, "name": budi.staff.name},
    }


@pytest.mark.on("sqlite")
async def test_what_succeeds_is_not_kept(house: House) -> None:
    card = await a_card(house.database, house.actor)

    done = await house.owner.do(STAMP, {"token": card.token, "count": 1})

    assert done["addStamps"]["userErrors"] == []
    assert await refused(house.owner) == []


@pytest.mark.on("sqlite")
async def test_each_hour_has_a_row_and_the_latest_comes_first(
    house: House, clock: ManualClock
) -> None:
    for _ in range(3):
        await house.owner.do(REDEEM, {"id": NOBODYS})
        clock.advance(timedelta(hours=1))

    nodes = (await house.owner.do(REFUSED))["refusedCalls"]["nodes"]
    assert [node["count"] for node in nodes] == [1, 1, 1]
    assert [node["firstAt"] for node in nodes] == sorted(
        (node["firstAt"] for node in nodes), reverse=True
    )


async def test_of_many_at_once_each_is_counted(house: House) -> None:
    calls = [house.owner.do(REDEEM, {"id": NOBODYS}) for _ in range(30)]

    await asyncio.gather(*calls)

    [row] = await refused(house.owner)
    assert row["count"] == 30


@pytest.mark.on("sqlite")
async def test_nothing_of_what_was_told_is_kept(house: House) -> None:
    told = {"token": "canary-token-1", "count": 49}

    await house.owner.do(STAMP, told)

    [row] = await house.all(_ROWS)
    assert (row.mutation, row.code) == ("addStamps", "NOT_FOUND")
    assert "canary" not in str(row.__dict__)


@pytest.mark.on("sqlite")
async def test_scanners_and_other_businesses_do_not_see_them(
    house: House, open_house: Callable[..., Awaitable[House]]
) -> None:
    _, scanner = await house.hire(Role.SCANNER)
    _, manager = await house.hire(Role.MANAGER)
    await scanner.do(REDEEM, {"id": NOBODYS})
    [row] = await refused(house.owner)
    elsewhere = await open_house()

    node = "query ($id: ID!) { node(id: $id) { __typename } }"
    seen = [
        (await client.do(node, {"id": row["id"]}))["node"]
        for client in (house.owner, manager, scanner, elsewhere.owner)
    ]

    assert (await scanner.call(REFUSED)).code == "FORBIDDEN"
    assert await refused(manager) == [row]
    assert await refused(elsewhere.owner) == []
    assert seen == [{"__typename": "RefusedCall"}, {"__typename": "RefusedCall"}, None, None]


@pytest.mark.on("sqlite")
async def test_strangers_leave_nothing(house: House) -> None:
    stranger = house.client_of()

    codes = {(await stranger.call(HIRE)).code, (await stranger.call(REFUSED)).code}

    assert codes == {"UNAUTHENTICATED"}
    assert await refused(house.owner) == []


@pytest.mark.on("sqlite")
async def test_refused_hooks_and_items_of_a_batch_are_kept_too(
    house: House, clock: ManualClock
) -> None:
    batch = """mutation ($items: [OfflineStampsInput!]!) {
        addStampsBatch(input: {items: $items}) { results { applied } userErrors { code } } }"""
    at = clock.now().isoformat()
    item = {"occurredAt": at, "card": {"token": "nobody's"}, "count": 1}
    items = [{**item, "clientId": f"till-{number}"} for number in range(4)]
    server, headers = house.owner.server, house.owner.headers

    await house.owner.do(batch, {"items": items})
    gone = await house.owner.session.delete(f"{server.url}/hooks/{new_id('we')}", headers=headers)

    told = [(row["mutation"], row["code"], row["count"]) for row in await refused(house.owner)]
    assert gone.status == 404
    assert told == [("addStampsBatch", "NOT_FOUND", 4), ("deleteWebhookEndpoint", "NOT_FOUND", 1)]


async def test_they_go_after_ninety_days(house: House, clock: ManualClock) -> None:
    await house.owner.do(REDEEM, {"id": NOBODYS})

    await keep_house(house.database, clock.now() + REFUSED_KEPT)
    kept = await refused(house.owner)
    await keep_house(house.database, clock.now() + REFUSED_KEPT + timedelta(seconds=1))

    assert len(kept) == 1
    assert await refused(house.owner) == []


@pytest.mark.on("sqlite")
async def test_a_refusal_stands_where_it_cannot_be_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("resolvers.watching.keep_refused", fail)

    done = await house.owner.do(REDEEM, {"id": NOBODYS})

    assert done["redeemVoucher"]["userErrors"] == [{"code": "NOT_FOUND"}]
