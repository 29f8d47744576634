"""Tills: every one passes the same list, on a running server, with its own counterpart beside it.

Good, repeated, forged, malformed, out of order, refunded; stored and then left by whoever died.
"""

import base64
import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import orjson
import pytest
from sqlmodel import col, select

from core.buckets import Bucket
from core.clock import ManualClock
from core.ids import Id
from core.secrets import Secrets
from db import BUSINESS, Transaction, query
from factories import a_card, a_card_template, a_till, a_voucher, an_award_goal
from fakes import poster, syrve
from fakes.tills import standing_in
from houses import House, database, deployment, open_house
from integrations.tills import Call, tills
from models import Card, ClaimCode, Operation, OperationKind, PointOfSale, Sale, SaleStatus
from patience import until
from services.audit import Finding, audit
from services.card_refs import CardRef
from services.card_templates import AmountRuleInput, EarningRuleInput
from services.cards import AddStampsInput, add_stamps
from services.claim_codes import ClaimStampsInput, claim_stamps
from services.points_of_sale import Connection, purpose_of_settings
from services.sale_refs import SaleRef
from services.secret_keys import seal_anew

__all__ = ["database", "deployment", "open_house"]
PHONE = "+6281234567890"
_SALES = query(select(Sale).where(col(Sale.business_id) == BUSINESS).order_by(col(Sale.id)))
_CARDS = query(select(Card).where(col(Card.business_id) == BUSINESS).order_by(col(Card.id)))
_CODES = query(select(ClaimCode).where(col(ClaimCode.business_id) == BUSINESS))
_STAMPS = query(
    select(Operation).where(
        col(Operation.business_id) == BUSINESS, col(Operation.kind) == OperationKind.STAMPS
    )
)
_POINTS = query(select(PointOfSale).where(col(PointOfSale.business_id) == BUSINESS))
Sent = tuple[dict[str, str], bytes]


@dataclass
class Desk(ABC):
    """A till on a counter: what it sends, as the till of this kind would."""

    settings: dict[str, Any] = field(default_factory=dict)
    signing: dict[str, Any] = field(default_factory=dict)
    """The settings as they are kept, with the secrets we made."""
    clock: Any = None

    @abstractmethod
    def sell(self, number: str, total: str = "20000", phone: str = "", card: str = "") -> Sent:
        """A receipt is closed."""

    @abstractmethod
    def refund(self, number: str) -> Sent:
        """A receipt is taken back."""

    @abstractmethod
    def noise(self) -> Sent:
        """Something that is no sale."""

    @abstractmethod
    def sign(self, body: bytes, *, wrongly: bool = False) -> Sent:
        """A body of our own, signed rightly or wrongly."""


class AtPoster(Desk):
    """Poster, with its stand-in."""

    def __init__(self, stand_in: poster.Poster, url: str) -> None:
        super().__init__()
        self.poster = stand_in
        self.settings = {
            "account": poster.ACCOUNT,
            "applicationSecret": poster.SECRET,
            "accessToken": poster.TOKEN,
            "apiUrl": url,
        }

    def sell(self, number: str, total: str = "20000", phone: str = "", card: str = "") -> Sent:
        self.poster.sell(number, total, phone, card)
        return {}, poster.webhook(int(number))

    def refund(self, number: str) -> Sent:
        return {}, poster.webhook(int(number), "removed")

    def noise(self) -> Sent:
        return {}, poster.webhook(1, "changed", data={"transactions_history": {"value": "1"}})

    def sign(self, body: bytes, *, wrongly: bool = False) -> Sent:
        return {}, poster.webhook("", data=body.decode(), secret="x" if wrongly else poster.SECRET)


class AtSyrve(Desk):
    """Syrve, with its stand-in."""

    def __init__(self, stand_in: syrve.Syrve, url: str) -> None:
        super().__init__()
        self.syrve = stand_in
        self.settings = {
            **syrve.KEYS,
            "organizationId": syrve.ORGANIZATION,
            "baseUrl": url,
            "timezone": "Asia/Jakarta",
        }

    def sell(self, number: str, total: str = "20000", phone: str = "", card: str = "") -> Sent:
        guest = f"guest-{number}" if card else ""
        if card:
            self.syrve.guests[guest] = {"id": guest, "cards": [{"number": card}]}
        told = syrve.event(number, total=float(total), phone=phone, guest=guest)
        return self.sign(syrve.webhook(told))

    def refund(self, number: str) -> Sent:
        return self.sign(syrve.webhook(syrve.event(number, "Deleted")))

    def noise(self) -> Sent:
        return self.sign(syrve.webhook(syrve.event("1", "Bill"), {"eventType": "PersonalShift"}))

    def sign(self, body: bytes, *, wrongly: bool = False) -> Sent:
        token = "another token" if wrongly else self.signing["authToken"]
        return {"Authorization": f"Bearer {token}"}, body


class AtAnother(Desk):
    """A till that signs as Standard Webhooks has it."""

    def sell(self, number: str, total: str = "20000", phone: str = "", card: str = "") -> Sent:
        told = {"saleId": number, "status": "closed", "total": total, "phone": phone, "card": card}
        return self.sign(orjson.dumps({name: value for name, value in told.items() if value}))

    def refund(self, number: str) -> Sent:
        return self.sign(orjson.dumps({"saleId": number, "status": "refunded"}))

    def noise(self) -> Sent:
        return self.sign(orjson.dumps({"saleId": "1", "status": "open"}))

    def sign(self, body: bytes, *, wrongly: bool = False) -> Sent:
        key = base64.b64decode(self.signing["secret"].removeprefix("whsec_"))
        at = str(int(self.clock.now().timestamp()))
        signed = f"msg_1.{at}.".encode() + body + (b" " if wrongly else b"")
        signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        return dict(zip(names, ("msg_1", at, f"v1,{signature}"), strict=True)), body


class AtHmac(AtAnother):
    """A till with a signature and words of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = {
            "secret": "a secret of the till's own",
            "hmac": {"header": "X-Till-Signature", "prefix": "sha256="},
            "sales": "orders",
            "saleId": "order.id",
            "status": "state",
            "finished": ["DONE"],
            "refunded": ["BACK"],
            "total": "order.sum",
            "totalIn": "MINOR",
            "card": "guest.card",
            "phone": "guest.phone",
        }

    def _order(self, number: str, state: str, total: str, phone: str = "", card: str = "") -> Sent:
        guest = {"phone": phone, "card": card}
        order = {"id": int(number), "sum": int(total) * 100}
        told = {"orders": [{"order": order, "state": state, "guest": guest}]}
        return self.sign(orjson.dumps(told))

    def sell(self, number: str, total: str = "20000", phone: str = "", card: str = "") -> Sent:
        return self._order(number, "Done", total, phone, card)

    def refund(self, number: str) -> Sent:
        return self._order(number, "BACK", "0")

    def noise(self) -> Sent:
        return self._order("1", "OPEN", "0")

    def sign(self, body: bytes, *, wrongly: bool = False) -> Sent:
        secret = b"another secret" if wrongly else self.settings["secret"].encode()
        digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return {"X-Till-Signature": f"sha256={digest}"}, body


@dataclass
class Counter:
    """A café with a till that is connected, and a card of a customer with a phone."""

    house: House
    desk: Any
    kind: str
    point: PointOfSale
    card: Card
    template_id: str
    session: aiohttp.ClientSession
    clock: ManualClock

    @property
    def server(self) -> str:
        """Where we are."""
        return self.house.owner.server.url

    @property
    def url(self) -> str:
        """Where the till calls."""
        return f"{self.server}/tills/{self.point.id}"

    async def send(self, sent: Sent, url: str = "") -> int:
        """What a call is answered."""
        async with self.session.post(url or self.url, data=sent[1], headers=sent[0]) as answer:
            return answer.status

    async def settled(self, count: int = 1) -> list[Sale]:
        """The sales, once there are so many and all are settled."""

        async def are() -> bool:
            found = await self.house.all(_SALES)
            waiting = [sale for sale in found if sale.status is SaleStatus.WAITING]
            return len(found) == count and not waiting

        await until(are)
        return await self.house.all(_SALES)

    async def stamps(self) -> int:
        """How many the card has, all of which its ledger explains."""
        [card] = [row for row in await self.house.all(_CARDS) if row.id == self.card.id]
        wrong: list[Finding] = []
        await audit(self.house.database, self.house.actor.business, wrong.append)
        assert wrong == []
        stamps: int = card.stamps
        return stamps


Open = Callable[..., Any]


@pytest.fixture
async def open_counter(open_house: Any, clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """Open a café with a till of a kind; what it needs closes with the test."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def make(name: str, **values: Any) -> Counter:
            house = await open_house()
            desk: Any
            if name == "poster":
                account = poster.Poster()
                url = await stack.enter_async_context(standing_in(account.app))
                desk = AtPoster(account, url)
            elif name == "syrve":
                organization = syrve.Syrve()
                url = await stack.enter_async_context(standing_in(organization.app))
                desk = AtSyrve(organization, url)
            else:
                desk = AtHmac() if name == "hmac" else AtAnother()
            kind = name if name in tills() else "other"
            desk.clock = clock
            goals = [an_award_goal(10)]
            defaults = {
                "earning_rule": EarningRuleInput(
                    by_amount=AmountRuleInput(amount_per_stamp=Decimal(10_000))
                )
            }
            template = await a_card_template(
                house.database, house.actor, 10, goals, **{**defaults, **values}
            )
            card = await a_card(house.database, house.actor, template.id, phone=PHONE)
            secrets = house.deployment.secrets
            point = await a_till(
                house.database, house.actor, template.id, secrets, kind=kind, settings=desk.settings
            )
            text = secrets.decrypt(point.settings or "", purpose_of_settings(point.id))
            desk.signing = orjson.loads(text)
            return Counter(house, desk, kind, point, card, template.id, session, clock)

        yield make


@pytest.fixture(params=["poster", pytest.param("syrve", marks=pytest.mark.on("sqlite")), "other"])
async def counter(request: pytest.FixtureRequest, open_counter: Open) -> Counter:
    """A café with a till of each kind in turn."""
    made: Counter = await open_counter(request.param)
    return made


def test_every_till_of_the_folder_is_tried() -> None:
    assert set(tills()) == {"poster", "syrve", "other"}


async def test_a_sale_stamps_once_however_often_it_is_told(counter: Counter) -> None:
    """Fifteen times over two days, as Poster does where it is not answered."""
    sent = counter.desk.sell("7", "25000", PHONE)
    answers = [await counter.send(sent)]
    [sale] = await counter.settled()

    for _ in range(15):
        counter.clock.advance(timedelta(hours=3))
        answers.append(await counter.send(counter.desk.sell("7", "25000", PHONE)))

    assert set(answers) == {200}
    assert (sale.status, sale.amount, sale.card_id) == (
        SaleStatus.STAMPED, 2_500_000, counter.card.id,
    )  # fmt: skip
    assert len(await counter.settled()) == 1
    assert await counter.stamps() == 2
    [line] = await counter.house.all(_STAMPS)
    assert (line.connector_id, line.channel.value) == (counter.point.id, "pos")
    assert line.location_id == counter.point.location_id


async def test_what_is_forged_or_unknown_is_refused_alike_and_stores_nothing(
    counter: Counter,
) -> None:
    headers, body = counter.desk.sell("7", phone=PHONE)
    forged = counter.desk.sign(body, wrongly=True)
    nowhere = counter.url[:-4] + ("0000" if counter.url[-4:] != "0000" else "1111")
    garbage = f"{counter.house.owner.server.url}/tills/x"
    told = []
    for url, sent in (
        (counter.url, forged), (counter.url, ({}, b"")), (counter.url, ({}, b"[1")),
        (nowhere, (headers, body)), (garbage, (headers, body)),
    ):  # fmt: skip
        async with counter.session.post(url, data=sent[1], headers=sent[0]) as answer:
            told.append((answer.status, await answer.text()))

    assert {status for status, _ in told} == {401}
    assert len({text for _, text in told}) == 1
    assert await counter.house.all(_SALES) == []


async def test_signed_garbage_is_told_of_and_breaks_nothing(counter: Counter) -> None:
    bodies = [b"", b"{", b"null", b"7", b'"x"', b"[null]", b'{"a":[]}', b"[[[]]]", b"\xff"]

    answers = [
        await counter.send(counter.desk.sign(body)) for body in bodies if counter.kind != "poster"
    ]
    answers += [await counter.send(counter.desk.noise())]
    too_long = await counter.send(counter.desk.sign(b" " * 1_000_001))

    assert set(answers) <= {200, 400}
    assert too_long == 413
    assert await counter.house.all(_SALES) == []


async def test_a_refund_takes_the_stamps_back_once(counter: Counter) -> None:
    await counter.send(counter.desk.sell("7", "30000", PHONE))
    await counter.settled()
    stamped = await counter.stamps()

    answers = [await counter.send(counter.desk.refund("7")) for _ in range(3)]
    [sale] = await counter.settled()
    again = await counter.send(counter.desk.sell("7", "30000", PHONE))
    await counter.settled()

    assert (stamped, answers, again) == (3, [200, 200, 200], 200)
    assert sale.status is SaleStatus.REFUNDED
    assert await counter.stamps() == 0


async def test_a_refund_that_comes_before_its_sale_wins(counter: Counter) -> None:
    await counter.send(counter.desk.refund("7"))
    await counter.settled()

    await counter.send(counter.desk.sell("7", phone=PHONE))
    [sale] = await counter.settled()

    assert sale.status is SaleStatus.REFUNDED
    assert await counter.stamps() == 0


async def test_a_sale_that_names_nobody_is_claimed_by_its_code(counter: Counter) -> None:
    await counter.send(counter.desk.sell("7", "20000"))
    [sale] = await counter.settled()
    [code] = await counter.house.all(_CODES)
    ask = """query($ref: SaleRef!) { sale(ref: $ref) {
        status amount { amount } claimCode { code url } pointOfSale { name } } }"""
    ref = {"pointOfSaleId": counter.point.id, "saleId": sale.sale_id}
    shown = (await counter.house.owner.do(ask, {"ref": ref}))["sale"]
    claim = ClaimStampsInput(code=code.code, card=CardRef(id=Id(counter.card.id)))
    await counter.house.database.write(
        counter.house.actor.business_id,
        lambda tx: claim_stamps(tx, counter.house.actor, claim, counter.clock.now()),
    )
    stamped = await counter.stamps()

    await counter.send(counter.desk.refund("7"))
    [refunded] = await counter.settled()

    assert sale.status is SaleStatus.CLAIMABLE
    assert shown == {
        "status": "CLAIMABLE",
        "amount": {"amount": "20000.00"},
        "claimCode": {"code": code.code, "url": f"{counter.server}/claim/{code.code}"},
        "pointOfSale": {"name": "A till"},
    }
    assert (stamped, await counter.stamps()) == (2, 0)
    assert refunded.status is SaleStatus.REFUNDED


async def test_a_refunded_code_can_no_longer_be_claimed(counter: Counter) -> None:
    await counter.send(counter.desk.sell("7"))
    await counter.settled()
    await counter.send(counter.desk.refund("7"))
    await counter.settled()

    [code] = await counter.house.all(_CODES)

    assert code.expires_at == counter.clock.now()


async def test_a_card_is_named_by_its_number_token_or_pass(counter: Counter) -> None:
    names = (counter.card.number, counter.card.token, counter.card.wallet_pass_id)

    for number, name in enumerate(names, 1):
        await counter.send(counter.desk.sell(str(number), "10000", card=name))

    assert {sale.status for sale in await counter.settled(3)} == {SaleStatus.STAMPED}
    assert await counter.stamps() == 3


async def test_whoever_dies_with_a_sale_in_hand_loses_nothing(counter: Counter) -> None:
    """Stored, leased, and never heard of again: another takes it when the lease is over."""
    house, held = counter.house, counter.clock.now() + timedelta(seconds=90)
    sent = counter.desk.sell("7", "20000", PHONE)
    call = Call(
        method="POST", url=counter.url,
        headers={name.lower(): text for name, text in sent[0].items()}, body=sent[1],
    )  # fmt: skip
    connection = Connection.of(counter.point, house.deployment.secrets)
    [receipt] = connection.till.read_sales(connection.settings, call)

    async def die(tx: Transaction) -> None:
        sale = Sale(
            id="sale_01jwsample0000000000000000", business_id=house.actor.business_id,
            point_of_sale_id=counter.point.id, kind=counter.kind, account=counter.point.account,
            sale_id=receipt.sale_id, status=SaleStatus.WAITING, attempts=1, to_fetch=True,
            received_at=counter.clock.now(), next_attempt_at=counter.clock.now(), lease_until=held,
            card_id=counter.card.id, amount=2_000_000, currency="IDR",
        ).with_values(to_fetch=counter.kind == "poster")  # fmt: skip
        await tx.add(sale)

    await house.database.write(house.actor.business_id, die)
    repeated = await counter.send(sent)
    counter.clock.advance(timedelta(seconds=91))
    [sale] = await counter.settled()

    assert (repeated, sale.status) == (200, SaleStatus.STAMPED)
    assert await counter.stamps() == 2


async def test_the_till_app_and_the_webhook_stamp_one_receipt_once(counter: Counter) -> None:
    house, actor = counter.house, counter.house.actor
    sent = counter.desk.sell("7", "20000", PHONE)
    number = "7" if counter.kind != "syrve" else f"{syrve.ID}7"
    asked = AddStampsInput(
        card=CardRef(id=Id(counter.card.id)),
        count=1,
        sale=SaleRef(point_of_sale_id=Id(counter.point.id), sale_id=number),
    )

    def stamp() -> Any:
        now = counter.clock.now()
        return house.database.write(actor.business_id, lambda tx: add_stamps(tx, actor, asked, now))

    first = await stamp()
    await counter.send(sent)
    repeat = await stamp()
    [sale] = await counter.settled()

    assert first.operation.id == repeat.operation.id == sale.operation_id
    assert await counter.stamps() == 1


async def test_another_tenants_cards_are_nothing_here(counter: Counter, open_house: Any) -> None:
    other = await open_house()
    theirs = await a_card(other.database, other.actor, phone="+6281999999999")

    await counter.send(counter.desk.sell("7", phone="+6281999999999"))
    await counter.send(counter.desk.sell("8", card=theirs.token))
    sales = await counter.settled(2)

    assert [sale.status for sale in sales] == [SaleStatus.CLAIMABLE] * 2
    assert await other.all(_STAMPS) == []
    assert await other.all(_SALES) == []


# -- Of one till alone; the database makes no difference to these. ---------------------------------


async def points(counter: Counter) -> PointOfSale:
    """The connection as it now is."""
    [point] = await counter.house.all(_POINTS)
    found: PointOfSale = point
    return found


async def post(counter: Counter, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    """The status and JSON of a call of ours."""
    async with counter.session.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.on("sqlite")
async def test_posters_amounts_are_those_of_its_receipt(open_counter: Open) -> None:
    """The webhook says 999 999.00, which is believed by nobody."""
    counter = await open_counter("poster")

    await counter.send(counter.desk.sell("7", "10000", PHONE))
    [sale] = await counter.settled()

    assert sale.amount == 1_000_000
    assert counter.desk.poster.asked == ["dash.getTransaction", "clients.getClient"]


@pytest.mark.on("sqlite")
async def test_poster_is_asked_again_until_it_lets_us_in(open_counter: Open) -> None:
    counter = await open_counter("poster")
    counter.desk.poster.error = 10
    await counter.send(counter.desk.sell("7", phone=PHONE))
    await until(lambda: counter.desk.poster.asked != [])

    async def fails() -> bool:
        return (await points(counter)).status.value == "failing"

    await until(fails)
    problem = (await points(counter)).problem
    counter.desk.poster.error = None
    test = "mutation($id: ID!) { testPointOfSale(input: {id: $id}) { ok userErrors { code } } }"
    tested = await counter.house.owner.do(test, {"id": counter.point.id})
    [sale] = await counter.settled()

    assert problem == "Poster does not accept the access token (error 10)."
    assert tested["testPointOfSale"] == {"ok": True, "userErrors": []}
    assert sale.status is SaleStatus.STAMPED
    assert (await points(counter)).problem is None


@pytest.mark.on("sqlite")
async def test_poster_is_authorised_by_its_page(open_counter: Open) -> None:
    """A sale that came before is settled as soon as somebody has let us in."""
    counter = await open_counter("poster")
    house = counter.house
    url = counter.desk.settings["apiUrl"]
    account = {"account": "menteng", "applicationSecret": poster.SECRET, "applicationId": "1234"}
    point = await a_till(
        house.database, house.actor, counter.template_id, house.deployment.secrets,
        kind="poster", settings={**account, "apiUrl": url},
    )  # fmt: skip
    address = f"{house.owner.server.url}/tills/{point.id}"
    counter.desk.poster.sell("7", "20000", PHONE)
    body = poster.webhook(7, account="menteng")
    # One address serves all accounts of an application: this one is told at the other's.
    taken = await post(counter, counter.url, body, {})

    async def waits() -> bool:
        [sale] = await house.all(_SALES)
        return sale.problem is not None

    await until(waits)
    answers = []
    for asked in (
        {"account": "cafe", "code": poster.CODE},
        {"account": "menteng", "code": "a-code-of-nobody"},
        {"account": "menteng", "code": poster.CODE},
        {"account": "menteng", "code": poster.CODE},
    ):
        async with counter.session.get(f"{address}/authorized", params=asked) as answer:
            answers.append((answer.status, await answer.text()))
    [sale] = await counter.settled()

    assert taken == (200, {"status": "accept"})
    assert [status for status, _ in answers] == [400, 400, 200, 400]
    assert answers[2][1] == "Connected. You can close this page."
    assert (sale.status, sale.point_of_sale_id) == (SaleStatus.STAMPED, point.id)
    assert poster.TOKEN not in str(await house.dump())


@pytest.mark.on("sqlite")
async def test_poster_lets_us_in_by_its_webhook(open_counter: Open) -> None:
    counter = await open_counter("poster")
    house = counter.house
    settings = {"account": "menteng", "applicationSecret": poster.SECRET}
    point = await a_till(
        house.database, house.actor, counter.template_id, house.deployment.secrets,
        kind="poster", settings=settings,
    )  # fmt: skip
    data = {"user_id": 1, "access_token": poster.TOKEN}
    body = poster.webhook(1234, "added", object="application", data=data, account="menteng")

    answer = await post(counter, f"{house.owner.server.url}/tills/{point.id}", body, {})
    [known] = [row for row in await house.all(_POINTS) if row.id == point.id]

    assert answer == (200, {"status": "accept"})
    assert (point.status.value, known.status.value) == ("pending", "active")


@pytest.mark.parametrize("kind", ["poster", "other"])
@pytest.mark.on("sqlite")
async def test_a_voucher_is_redeemed_at_the_till_once(open_counter: Open, kind: str) -> None:
    counter = await open_counter(kind)
    house = counter.house
    voucher = await a_voucher(house.database, house.actor, card=counter.card)
    url = f"{counter.url}/redeem"

    async def ask(**told: Any) -> tuple[int, Any]:
        body = orjson.dumps(told)
        if kind == "poster":
            at = str(int(counter.clock.now().timestamp()))
            return await post(counter, url, body, poster.app_headers(url, body, at))
        headers, body = counter.desk.sign(body)
        return await post(counter, url, body, headers)

    first = await ask(id="r-1", voucher=voucher.token)
    repeat = await ask(id="r-1", voucher=voucher.token)
    second = await ask(id="r-2", voucher=voucher.token)
    undone = await ask(id="r-3", voucher=voucher.token, undo=True)
    nothing = await ask(id="r-4", code="NO-SUCH-CODE")
    unreadable = await ask(id="r-5")
    forged = await post(counter, url, b'{"id":"r-6","voucher":"x"}', {})

    assert first == repeat
    assert (first[0], first[1]["voucher"]["status"]) == (200, "REDEEMED")
    assert (second[0], second[1]["error"]["code"]) == (422, "VOUCHER_ALREADY_REDEEMED")
    assert (undone[0], undone[1]["voucher"]["status"]) == (200, "ACTIVE")
    assert (nothing[0], nothing[1]["error"]["code"]) == (404, "NOT_FOUND")
    assert (unreadable[0], forged[0]) == (400, 401)


@pytest.mark.on("sqlite")
async def test_posters_webhook_asks_for_nothing_else(open_counter: Open) -> None:
    counter = await open_counter("poster")

    told = await post(counter, f"{counter.url}/redeem", poster.webhook(7), {})

    assert told[0] == 401


@pytest.mark.on("sqlite")
async def test_syrve_is_told_by_us_where_to_call(open_counter: Open) -> None:
    counter = await open_counter("syrve")
    counter.desk.syrve.busy = 0

    async def is_active() -> bool:
        return (await points(counter)).status.value == "active"

    await until(is_active)
    told = counter.desk.syrve.webhooks

    assert told["webHooksUri"] == counter.url
    assert told["authToken"] == counter.desk.signing["authToken"]
    assert told["webHooksFilter"]["tableOrderFilter"]["orderStatuses"] == ["Closed", "Deleted"]
    assert counter.desk.syrve.logins == 1


@pytest.mark.on("sqlite")
async def test_one_call_of_syrve_may_carry_several_sales(open_counter: Open) -> None:
    """One that cannot be read holds up no other; Syrve is told, and repeats."""
    counter = await open_counter("syrve")
    good = [syrve.event(str(number), total=10_000, phone=PHONE) for number in (1, 2)]
    bad = syrve.event("3", total=1)
    bad["eventInfo"]["order"]["sum"] = "a lot"
    foreign = syrve.event("4", total=10_000, phone=PHONE, organization="another")

    status = await counter.send(counter.desk.sign(syrve.webhook(good[0], bad, good[1], foreign)))
    sales = await counter.settled(2)

    assert status == 400
    assert {sale.status for sale in sales} == {SaleStatus.STAMPED}
    assert {sale.closed_at.isoformat() for sale in sales} == {"2026-03-02T11:59:30.120000+00:00"}


@pytest.mark.on("sqlite")
async def test_orders_earn_a_stamp_each_and_free_ones_none(open_counter: Open) -> None:
    counter = await open_counter("other", earning_rule=EarningRuleInput(per_order=True))

    await counter.send(counter.desk.sell("1", "990000", PHONE))
    await counter.send(counter.desk.sell("2", "0", PHONE))
    sales = await counter.settled(2)

    assert [sale.status for sale in sales] == [SaleStatus.STAMPED, SaleStatus.REFUSED]
    assert sales[1].problem == "Nothing was paid."
    assert await counter.stamps() == 1
    ask = """{ events(filter: {types: [STAMP_ADDED]}) { nodes { actor { __typename id name }
        ... on StampAdded { operation { actor { id } } } } } }"""
    [stamped] = (await counter.house.owner.do(ask))["events"]["nodes"]
    named = {"id": counter.point.id}
    assert stamped["actor"] == {"__typename": "PointOfSale", "name": "A till", **named}
    assert stamped["operation"]["actor"] == named


@pytest.mark.on("sqlite")
async def test_another_till_signs_and_speaks_as_its_settings_say(open_counter: Open) -> None:
    counter = await open_counter("hmac")
    headers, body = counter.desk.sell("7", "20000", PHONE)

    forged = await counter.send(counter.desk.sign(body, wrongly=True))
    taken = [await counter.send((headers, body)), await counter.send(counter.desk.noise())]
    [sale] = await counter.settled()
    stamped = await counter.stamps()
    taken.append(await counter.send(counter.desk.refund("7")))
    [refunded] = await counter.settled()

    assert (forged, taken) == (401, [200, 200, 200])
    assert (sale.amount, stamped, refunded.status) == (2_000_000, 2, SaleStatus.REFUNDED)


@pytest.mark.on("sqlite")
async def test_bad_signatures_are_soon_not_looked_at_any_more(
    open_counter: Open,
) -> None:
    """At one connection: the next one is not in anybody's way."""
    counter = await open_counter("other")
    counter.house.deployment.guesses._bucket = Bucket("misses", 2, 1 / 60)
    sent = counter.desk.sell("7", phone=PHONE)
    forged = counter.desk.sign(sent[1], wrongly=True)

    answers = [await counter.send(forged) for _ in range(4)]
    good = await counter.send(sent)
    other = await counter.send(forged, counter.url[:-1] + "x")

    assert answers == [401, 401, 429, 429]
    assert (good, other) == (429, 401)


@pytest.mark.on("sqlite")
async def test_its_settings_are_sealed_anew_under_a_new_key(open_counter: Open) -> None:
    counter = await open_counter("poster")
    house = counter.house
    former, new = b"former key of this deployment" * 2, b"new key of this deployment" * 2
    text = house.deployment.secrets.decrypt(
        counter.point.settings, purpose_of_settings(counter.point.id)
    )
    sealed = Secrets(former).encrypt(text, purpose_of_settings(counter.point.id))
    await house.database.write(
        house.actor.business_id, lambda tx: tx.change(counter.point, settings=sealed)
    )

    await seal_anew(house.database, Secrets(new, former))

    point = await points(counter)
    assert Connection.of(point, Secrets(new)).settings.access_token == poster.TOKEN


@pytest.mark.on("sqlite")
async def test_an_account_is_connected_once_and_repeats_nothing_anew(open_counter: Open) -> None:
    counter = await open_counter("poster")
    house, owner = counter.house, counter.house.owner
    sent = counter.desk.sell("7", phone=PHONE)
    await counter.send(sent)
    await counter.settled()
    connect = """mutation($input: ConnectPointOfSaleInput!) { connectPointOfSale(input: $input) {
        pointOfSale { id callbackUrl } userErrors { code field message } } }"""
    asked = {
        "kind": "POSTER", "name": "Again", "settings": counter.desk.settings,
        "locationId": house.actor.location_id, "templateId": counter.template_id,
    }  # fmt: skip
    taken = (await owner.do(connect, {"input": asked}))["connectPointOfSale"]
    wrong = {**asked, "settings": {"account": "../x", "applicationSecret": "SECRET"}}
    refused = (await owner.do(connect, {"input": wrong}))["connectPointOfSale"]
    gone = "mutation($id: ID!) { disconnectPointOfSale(input: {id: $id}) { deletedId } }"
    await owner.do(gone, {"id": counter.point.id})
    closed = await counter.send(sent)
    anew = (await owner.do(connect, {"input": asked}))["connectPointOfSale"]["pointOfSale"]
    again = await counter.send(sent, anew["callbackUrl"])

    assert taken["userErrors"][0]["message"] == "This account of the till is connected already."
    assert refused["userErrors"][0]["field"] == ["input", "settings", "account"]
    assert "SECRET" not in str(refused)
    assert (closed, again) == (401, 200)
    assert len(await counter.settled()) == 1
    assert await counter.stamps() == 2


UPDATE = """mutation($input: UpdatePointOfSaleInput!) { updatePointOfSale(input: $input) {
    pointOfSale { id name status location { id } template { id } } signingSecret
    userErrors { code field message } } }"""


async def changed(counter: Counter, **told: Any) -> Any:
    """What a change of the point of sale is answered."""
    told = {"input": {"id": counter.point.id, **told}}
    return (await counter.house.owner.do(UPDATE, told))["updatePointOfSale"]


async def test_a_till_is_changed_while_its_sales_go_on_coming_in(open_counter: Open) -> None:
    counter = await open_counter("hmac")
    house = counter.house
    rule = EarningRuleInput(per_order=True)
    other = await a_card_template(house.database, house.actor, earning_rule=rule)
    card = await a_card(house.database, house.actor, other.id, phone=PHONE)
    secret = "another secret of this till"

    named = await changed(counter, name="The terrace", templateId=other.id)
    await counter.send(counter.desk.sell("1", phone=PHONE))
    [first] = await counter.settled()
    moved = await changed(counter, settings={"secret": secret, "phone": "guest.tel"})
    former = await counter.send(counter.desk.sell("2", phone=PHONE))
    counter.desk.settings["secret"] = secret
    told = counter.desk.sell("3", phone=PHONE)
    second = await counter.send(counter.desk.sign(told[1].replace(b'"phone"', b'"tel"')))
    sales = await counter.settled(2)

    assert named["pointOfSale"]["name"] == "The terrace"
    assert named["pointOfSale"]["template"] == {"id": other.id}
    assert named["signingSecret"] is None
    assert moved["pointOfSale"]["status"] == "ACTIVE"
    assert (former, second) == (401, 200)
    assert first.status is SaleStatus.STAMPED
    assert [sale.card_id for sale in sales] == [card.id] * 2
    kept = str(await house.dump())
    assert secret not in kept
    assert "guest.tel" not in kept


@pytest.mark.on("sqlite")
async def test_a_change_names_what_cannot_be_and_changes_nothing(
    open_counter: Open, open_house: Any
) -> None:
    counter = await open_counter("poster")
    settings = [{"account": "another"}, {"applicationSecret": None}, {"apiUrl": 7}, {"x": "1"}]
    before = await points(counter)
    stranger = await open_house()

    refused = [await changed(counter, settings=one) for one in settings]
    refused += [await changed(counter, **one) for one in ({"name": " "}, {"templateId": "tpl_x"})]
    told = {"input": {"id": counter.point.id, "name": "Mine"}}
    foreign = (await stranger.owner.do(UPDATE, told))["updatePointOfSale"]

    errors = [one["userErrors"][0] for one in refused]
    assert [error["field"][1:] for error in errors] == [
        ["settings"],
        ["settings", "applicationSecret"],
        ["settings", "apiUrl"],
        ["settings", "x"],
        ["name"],
        ["templateId"],
    ]
    assert errors[0]["message"] == "Another account is another point of sale: connect it."
    assert foreign["userErrors"][0]["code"] == "NOT_FOUND"
    assert await points(counter) == before


@pytest.mark.on("sqlite")
@pytest.mark.parametrize(
    ("kind", "address", "first"),
    [("poster", "apiUrl", "applicationSecret"), ("syrve", "baseUrl", "apiKey")],
)
async def test_whoever_names_another_address_is_not_shown_the_keys_there(
    open_counter: Open, kind: str, address: str, first: str
) -> None:
    """A manager, or a stolen key, knows no secret of the till; nor does a server of theirs."""
    counter = await open_counter(kind)
    before = (await points(counter)).settings

    refused = await changed(counter, settings={address: "http://127.0.0.1:9/theirs"})
    half = {address: "http://127.0.0.1:9/theirs", first: "told"}
    still = await changed(counter, settings=half)

    fields = [one["userErrors"][0]["field"] for one in (refused, still)]
    assert fields[0] == ["input", "settings", first]
    assert fields[1][:2] == ["input", "settings"]
    assert fields[1] != fields[0]
    assert (await points(counter)).settings == before


@pytest.mark.on("sqlite")
async def test_a_new_token_mends_a_till_that_refused_us(open_counter: Open) -> None:
    counter = await open_counter("poster")
    await changed(counter, settings={"accessToken": "revoked"})
    await counter.send(counter.desk.sell("7", phone=PHONE))

    async def fails() -> bool:
        return (await points(counter)).status.value == "failing"

    await until(fails)
    mended = await changed(counter, settings={"accessToken": poster.TOKEN})
    [sale] = await counter.settled()

    assert mended["pointOfSale"]["status"] == "ACTIVE"
    assert sale.status is SaleStatus.STAMPED


@pytest.mark.on("sqlite")
async def test_syrve_calls_with_the_token_it_knows_until_it_is_told_anew(
    open_counter: Open,
) -> None:
    counter = await open_counter("syrve")
    counter.desk.syrve.busy = 0

    async def is_active() -> bool:
        return (await points(counter)).status.value == "active"

    await until(is_active)
    counter.desk.syrve.webhooks = {}
    pending = await changed(counter, settings={"currency": "EUR"})
    await until(lambda: bool(counter.desk.syrve.webhooks))

    assert pending["pointOfSale"]["status"] == "PENDING"
    assert counter.desk.syrve.webhooks["authToken"] == counter.desk.signing["authToken"]
    await until(is_active)


@pytest.mark.on("sqlite")
async def test_a_secret_taken_away_is_made_anew_and_owners_are_told(open_counter: Open) -> None:
    counter = await open_counter("other")
    sent = counter.desk.sell("1", phone=PHONE)

    made = await changed(counter, settings={"secret": None}, name="Bar")
    former = await counter.send(sent)
    gone = "mutation($id: ID!) { disconnectPointOfSale(input: {id: $id}) { deletedId } }"
    await counter.house.owner.do(gone, {"id": counter.point.id})
    told = (await counter.house.owner.do("{ notices(first: 9) { nodes { kind message } } }"))[
        "notices"
    ]["nodes"]

    assert made["signingSecret"].startswith("whsec_")
    assert former == 401
    assert {one["kind"] for one in told} == {"POINT_OF_SALE_CHANGED"}
    assert sorted(one["message"].partition(" was ")[2] for one in told) == [
        f"{what} by Ayu (OWNER)."
        for what in ("changed (name, settings)", "connected", "disconnected")
    ]
    assert made["signingSecret"] not in str(told)
