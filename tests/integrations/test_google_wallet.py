"""Google Wallet: what a pass shows there, when it rings, and what may go wrong."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.clock import ManualClock
from core.settings import Settings
from fakes.google_wallet import ISSUER, Google
from fakes.providers import serving
from integrations.http import Outgoing
from integrations.wallets.google import Account, GoogleWallet, account_of
from integrations.wallets.google_callback import GoogleCallbacks
from integrations.wallets.google_documents import class_document
from integrations.wallets.seam import AskAgain, News, PassFace, Refused, Told

SERIAL = "wp_01jwsample0000000000000000"
FACE = PassFace(
    serial=SERIAL,
    business_id="b_1",
    template_id="tpl_1",
    business="Kopi & Co",
    title="Coffee card",
    language="en",
    number="123456",
    token="a-token-to-scan",
    url="https://cards.example/c/a-token-to-scan",
    stamps=3,
    required=10,
    next_goal="Free coffee",
    left=2,
    vouchers=["A cookie", "Cake"],
    background="#6f4e37",
    foreground="#ffffff",
    logo_url="https://cards.example/images/logo.png",
)
NEWS = News(id="msg_1", title="Kopi", text="2-for-1 today", rings=True)
QUIET = replace(NEWS, rings=False)


@dataclass
class Bench:
    """Our half of Google Wallet, and Google."""

    wallet: GoogleWallet
    google: Google
    clock: ManualClock
    outgoing: Outgoing

    async def show(self, news: News | None = None, **changes: Any) -> Any:
        """Show a pass that differs from the sample in this."""
        return await self.wallet.show(replace(FACE, **changes), [], news)

    async def bring(self, count: int, **changes: Any) -> list[bool]:
        """Bring so many news; which of them rang."""
        told = [
            await self.show(replace(NEWS, id=f"msg_{number}", **changes)) for number in range(count)
        ]
        return [one.rang for one in told]


@pytest.fixture
def now() -> ManualClock:
    return ManualClock(datetime(2026, 3, 2, 12, 0, tzinfo=UTC))


@cache
def account() -> Account:
    """The service account. Whether its key is good is looked at once: that takes its time."""
    return account_of(Google(url="http://google.example").account)


def a_wallet(google: Google, outgoing: Outgoing, clock: ManualClock) -> GoogleWallet:
    """Our half of Google Wallet, in a process of its own, not paced."""
    told = replace(account(), token_url=f"{google.url}/token")
    callbacks = GoogleCallbacks(outgoing, f"{google.url}/keys", ISSUER, clock)
    made = GoogleWallet(
        outgoing,
        clock,
        told,
        callbacks,
        issuer=ISSUER,
        url=google.settings["google_wallet_url"],
        our_url="https://cards.example",
    )
    made._requests.per_second = 10_000
    return made


@pytest.fixture
async def bench(now: ManualClock) -> AsyncIterator[Bench]:
    google = Google(now=now.now)
    async with serving(google):
        outgoing = Outgoing(allow_insecure=True, deadline=10)
        yield Bench(a_wallet(google, outgoing, now), google, now, outgoing)
        await outgoing.close()


async def test_a_card_is_shown_with_its_stamps_goal_vouchers_and_code(bench: Bench) -> None:
    told = await bench.show()

    shown, of = bench.google.object(SERIAL), bench.google.classes[f"{ISSUER}.tpl_1"]
    assert told == Told()
    assert of["issuerName"] == "Kopi & Co"
    assert of["programName"] == "Coffee card"
    assert of["programLogo"]["sourceUri"]["uri"] == "https://cards.example/images/logo.png"
    assert of["callbackOptions"] == {"url": "https://cards.example/passes/google"}
    assert shown == {
        "id": f"{ISSUER}.{SERIAL}",
        "classId": f"{ISSUER}.tpl_1",
        "state": "ACTIVE",
        "accountId": "123456",
        "loyaltyPoints": {"label": "Stamps", "balance": {"string": "3 / 10"}},
        "secondaryLoyaltyPoints": {"label": "Next", "balance": {"string": "Free coffee"}},
        "barcode": {"type": "QR_CODE", "value": "a-token-to-scan", "alternateText": "123456"},
        "textModulesData": [
            {"id": "next", "header": "2 more to go", "body": "Free coffee"},
            {"id": "vouchers", "header": "Your vouchers", "body": "A cookie\nCake"},
        ],
        "linksModuleData": {
            "uris": [{"id": "card", "uri": FACE.url, "description": "Open your card"}]
        },
    }


@pytest.mark.parametrize(
    ("changes", "label", "header", "body"),
    [
        ({"left": 1}, "Stamps", "One more to go", "Free coffee"),
        (
            {"next_goal": None, "left": 0},
            "Stamps",
            "Your card is full",
            "The next stamp begins a new card.",
        ),
        ({"language": "id-ID"}, "Stempel", "2 lagi", "Free coffee"),
    ],
)
async def test_it_speaks_of_the_next_goal_in_the_holders_language(
    bench: Bench, changes: dict[str, Any], label: str, header: str, body: str
) -> None:
    await bench.show(**changes)

    shown = bench.google.object(SERIAL)
    assert shown["loyaltyPoints"]["label"] == label
    assert shown["textModulesData"][0] == {"id": "next", "header": header, "body": body}


async def test_a_stamp_changes_the_object_and_rings_nowhere(bench: Bench) -> None:
    await bench.show()
    bench.google.calls.clear()
    await bench.show(stamps=4, vouchers=[])

    shown = bench.google.object(SERIAL)
    assert bench.google.calls == [("PATCH", "loyaltyObject")]
    assert shown["loyaltyPoints"]["balance"] == {"string": "4 / 10"}
    assert [one["id"] for one in shown["textModulesData"]] == ["next"]
    assert (bench.google.rings(SERIAL), bench.google.given) == (0, 1)


async def test_a_void_pass_is_put_away_and_cannot_be_scanned(bench: Bench) -> None:
    unknown = await bench.show(is_void=True, token="", url="")
    before = dict(bench.google.objects)
    await bench.show(NEWS)
    await bench.show(is_void=True, token="", url="")

    shown = bench.google.object(SERIAL)
    assert (unknown, before) == (Told(), {})
    assert shown["state"] == "INACTIVE"
    assert shown["barcode"]["type"] == "TEXT_ONLY"
    assert shown["messages"] == []
    assert FACE.token not in str(shown)


# -- News. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_plain", [True, False])
async def test_news_ring_three_times_a_day_and_are_shown_silently_after_that(
    bench: Bench, is_plain: bool
) -> None:
    bench.google.is_plain = is_plain
    first = await bench.bring(5)
    bench.clock.advance(timedelta(days=1))
    later = await bench.show(replace(NEWS, id="msg_later"))

    kinds = [kind for _, kind in bench.google.messages(SERIAL)]
    assert (first, later.rang) == ([True, True, True, False, False], True)
    assert kinds == ["TEXT_AND_NOTIFY"] * 3 + ["TEXT"] * 2 + ["TEXT_AND_NOTIFY"]
    assert bench.google.rings(SERIAL) == 4


async def test_news_that_are_not_to_ring_do_not(bench: Bench) -> None:
    told = await bench.show(QUIET)

    assert (told, bench.google.messages(SERIAL)) == (Told(), [("msg_1", "TEXT")])


async def test_news_that_are_told_again_are_there_once(bench: Bench) -> None:
    told = [await bench.show(NEWS), await bench.show(NEWS), await bench.show(QUIET)]

    assert [one.rang for one in told] == [True, True, True]
    assert bench.google.messages(SERIAL) == [("msg_1", "TEXT_AND_NOTIFY")]
    assert bench.google.rings(SERIAL) == 1


async def test_old_news_make_room_for_new_ones(bench: Bench) -> None:
    await bench.bring(12, rings=False)

    kept = [id for id, _ in bench.google.messages(SERIAL)]
    assert kept == [f"msg_{number}" for number in range(2, 12)]


# -- Classes. -------------------------------------------------------------------------------------


async def test_a_class_is_told_once_and_again_when_the_template_changes(bench: Bench) -> None:
    await bench.show()
    await bench.show(serial="wp_2")
    once = [kind for _, kind in bench.google.calls].count("loyaltyClass")
    await bench.show(title="The new card")

    named = bench.google.classes[f"{ISSUER}.tpl_1"]["programName"]
    assert (once, named) == (1, "The new card")


async def test_another_process_finds_the_class_and_the_object_there(bench: Bench) -> None:
    await bench.show()
    other = a_wallet(bench.google, bench.outgoing, bench.clock)
    bench.google.calls.clear()

    told = await other.show(replace(FACE, stamps=5), [])

    assert told == Told()
    assert bench.google.calls == [
        ("POST", "loyaltyClass"),
        ("PATCH", "loyaltyClass"),
        ("PATCH", "loyaltyObject"),
    ]


async def test_a_logo_that_google_cannot_fetch_keeps_nobodys_card_away(bench: Bench) -> None:
    assert FACE.logo_url is not None
    bench.google.unfetchable.add(FACE.logo_url)

    told = await bench.show()

    logo = bench.google.classes[f"{ISSUER}.tpl_1"]["programLogo"]["sourceUri"]["uri"]
    assert (told, logo) == (Told(), "https://cards.example/passes/logo.png")


async def test_a_class_that_is_gone_is_made_again(bench: Bench) -> None:
    await bench.show()
    bench.google.classes.clear()
    bench.google.objects.clear()

    first, second = await bench.show(), await bench.show()

    assert first == AskAgain(seconds=5.0, reason="the class is not there")
    assert second == Told()


def test_google_is_asked_to_call_back_by_https_alone() -> None:
    without = class_document(FACE, "1.tpl", "https://cards.example/logo.png", None)

    assert "callbackOptions" not in without


# -- The link. ------------------------------------------------------------------------------------


async def test_the_link_is_short_signed_and_names_what_is_there(bench: Bench) -> None:
    link = await bench.wallet.save_link(FACE)

    assert isinstance(link, str)
    assert bench.google.save(link) == {"id": f"{ISSUER}.{SERIAL}", "classId": f"{ISSUER}.tpl_1"}
    assert len(link) < 1_000


async def test_there_is_no_link_while_google_is_away(bench: Bench) -> None:
    bench.google.mood = "busy"

    link = await bench.wallet.save_link(FACE)

    assert link == AskAgain(seconds=30.0, reason="access token refused with 503")


async def test_google_is_asked_no_more_often_than_it_wishes(bench: Bench) -> None:
    bench.wallet._requests.per_second = 20
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*[bench.show(serial=f"wp_{number}") for number in range(11)])

    # A token, a class, and two for each object: the first twenty go at once.
    assert len(bench.google.calls) + bench.google.given == 24
    assert loop.time() - began > 0.15


# -- What may go wrong. ---------------------------------------------------------------------------


async def test_an_access_token_is_used_until_it_ends_and_renewed_when_it_is_refused(
    bench: Bench,
) -> None:
    await bench.show()
    await bench.show()
    given = [bench.google.given]
    bench.clock.advance(timedelta(minutes=59))
    await bench.show()
    given.append(bench.google.given)
    bench.google.tokens.clear()
    told = await bench.show()

    assert ([*given, bench.google.given], told) == ([1, 2, 3], Told())


@pytest.mark.parametrize(("mood", "seconds"), [("too much", 7.0), ("busy", 30.0), ("broken", 30.0)])
async def test_google_is_asked_again_later(bench: Bench, mood: str, seconds: float) -> None:
    await bench.show()
    bench.google.mood = mood

    told = [await bench.show(), await bench.show(NEWS)]

    assert [(type(one), one.seconds) for one in told] == [(AskAgain, seconds)] * 2


async def test_a_google_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    bench.outgoing._deadline = 0.2
    bench.google.mood = "silent"

    assert await bench.show() == AskAgain(seconds=30.0, reason="Google does not answer")


async def test_an_account_that_is_refused_is_asked_for_again_much_later(bench: Bench) -> None:
    bench.google.is_trusting = False

    told = await bench.show()

    assert told == AskAgain(seconds=600.0, reason="access token refused with 400")


async def test_what_google_never_takes_is_given_up_without_a_word_of_the_holder(
    bench: Bench,
) -> None:
    told = await bench.show(background="brown", logo_url=None)

    assert told == Refused(reason="refused with 400 invalidColor")


async def test_an_inner_address_is_never_asked(bench: Bench) -> None:
    guarded = Outgoing()
    wallet = a_wallet(bench.google, guarded, bench.clock)

    assert await wallet.show(FACE, []) == Refused(reason="Google's address is not fit to be asked")
    assert bench.google.asked == 0
    await guarded.close()


# -- Settings. ------------------------------------------------------------------------------------


def test_there_is_a_wallet_where_there_is_an_issuer(now: ManualClock) -> None:
    google = Google(url="http://google.example")
    made = GoogleWallet.of(Settings(**google.settings), Outgoing(), now)

    assert GoogleWallet.of(Settings(), Outgoing(), now) is None
    assert made is not None
    assert made.object_id("wp_1") == f"{ISSUER}.wp_1"


def test_the_account_may_be_a_file_or_its_text(tmp_path: Path) -> None:
    text = Google(url="http://google.example").account
    path = tmp_path / "account.json"
    path.write_text(text)

    assert account_of(str(path)).token_url == "http://google.example/token"


@pytest.mark.parametrize("text", ["", "/nowhere/account.json", "{}", '{"private_key": "?"}', "{"])
def test_an_account_that_is_none_is_told_in_words(text: str, now: ManualClock) -> None:
    settings = Settings(google_wallet_issuer=ISSUER, google_wallet_account=text)

    with pytest.raises(ValueError, match=r"the file cannot be read|not the JSON key file"):
        GoogleWallet.of(settings, Outgoing(), now)


def test_an_account_signs_with_rsa(now: ManualClock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    told = {"private_key": pem, "client_email": "a", "private_key_id": "k", "token_uri": "https:"}

    with pytest.raises(ValueError, match="RSA"):
        account_of(str(told).replace("'", '"').replace("\\\\n", "\\n"))


def test_an_issuer_is_a_number(now: ManualClock) -> None:
    settings = Settings(google_wallet_issuer="kopi", google_wallet_account="{}")

    with pytest.raises(ValueError, match="number"):
        GoogleWallet.of(settings, Outgoing(), now)
