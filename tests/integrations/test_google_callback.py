"""What Google calls back with: read when it is signed for us, refused in every other way."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.clock import ManualClock
from core.errors import Unavailable
from fakes.google_wallet import ISSUER, Google, lengthened
from fakes.providers import serving
from integrations.http import Outgoing
from integrations.wallets.google_callback import (
    ASKED_AGAIN_AFTER,
    KEPT,
    Called,
    Forged,
    GoogleCallbacks,
    signed_bytes,
)

TOLD = {"id": f"{ISSUER}.wp_1", "classId": f"{ISSUER}.tpl_1"}
HOUR = timedelta(hours=1)


@dataclass
class Bench:
    """Who reads callbacks, and Google."""

    callbacks: GoogleCallbacks
    google: Google
    clock: ManualClock

    async def read(self, kind: str = "save", **changes: Any) -> Called:
        """What a callback of this kind says."""
        return await self.callbacks.read(orjson.dumps(self.google.called(TOLD, kind, **changes)))

    async def is_read(self, **changes: Any) -> bool:
        """Whether a callback is taken for Google's."""
        try:
            await self.read(**changes)
        except Forged:
            return False
        return True


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = ManualClock(datetime(2026, 3, 2, 12, 0, tzinfo=UTC))
    google = Google(now=clock.now)
    async with serving(google):
        outgoing = Outgoing(allow_insecure=True, deadline=10)
        yield Bench(GoogleCallbacks(outgoing, f"{google.url}/keys", ISSUER, clock), google, clock)
        await outgoing.close()


async def test_google_says_which_card_was_saved_or_taken_out(bench: Bench) -> None:
    saved, gone = await bench.read(nonce="n1"), await bench.read("del", nonce="n2")

    ends = bench.clock.now() + HOUR
    assert saved == Called(serial="wp_1", is_saved=True, nonce="n1", expires_at=ends)
    assert (gone.is_saved, gone.nonce) == (False, "n2")
    assert bench.google.keys_asked == 1


async def test_lengths_are_of_bytes_not_of_letters(bench: Bench) -> None:
    assert signed_bytes("é", "ab") == b"\x02\x00\x00\x00\xc3\xa9\x02\x00\x00\x00ab"
    assert signed_bytes("é" * 200, "") == lengthened("é" * 200, "")
    assert (await bench.read(nonce="é👨‍👩‍👧")).nonce == "é👨‍👩‍👧"


async def test_whatever_is_not_googles_or_not_for_us_is_refused(bench: Bench) -> None:
    another = f"{int(ISSUER) + 1}"
    now = int(bench.clock.now().timestamp() * 1_000)
    refused: dict[str, dict[str, Any]] = {
        "signed for another issuer": {"issuer": another},
        "another issuer's object": {"objectId": f"{another}.wp_1"},
        "an issuer with a longer number": {"objectId": f"{ISSUER}1.wp_1"},
        "a foreign root": {"root": ec.generate_private_key(ec.SECP256R1())},
        "another sender": {"sender": "GooglePay"},
        "an expired message": {"expTimeMillis": now},
        "an expired key": {"key_lasts": timedelta(0)},
        "an unknown kind": {"eventType": "open"},
        "no moment": {"expTimeMillis": "soon"},
        "a moment out of all time": {"expTimeMillis": 10**30},
    }

    assert {name: await bench.is_read(**changes) for name, changes in refused.items()} == (
        dict.fromkeys(refused, False)
    )
    assert await bench.is_read()


def _changed(told: dict[str, Any]) -> None:
    told["signedMessage"] = told["signedMessage"].replace("wp_1", "wp_2")


def _of_another(told: dict[str, Any]) -> None:
    told["intermediateSigningKey"] = Google().called(TOLD, "save")["intermediateSigningKey"]


def _other_signature(told: dict[str, Any]) -> None:
    told["signature"] = told["intermediateSigningKey"]["signatures"][0]


@pytest.mark.parametrize(
    "change",
    [
        _changed,
        _of_another,
        _other_signature,
        lambda told: told.update(protocolVersion="ECv1"),
        lambda told: told.update(signature="?"),
        lambda told: told.update(signature="AAAA"),
        lambda told: told.pop("signedMessage"),
        lambda told: told["intermediateSigningKey"].update(signatures=[]),
        lambda told: told["intermediateSigningKey"].update(signedKey="{}"),
    ],
)
async def test_an_envelope_that_was_changed_is_refused(
    bench: Bench, change: Callable[[dict[str, Any]], Any]
) -> None:
    told = bench.google.called(TOLD, "save")
    change(told)

    with pytest.raises(Forged):
        await bench.callbacks.read(orjson.dumps(told))


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["signature", "intermediateSigningKey", "signedKey", "signatures", "signedMessage"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@hypothesis_settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(said=_JSON)
async def test_garbage_is_never_our_fault(said: Any, bench: Bench) -> None:
    with pytest.raises(Forged):
        await bench.callbacks.read(json.dumps(said).encode())


# -- The root keys. -------------------------------------------------------------------------------


async def test_the_root_keys_are_asked_for_once_and_again_when_they_change(bench: Bench) -> None:
    first = [await bench.is_read(), await bench.is_read(), bench.google.keys_asked]
    bench.google.root = ec.generate_private_key(ec.SECP256R1())
    too_early = [await bench.is_read(), bench.google.keys_asked]
    bench.clock.advance(ASKED_AGAIN_AFTER)
    rotated = [await bench.is_read(), bench.google.keys_asked]
    bench.clock.advance(KEPT)
    later = [await bench.is_read(), bench.google.keys_asked]

    assert (first, too_early, rotated, later) == (
        [True, True, 1], [False, 1], [True, 2], [True, 3],
    )  # fmt: skip


async def test_without_googles_keys_nothing_is_taken_and_nothing_is_refused(bench: Bench) -> None:
    bench.google.has_keys = False
    with pytest.raises(Unavailable):
        await bench.read()
    bench.google.has_keys = True

    assert await bench.is_read()


async def test_whoever_forges_learns_nothing_of_the_keys(bench: Bench) -> None:
    """A message that is not signed at all does not even make us ask for them."""
    told = bench.google.called(TOLD, "save")
    _changed(told)

    with pytest.raises(Forged):
        await bench.callbacks.read(orjson.dumps(told))
    assert bench.google.keys_asked == 0
