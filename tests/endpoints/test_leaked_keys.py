"""Keys of ours that a scanner of public code found: they die, and the owner is told why."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlmodel import col, select

from clients import Client
from conftest import serving
from core.clock import ManualClock
from core.secrets import new_api_key
from core.settings import Settings
from db import BUSINESS, Database, query
from factories import Cafe, a_business
from fakes.mailbox import a_mailbox
from fakes.scanner import Scanner, scanning
from integrations.http import Outgoing
from integrations.scanners import ASKED_AGAIN_AFTER, KEPT, ScannerKeys, _key_in
from models import ApiKey, Notice, NoticeKind
from patience import PATIENCE
from processes import RunningServer
from services.api_keys import RegenerateApiKeyInput, regenerate_api_key

PLACE = "https://code.example/kopi/app/blob/1234/till.env"
_KEYS = query(select(ApiKey).where(col(ApiKey.business_id) == BUSINESS))
_NOTICES = query(select(Notice).where(col(Notice.business_id) == BUSINESS).order_by(col(Notice.id)))


@pytest.fixture
async def scanner() -> AsyncIterator[Scanner]:
    async with scanning() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, scanner: Scanner) -> Settings:
    return settings.model_copy(update={"scanner_keys_url": scanner.url})


def found(token: str, url: str | None = PLACE) -> dict[str, Any]:
    return {"token": token, "type": "stampwire_api_key", "url": url, "source": "content"}


async def key_of(database: Database, cafe: Cafe) -> ApiKey:
    return await database.read(cafe.business.id, lambda tx: tx.one(_KEYS))


async def notices_of(database: Database, cafe: Cafe) -> list[Notice]:
    return await database.read(cafe.business.id, lambda tx: tx.many(_NOTICES))


async def test_a_key_that_was_found_dies_and_the_owner_reads_where(
    http: httpx2.AsyncClient,
    scanner: Scanner,
    database: Database,
    cafe: Cafe,
    client_of: Callable[..., Client],
) -> None:
    owner = client_of(cafe.api_key)
    async with owner.socket() as socket:
        answer = await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))
        async with asyncio.timeout(PATIENCE):
            await socket.wire.wait_closed()

    key = await key_of(database, cafe)
    [notice] = await notices_of(database, cafe)
    digest = base64.b64encode(sha256(cafe.api_key.encode()).digest()).decode()
    assert (answer.status_code, answer.json()) == (
        200,
        [{"token_hash": digest, "token_type": "stampwire_api_key", "label": "true_positive"}],
    )
    assert cafe.api_key not in answer.text
    assert socket.wire.close_code == 4403
    assert (await owner.call("{ viewer { business { id } } }")).code == "UNAUTHENTICATED"
    assert key.leaked_at == key.expires_at is not None
    assert (notice.kind, notice.subject_id) == (NoticeKind.API_KEY_LEAKED, key.id)
    assert f"found at {PLACE}." in notice.message
    assert cafe.api_key not in notice.message


@pytest.mark.on("sqlite")
async def test_the_status_says_so_until_the_key_is_regenerated(
    http: httpx2.AsyncClient,
    server: RunningServer,
    scanner: Scanner,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    client_of: Callable[..., Client],
) -> None:
    await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))
    secrets, key = server.app.state.deployment.secrets, await key_of(database, cafe)
    told = RegenerateApiKeyInput(id=key.id)
    before = key.leaked_at

    made = await database.write(
        cafe.business.id,
        lambda tx: regenerate_api_key(tx, cafe.owner, told, clock.now(), secrets=secrets),
    )

    keys = "{ staff(first: 1) { nodes { apiKey { status expiresAt } } } }"
    [staff] = (await client_of(str(made.secret)).do(keys))["staff"]["nodes"]
    assert before is not None
    assert staff == {"apiKey": {"status": "ACTIVE", "expiresAt": None}}


async def test_a_former_secret_that_was_found_dies_alone(
    http: httpx2.AsyncClient,
    server: RunningServer,
    scanner: Scanner,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    client_of: Callable[..., Client],
) -> None:
    secrets, key = server.app.state.deployment.secrets, await key_of(database, cafe)
    told = RegenerateApiKeyInput(id=key.id, overlap_hours=24)
    made = await database.write(
        cafe.business.id,
        lambda tx: regenerate_api_key(tx, cafe.owner, told, clock.now(), secrets=secrets),
    )

    await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))

    *_, notice = await notices_of(database, cafe)
    viewer = "{ viewer { business { id } } }"
    assert (await client_of(cafe.api_key).call(viewer)).code == "UNAUTHENTICATED"
    assert (await client_of(str(made.secret)).call(viewer)).codes == []
    assert "the former secret of the API key" in notice.message


@pytest.mark.on("sqlite")
async def test_told_again_and_again_it_is_told_once(
    http: httpx2.AsyncClient, scanner: Scanner, database: Database, cafe: Cafe
) -> None:
    report = [found(cafe.api_key)] * 5

    first = await http.post("/leaked-keys", **scanner.signed(report))
    await http.post("/leaked-keys", **scanner.signed(report))

    assert {one["label"] for one in first.json()} == {"true_positive"}
    assert len(await notices_of(database, cafe)) == 1


@pytest.mark.on("sqlite")
async def test_what_is_no_key_of_ours_is_a_false_positive(
    http: httpx2.AsyncClient, scanner: Scanner, database: Database, cafe: Cafe
) -> None:
    others = [new_api_key(test=False), cafe.api_key[:-1] + "!", "7loc_sc_", "ü" * 500, 7, None]

    answer = await http.post("/leaked-keys", **scanner.signed([found(one) for one in others]))  # type: ignore[arg-type]

    assert [one["label"] for one in answer.json()] == ["false_positive"] * len(others)
    assert (await key_of(database, cafe)).leaked_at is None


@pytest.mark.on("sqlite")
async def test_an_address_that_is_none_is_not_quoted(
    http: httpx2.AsyncClient, scanner: Scanner, database: Database, cafe: Cafe
) -> None:
    report = [found(cafe.api_key, "javascript:alert(1)\r\nBcc: all@mail.example")]

    await http.post("/leaked-keys", **scanner.signed(report))

    [notice] = await notices_of(database, cafe)
    assert "found at a place that was not told." in notice.message


@pytest.mark.on("sqlite")
async def test_whoever_is_not_the_scanner_changes_nothing(
    http: httpx2.AsyncClient, scanner: Scanner, database: Database, cafe: Cafe
) -> None:
    good = scanner.signed([found(cafe.api_key)])
    body, told = good["content"], good["headers"]
    which, how = "github-public-key-identifier", "github-public-key-signature"
    forgeries: dict[str, tuple[bytes, Any]] = {
        "another body": (body + b" ", told),
        "another's signature": (body, Scanner().signed([found(cafe.api_key)])["headers"]),
        "an unknown key": (body, {**told, which: "another"}),
        "no signature": (body, {which: told[which]}),
        "no key": (body, {how: told[how]}),
        "two signatures": (body, [*told.items(), (how, told[how])]),
        "a long signature": (body, {**told, how: "A" * 5_000}),
        "no base64": (body, {**told, how: "!" + told[how]}),
    }

    answers = {
        name: await http.post("/leaked-keys", content=sent, headers=headers)
        for name, (sent, headers) in forgeries.items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        forgeries, 401
    )
    assert {answer.json()["error"]["code"] for answer in answers.values()} == {"UNAUTHENTICATED"}
    assert (await key_of(database, cafe)).leaked_at is None
    assert await notices_of(database, cafe) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@pytest.mark.on("sqlite")
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(report=_JSON)
async def test_garbage_that_is_signed_is_never_our_fault(
    report: Any, http: httpx2.AsyncClient, scanner: Scanner
) -> None:
    answer = await http.post("/leaked-keys", **scanner.signed(report))

    assert answer.status_code in (200, 400)


@pytest.mark.on("sqlite")
async def test_a_body_without_end_is_cut(http: httpx2.AsyncClient, scanner: Scanner) -> None:
    asked = scanner.signed([])

    answer = await http.post("/leaked-keys", content=b"[" * 1_000_001, headers=asked["headers"])

    assert answer.status_code == 413


@pytest.mark.on("sqlite")
async def test_a_scanner_that_is_away_is_asked_to_come_again(
    http: httpx2.AsyncClient, scanner: Scanner, database: Database, cafe: Cafe
) -> None:
    scanner.is_away = True
    away = await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))
    scanner.is_away = False
    back = await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))

    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert back.status_code == 200
    assert (await key_of(database, cafe)).leaked_at is not None


@pytest.mark.on("sqlite")
async def test_its_keys_are_asked_for_once_and_again_when_they_change(
    http: httpx2.AsyncClient, scanner: Scanner, clock: ManualClock
) -> None:
    async def status() -> int:
        return (await http.post("/leaked-keys", **scanner.signed([]))).status_code

    first = [await status(), await status(), scanner.asked]
    scanner.add_key("second")
    too_early = [await status(), scanner.asked]
    clock.advance(ASKED_AGAIN_AFTER)
    rotated = [await status(), scanner.asked]
    clock.advance(KEPT)
    later = [await status(), scanner.asked]

    assert (first, too_early, rotated, later) == ([200, 200, 1], [401, 1], [200, 2], [200, 3])


@pytest.mark.on("sqlite")
async def test_nobody_is_asked_where_no_scanner_is_set(
    settings: Settings, scanner: Scanner, clock: ManualClock
) -> None:
    unset = settings.model_copy(update={"scanner_keys_url": ""})
    async with serving(unset, clock) as server, httpx2.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/leaked-keys", **scanner.signed([]))

    assert (answer.status_code, scanner.asked) == (404, 0)


@pytest.mark.on("sqlite")
@pytest.mark.calm
async def test_the_owner_has_mail_within_five_seconds(
    settings: Settings, scanner: Scanner, clock: ManualClock, figure: Callable[[str], None]
) -> None:
    async with a_mailbox() as box:
        mailing = {"smtp_url": box.url, "mail_from": "stamps@kopi.example"}
        taken = []
        async with serving(settings.model_copy(update=mailing), clock) as server:
            deployment = server.app.state.deployment
            async with httpx2.AsyncClient(base_url=server.url) as http:
                for _ in range(2):
                    cafe = await a_business(deployment.database, deployment.secrets, clock.now())
                    began = time.monotonic()
                    await http.post("/leaked-keys", **scanner.signed([found(cafe.api_key)]))
                    async with asyncio.timeout(PATIENCE):
                        await box.came.wait()
                    box.came.clear()
                    taken.append(time.monotonic() - began)
                    if taken[-1] <= 5:
                        break

    figure(f"{taken[-1]:.1f} s from the report to the owner's mail")
    assert box.receivers[-1] == cafe.login
    assert "an API key was found in public" in str(box.got[-1]["subject"])
    assert taken[-1] <= 5


def test_the_sample_of_githubs_own_documents_is_verified() -> None:
    """Its page on the partner programme has a request that one can try this with."""
    sample = b'[{"source":"commit","token":"some_token","type":"some_type",'
    sample += b'"url":"https://example.com/base-repo-url/"}]'
    published = {
        "key_identifier": "bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c",
        "key": "-----BEGIN PUBLIC KEY-----\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd\n"
        "AjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==\n"
        "-----END PUBLIC KEY-----\n",
        "is_current": True,
    }
    signature = (
        "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410"
        "VQV4xg=="
    )
    clock = ManualClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    keys = ScannerKeys(Outgoing(), "https://api.example/keys", clock)
    key = _key_in(published)
    assert key is not None
    keys._keys, keys._asked_at = {published["key_identifier"]: key}, clock.now()  # type: ignore[dict-item]

    async def signed(body: bytes) -> bool:
        return await keys.has_signed(body, str(published["key_identifier"]), signature)

    assert asyncio.run(signed(sample))
    assert not asyncio.run(signed(sample.replace(b"some_token", b"some_tokem")))
