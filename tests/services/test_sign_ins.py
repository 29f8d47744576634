"""Signing in: guessing is slowed by login and by address, and nobody is locked out by strangers."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import Code, Overloaded, RateLimited, Refused
from core.secrets import Secrets
from db import BUSINESS, Database, query
from models import Actor, KnownPlace, Notice, NoticeKind, Session, Throttle
from services import passwords
from services.housekeeping import keep_house
from services.owner_notices import MOST_PER_HOUR
from services.passwords import Hands
from services.places import Place
from services.sessions import MOST_LIVE, live_sessions
from services.sign_ins import SignInInput, forgive, prove_password, sign_in
from services.staff import DisableStaffInput, disable_staff
from services.throttles import Tries, begin, wait_after

LOGIN = "owner@kopi.example"
HOME = Place("203.0.113.9", "Mozilla/5.0 (X11) Gecko/20100101 Firefox/140.0")
CAFE = Place("198.51.100.77", "Mozilla/5.0 (X11) Gecko/20100101 Firefox/140.0")
STRANGER = Place("192.0.2.66", "curl/8.5")
_PLACES = query(select(KnownPlace).where(col(KnownPlace.business_id) == BUSINESS))
_NOTICES = query(select(Notice).where(col(Notice.business_id) == BUSINESS).order_by(col(Notice.id)))
_THROTTLES = query(select(Throttle))


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch, password: str) -> list[str]:
    """The digests that a password was held against; it costs nothing here."""
    found: list[str] = []

    def match(digest: str, told: str) -> bool:
        found.append(digest)
        return told == password

    monkeypatch.setattr(passwords, "password_matches", match)
    return found


@pytest.fixture
def attempt(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock, password: str
) -> Any:
    """Sign in, and tell in a word what came of it; seconds for one who must wait."""
    assert owner

    async def do(
        told: str = "wrong horse", place: Place = STRANGER, login: str = LOGIN
    ) -> str | float:
        asked = SignInInput(login=login, password=password if told == "right" else told)
        try:
            await sign_in(database, secrets, asked, clock.now(), place)
        except Refused as refusal:
            return "refused" if refusal.code is Code.LOGIN_REFUSED else refusal.code
        except RateLimited as limited:
            return limited.retry_after_ms / 1_000
        return "in"

    return do


def stored(database: Database, owner: Actor, statement: Any) -> Any:
    return database.read(owner.business_id, lambda tx: tx.many(statement))


@pytest.mark.parametrize("login", [LOGIN, "nobody@kopi.example", "bar@kopi.example"])
async def test_after_ten_failures_one_waits_whoever_it_is(
    attempt: Any, login: str, hire: Any, perform: Any, owner: Actor, checked: list[str]
) -> None:
    """An unknown login, a wrong password, a disabled login: one check each, the same answers."""
    bar = await hire()
    await perform(disable_staff, owner, DisableStaffInput(id=bar.staff_id))

    said = [await attempt(login=login) for _ in range(12)]

    assert said == ["refused"] * 10 + [60, 60]
    assert len(checked) == 10


async def test_the_wait_grows_to_a_quarter_of_an_hour_and_no_further(
    attempt: Any, clock: ManualClock
) -> None:
    said = [await attempt() for _ in range(10)]
    waits = []
    for _ in range(7):
        wait = await attempt()
        waits.append(wait)
        clock.advance(timedelta(seconds=wait))
        said.append(await attempt())

    assert set(said) == {"refused"}
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    assert wait_after(10_000, 10) == timedelta(minutes=15)


async def test_who_asks_too_early_waits_no_longer_for_it(attempt: Any, clock: ManualClock) -> None:
    for _ in range(10):
        await attempt()

    early = []
    for _ in range(50):
        clock.advance(timedelta(seconds=1))
        early.append(await attempt())
    clock.advance(timedelta(seconds=10))

    assert early == [float(left) for left in range(59, 9, -1)]
    assert await attempt("right") == "in"


async def test_a_stranger_cannot_keep_an_owner_out_who_was_there_before(
    attempt: Any, clock: ManualClock
) -> None:
    """A day of guessing at every moment: from a known place the owner is let in each time."""
    assert await attempt("right", HOME) == "in"
    let_in, guesses = [], 0
    for minute in range(24 * 60):
        said = await attempt(place=Place(f"192.0.2.{minute % 250}", "curl/8.5"))
        guesses += said == "refused"
        if minute % 60 == 59:
            let_in.append(await attempt("right", HOME))
        clock.advance(timedelta(minutes=1))

    assert let_in == ["in"] * 24
    assert guesses < 130


async def test_an_owner_at_a_new_place_waits_a_quarter_of_an_hour_at_most(
    attempt: Any, clock: ManualClock
) -> None:
    for _ in range(200):
        wait = await attempt()
        clock.advance(timedelta(seconds=wait if isinstance(wait, float) else 0))
    await attempt()

    wait = await attempt("right", CAFE)
    assert isinstance(wait, float)
    clock.advance(timedelta(seconds=wait))

    assert wait <= 900
    assert await attempt("right", CAFE) == "in"


async def test_guesses_at_a_known_place_are_counted_too(attempt: Any) -> None:
    await attempt("right", HOME)

    said = [await attempt(place=HOME) for _ in range(11)]

    assert said == ["refused"] * 10 + [60]
    assert await attempt("right", CAFE) == "in"


async def test_an_address_waits_after_thirty_failures_with_whatever_logins(attempt: Any) -> None:
    said = [await attempt(login=f"somebody{number}@kopi.example") for number in range(31)]

    assert said == ["refused"] * 30 + [60]
    assert await attempt("right", CAFE) == "in"


async def test_signing_in_forgets_the_failures_of_the_login(attempt: Any) -> None:
    for _ in range(3):
        assert [await attempt(place=CAFE) for _ in range(9)] == ["refused"] * 9
        assert await attempt("right", CAFE) == "in"


async def test_a_quiet_quarter_of_an_hour_forgets_them_too(
    attempt: Any, clock: ManualClock
) -> None:
    for _ in range(3):
        assert [await attempt() for _ in range(9)] == ["refused"] * 9
        clock.advance(timedelta(minutes=15))


async def test_many_guesses_at_once_are_counted_one_by_one(
    attempt: Any, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "HANDS", Hands(1, strangers=100))

    said = await asyncio.gather(*(attempt() for _ in range(25)))

    assert sorted(map(str, said)) == ["60.0"] * 15 + ["refused"] * 10
    assert len(checked) == 10


async def test_an_operator_forgives_what_strangers_did(
    attempt: Any, database: Database, secrets: Secrets
) -> None:
    for _ in range(10):
        await attempt()
    assert await attempt("right", CAFE) == 60

    await forgive(database, secrets, LOGIN)

    assert await attempt("right", CAFE) == "in"


async def test_ones_own_password_is_not_guessed_with_a_stolen_key(
    owner: Actor, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    async def guess() -> str | None:
        return await prove_password(database, secrets, owner.staff, "wrong horse", clock.now())

    assert [await guess() for _ in range(10)] == [None] * 10
    with pytest.raises(RateLimited):
        await guess()


async def test_too_many_passwords_at_once_are_refused_quickly(
    monkeypatch: pytest.MonkeyPatch, attempt: Any, checked: list[str], database: Database
) -> None:
    """One works, two wait; all others hear so at once, and it is not counted against them."""
    monkeypatch.setattr(passwords, "HANDS", Hands(1, strangers=2))
    go_on, begun, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    check = passwords.password_matches

    def slow(digest: str, told: str) -> bool:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return check(digest, told)

    monkeypatch.setattr(passwords, "password_matches", slow)
    waiting = [asyncio.create_task(attempt())]
    await begun.wait()
    waiting += [asyncio.create_task(passwords.matches("x", "y", stranger=True)) for _ in range(2)]
    await asyncio.sleep(0)

    hurried = [await attempt() for _ in range(5)]
    checked_then = len(checked)
    go_on.set()

    assert (hurried, checked_then) == ([1.0] * 5, 0)
    assert await asyncio.gather(*waiting) == ["refused", False, False]
    counts = await database.read(None, lambda tx: tx.many(_THROTTLES))
    assert {count.failures for count in counts} == {1}


async def test_staff_find_room_where_strangers_do_not() -> None:
    hands = Hands(1, strangers=0, staff=1)
    hands._asked = 1

    with pytest.raises(Overloaded):
        hands.check_room(stranger=True)

    assert await hands.do(lambda: "done") == "done"


async def test_nothing_that_is_stored_tells_who_or_where(
    attempt: Any, owner: Actor, database: Database
) -> None:
    await attempt()
    await attempt("right", HOME)

    kept = [
        *await database.read(None, lambda tx: tx.many(_THROTTLES)),
        *await stored(database, owner, _PLACES),
    ]

    text = " ".join(str(vars(row)) for row in kept)
    assert [word for word in (LOGIN, "203.0", "192.0", "Firefox", "curl") if word in text] == []


async def test_a_new_place_is_told_once_and_hints_at_where(
    attempt: Any, owner: Actor, database: Database, clock: ManualClock
) -> None:
    told = []
    for place in (HOME, HOME, Place("203.0.113.200", HOME.agent), CAFE):
        await attempt("right", place)
        told.append(len(await stored(database, owner, _NOTICES)))

    [first, second] = await stored(database, owner, _NOTICES)
    assert told == [1, 1, 1, 2]
    assert (first.kind, first.subject_id) == (NoticeKind.NEW_SIGN_IN, owner.staff_id)
    assert first.message.startswith(
        "Ana (OWNER) signed in from a new place: 203.0.x.x with Firefox."
    )
    assert (first.created_at, "203.0.113" in first.message) == (clock.now(), False)
    assert "198.51.x.x" in second.message


async def test_a_place_is_new_again_after_ninety_days(
    attempt: Any, owner: Actor, database: Database, clock: ManualClock
) -> None:
    await attempt("right", HOME)
    clock.advance(timedelta(days=91))
    await keep_house(database, clock.now())

    left = [*await stored(database, owner, _PLACES)]
    await attempt("right", HOME)

    assert left == []
    assert len(await stored(database, owner, _NOTICES)) == 2


async def test_who_comes_from_everywhere_does_not_fill_mailboxes(
    attempt: Any, owner: Actor, database: Database, clock: ManualClock
) -> None:
    for number in range(MOST_PER_HOUR + 5):
        await attempt("right", Place(f"10.0.{number}.1", "curl/8"))

    notices = await stored(database, owner, _NOTICES)
    assert len(notices) == MOST_PER_HOUR
    assert notices[-1].message.endswith("no more are told for a while.")
    clock.advance(timedelta(hours=1))
    await attempt("right", HOME)
    assert len(await stored(database, owner, _NOTICES)) == MOST_PER_HOUR + 1


async def test_one_session_too_many_ends_the_one_used_longest_ago(
    attempt: Any, owner: Actor, database: Database, clock: ManualClock
) -> None:
    async def live() -> list[Session]:
        assert owner.staff_id
        now, id = clock.now(), owner.staff_id
        return await database.read(owner.business_id, lambda tx: live_sessions(tx, id, now))

    for _ in range(MOST_LIVE):
        clock.advance(timedelta(minutes=1))
        await attempt("right", HOME)
    before = await live()
    await attempt("right", HOME)
    after = await live()

    assert (len(before), len(after)) == (MOST_LIVE, MOST_LIVE)
    assert {row.id for row in before} - {row.id for row in after} == {before[-1].id}
    assert (after[0].address, after[0].program) == ("203.0.x.x", "Firefox")


async def test_what_nobody_tries_any_more_is_thrown_away(
    attempt: Any, database: Database, clock: ManualClock
) -> None:
    await attempt()
    clock.advance(timedelta(days=1, minutes=1))

    await keep_house(database, clock.now())

    assert await database.read(None, lambda tx: tx.many(_THROTTLES)) == []


@pytest.mark.parametrize(
    ("place", "source", "hint", "family"),
    [
        (HOME, "203.0.113.9", "203.0.x.x", "Firefox"),
        (Place("2001:db8:1:2:3::4", "Safari/605"), "2001:db8:1:2::/64", "2001:db8::/32", "Safari"),
        (Place("::ffff:203.0.113.9", "kopi-till/1"), "203.0.113.9", "203.0.x.x", "kopi-till"),
        (Place("fe80::1%eth0", "<script>"), "fe80::/64", "fe80::/32", None),
        (Place("nowhere", ""), "None", None, None),
    ],
)
def test_a_place_is_known_by_little(
    place: Place, source: str, hint: str | None, family: str | None
) -> None:
    assert (place.source, place.hint, place.family) == (source, hint, family)


async def test_counts_hold_across_processes(
    settings: Any, database: Database, secrets: Secrets, clock: ManualClock
) -> None:
    """Two of them share the database, and so the counts."""
    from db import database_of  # noqa: PLC0415

    now: datetime = clock.now()
    tries = [Tries("test", "somebody", 2)]
    await begin(database, secrets, tries, now)
    other = database_of(settings, visiting=True)
    await other.open()
    await begin(other, secrets, tries, now)

    with pytest.raises(RateLimited):
        await begin(database, secrets, tries, now)
    await other.close()
