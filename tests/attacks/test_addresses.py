"""Whoever calls without a good key soon waits, and no header makes another address of theirs.

Rows 36 and 64 of the threat table.
"""

import asyncio
import json
import threading
from typing import Any

import pytest

from clients import bare_socket
from core.settings import Settings
from patience import PATIENCE

HELD = 20
"""What an address may spend without a key, here."""


@pytest.fixture
def trusted() -> tuple[str, ...]:
    """The proxies that are believed."""
    return ()


@pytest.fixture
def settings(settings: Settings, trusted: tuple[str, ...]) -> Settings:
    """A small bucket for strangers; its clock stands still, so nothing comes back."""
    return settings.model_copy(
        update={
            "stranger_cost_bucket": HELD,
            "trusted_proxies": trusted,
            "trusted_hosts": ("127.0.0.1", "stamps.example"),
            "allowed_origins": ("https://app.example",),
        }
    )


def guess(number: int) -> str:
    """What looks like a session's secret, and so is looked up."""
    return f"ses_{number:040}"


async def test_whoever_tries_keys_waits_and_who_has_one_does_not(house: Any) -> None:
    for path in ("/hooks", "/uploads"):
        told = [await _post(house, path, guess(number)) for number in range(HELD // 2)]
        assert {status for status, _ in told} == {401}
    told = [await _post(house, path, guess(1)) for path in ("/hooks", "/uploads")]
    by_graphql = await house.client_of(guess(2)).call("{ __typename }")
    status, _ = await _post(house, "/uploads", house.owner.key)

    assert [status for status, _ in told] == [429, 429]
    assert all(int(headers["Retry-After"]) >= 1 for _, headers in told)
    assert (by_graphql.status, by_graphql.codes) == (429, ["RATE_LIMITED"])
    assert status == 201


async def _post(house: Any, path: str, key: str) -> tuple[int, Any]:
    session, headers = house.owner.session, {"authorization": f"Bearer {key}"}
    async with session.post(
        house.owner.server.url + path, data=b"email\n", headers=headers
    ) as answer:
        return answer.status, answer.headers


async def _statuses(house: Any) -> list[int]:
    """Of as many calls as a bucket holds and five more, each from another address as it says."""
    stranger = house.client_of(None)
    told = []
    for number in range(HELD + 5):
        address = f"203.0.113.{number}"
        forwarded = {
            "x_forwarded_for": address,
            "x_real_ip": address,
            "forwarded": f"for={address}",
        }
        told.append((await stranger.call("{ __typename }", **forwarded)).status)
    return told


@pytest.mark.on("sqlite")
async def test_a_forwarded_address_is_not_believed_of_anybody(house: Any) -> None:
    assert await _statuses(house) == [200] * HELD + [429] * 5


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("trusted", [("127.0.0.1",)])
async def test_a_forwarded_address_is_believed_of_a_named_proxy(house: Any) -> None:
    assert await _statuses(house) == [200] * (HELD + 5)


@pytest.mark.on("sqlite")
async def test_so_does_whoever_tries_keys_over_sockets_and_streams(house: Any) -> None:
    codes = [await _init(house, guess(number)) for number in range(HELD)]
    refused = await _init(house, guess(HELD))
    streamed = await house.client_of(guess(1)).call(
        "subscription { events { type } }", accept="text/event-stream"
    )
    asked_by_get = await house.owner.session.get(
        house.owner.server.graphql,
        params={"query": "{ __typename }"},
        headers={"authorization": f"Bearer {guess(2)}"},
    )

    assert set(codes) == {4403}
    assert refused == 4429
    assert (streamed.status, streamed.codes) == (429, ["RATE_LIMITED"])
    assert asked_by_get.status == 429
    async with house.owner.socket() as socket:  # of the same address
        assert (await (await socket.subscribe("{ __typename }")).message())["type"] == "next"


async def _init(house: Any, secret: str) -> int | None:
    """The code with which a socket with this secret is closed."""
    async with bare_socket(house.owner.server) as wire:
        told = {"type": "connection_init", "payload": {"Authorization": f"Bearer {secret}"}}
        await wire.send(json.dumps(told))
        async with asyncio.timeout(PATIENCE):
            await wire.wait_closed()
        return wire.close_code


async def test_a_page_of_another_origin_is_refused_in_json(house: Any) -> None:
    asks = {
        "https://app.example": {"origin": "https://app.example"},
        "https://evil.example": {"origin": "https://evil.example"},
    }
    for origin, headers in asks.items():
        async with house.owner.session.options(
            house.owner.server.graphql,
            headers={**headers, "access-control-request-method": "POST"},
        ) as answer:
            if origin == "https://app.example":
                assert answer.status == 200
            else:
                assert (answer.status, answer.content_type) == (400, "application/json")
                assert (await answer.json())["errors"][0]["message"] == "Disallowed CORS origin"


async def test_we_answer_to_our_own_names_alone(house: Any) -> None:
    session, url = house.owner.session, house.owner.server.url + "/livez"
    hosts = {
        "stamps.example": 200,
        "evil.example": 400,
        "stamps.example.evil.example": 400,
        "": 400,
    }
    for host, due in hosts.items():
        async with session.get(url, headers={"host": host}) as answer:
            assert answer.status == due, host
            assert "location" not in answer.headers
            if due != 200:
                assert (await answer.json())["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_slow_names_of_some_webhooks_leave_room_for_others(house: Any) -> None:
    """A thread waits for each; on two cores a loop has six of them by itself."""
    go_on, loop = threading.Event(), asyncio.get_running_loop()
    slow = [loop.run_in_executor(None, go_on.wait, 20) for _ in range(40)]
    try:
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: house.owner.key)
    finally:
        go_on.set()
        await asyncio.gather(*slow)
