"""Access tokens: what is stored of them, how long they live, and what each may see."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.errors import Code, Forbidden, Invalid, LimitReached, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, is_access_token
from db import BUSINESS, Database, query
from factories import NOW, Cafe, a_business, a_card, a_customer, a_location, a_staff
from models import (
    AccessToken,
    Actor,
    ApiKey,
    Business,
    Card,
    CardPlatform,
    CardTemplate,
    CardTemplateVersion,
    Customer,
    Goal,
    Location,
    LotteryTicket,
    Operation,
    Reach,
    Reward,
    Role,
    Row,
    Staff,
    Voucher,
    VoucherTemplate,
    WebhookEndpoint,
)
from services import access_tokens
from services.access import authenticate
from services.access_tokens import (
    CreateAccessTokenInput,
    EventScopeInput,
    check_reach,
    check_ref,
    create_access_token,
    filter_within,
    is_shown,
)
from services.card_refs import CardRef, HolderRef
from services.cards import DeleteCardInput, delete_card
from services.customers import CustomerRef
from services.listings import EventFilter, EventType
from services.merging import MergeCustomersInput, merge_customers
from services.places import NOWHERE
from services.sign_ins import open_session

STAMP, OPENED = (EventType(word) for word in ("stamp_added", "card_opened"))
_TOKENS = query(
    select(AccessToken)
    .where(col(AccessToken.business_id) == BUSINESS)
    .order_by(col(AccessToken.id))
)
HOUR = timedelta(hours=1)


class Desk:
    """A café, and its owner with her key."""

    def __init__(self, database: Database, secrets: Secrets, cafe: Cafe, owner: Actor) -> None:
        self.database = database
        self.secrets = secrets
        self.cafe = cafe
        self.owner = owner

    async def do(self, service: Any, actor: Actor, told: Any, *more: Any, **extras: Any) -> Any:
        """Call a service in a transaction of its business."""
        work = lambda tx: service(tx, actor, told, *more, **extras)  # noqa: E731
        return await self.database.write(actor.business_id, work)

    async def issue(self, actor: Actor | None = None, now: datetime = NOW, **input: Any) -> Any:
        """Ask for a token."""
        told = CreateAccessTokenInput(**(input or {"events": EventScopeInput()}))
        by = actor or self.owner
        return await self.do(create_access_token, by, told, now, secrets=self.secrets)

    async def stored(self) -> list[AccessToken]:
        """Those of the café."""
        return await self.database.read(self.cafe.business.id, lambda tx: tx.many(_TOKENS))

    async def scope_of(self, **input: Any) -> Any:
        """What is stored of a scope."""
        before = {token.id for token in await self.stored()}
        await self.issue(**input)
        [made] = [token for token in await self.stored() if token.id not in before]
        return made.scope

    async def actor(self, secret: str, now: datetime = NOW) -> Actor:
        """Whom a secret stands for."""
        found = await self.database.read(
            None, lambda tx: authenticate(tx, secret, self.secrets, now)
        )
        assert found
        return found

    async def bearer(self, **input: Any) -> Actor:
        """Whoever comes with a token."""
        return await self.actor((await self.issue(**input)).secret)

    async def refusal(self, kind: type[Refused], **input: Any) -> tuple[Any, ...]:
        """How it is refused; nothing is stored."""
        before = len(await self.stored())
        with pytest.raises(kind) as refused:
            await self.issue(**input)
        assert len(await self.stored()) == before
        return refused.value.code, refused.value.message, refused.value.field


@pytest.fixture
async def desk(database: Database, secrets: Secrets) -> Desk:
    """A café, and its owner with her key."""
    cafe = await a_business(database, secrets)
    desk = Desk(database, secrets, cafe, cafe.owner)
    desk.owner = await desk.actor(cafe.api_key)
    return desk


# -- Issuing --------------------------------------------------------------------------------------


async def test_what_is_stored_of_a_token(desk: Desk) -> None:
    made = await desk.issue()

    [token] = await desk.stored()
    key, staff = desk.owner.api_key, desk.owner.staff
    assert key
    assert staff
    assert is_access_token(made.secret)
    assert made.expires_at == token.expires_at == NOW + HOUR
    assert token.id.startswith("tok_")
    assert token == AccessToken(
        id=token.id,
        business_id=desk.cafe.business.id,
        staff_id=staff.id,
        api_key_id=key.id,
        session_id=None,
        issuer_digest=key.digest,
        role=Role.OWNER,
        location_id=staff.location_id,
        digest=desk.secrets.digest(made.secret),
        scope={"events": {}},
        created_at=NOW,
        expires_at=NOW + HOUR,
    )


async def test_a_token_of_a_session_names_it(desk: Desk) -> None:
    staff: Any = desk.owner.staff
    opened = await desk.database.write(
        desk.cafe.business.id, lambda tx: open_session(tx, desk.secrets, staff, NOW, NOWHERE)
    )
    by = await desk.actor(opened.session.secret)

    await desk.issue(by)

    [token] = await desk.stored()
    assert (token.api_key_id, token.session_id) == (None, by.session_id)
    assert token.issuer_digest == by.secret_digest


@pytest.mark.parametrize(("asked", "seconds"), [(None, 3_600), (1, 1), (86_400, 86_400)])
async def test_a_token_lives_as_long_as_was_asked(
    desk: Desk, asked: int | None, seconds: int
) -> None:
    made = await desk.issue(events=EventScopeInput(), expires_in=asked)

    assert made.expires_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("asked", [0, -1, 86_401])
async def test_no_token_lives_for_no_time_or_more_than_a_day(desk: Desk, asked: int) -> None:
    refusal = await desk.refusal(Invalid, events=EventScopeInput(), expires_in=asked)

    assert refusal == (Code.INVALID, "Between 1 and 86400 seconds.", ["input", "expiresIn"])


async def test_no_token_outlives_the_key_that_issued_it(desk: Desk) -> None:
    key: Any = desk.owner.api_key
    for values, end in (
        ({"expires_at": NOW + timedelta(minutes=30)}, timedelta(minutes=30)),
        ({"expires_at": NOW + timedelta(hours=2)}, HOUR),
        ({"former_digest": key.digest, "former_until": NOW + timedelta(minutes=5)},
         timedelta(minutes=5)),
        ({"former_digest": "another", "former_until": NOW + timedelta(minutes=5)}, HOUR),
    ):  # fmt: skip
        changed = ApiKey(**{**key.__dict__, **values})
        made = await desk.issue(replace(desk.owner, api_key=changed))
        assert made.expires_at == NOW + end


async def test_no_token_outlives_the_session_that_issued_it(desk: Desk) -> None:
    staff: Any = desk.owner.staff
    opened = await desk.database.write(
        desk.cafe.business.id, lambda tx: open_session(tx, desk.secrets, staff, NOW, NOWHERE)
    )
    by = await desk.actor(opened.session.secret)
    end: Any = by.session

    made = await desk.issue(by, end.expires_at - timedelta(minutes=10))

    assert made.expires_at == end.expires_at


async def test_the_system_and_whoever_came_without_a_secret_issue_none(desk: Desk) -> None:
    for by in (Actor(desk.cafe.business), Actor(desk.cafe.business, desk.owner.staff)):
        with pytest.raises(Forbidden, match="role"):
            await desk.issue(by)
    assert await desk.stored() == []


@pytest.mark.parametrize(
    "what", [{"disabled_at": NOW}, {"role": Role.SCANNER}, {"location_id": None}], ids=str
)
async def test_who_lost_rights_while_calling_issues_none(desk: Desk, what: dict[str, Any]) -> None:
    at = await a_location(desk.database, desk.cafe.owner)
    manager = await a_staff(desk.database, desk.cafe.owner, Role.MANAGER, location_id=Id(at.id))
    by = replace(desk.owner, staff=manager.staff)
    staff: Any = manager.staff
    await desk.database.write(desk.cafe.business.id, lambda tx: tx.change(staff, **what))

    with pytest.raises(Forbidden, match="role"):
        await desk.issue(by)

    assert await desk.stored() == []


async def test_the_live_ones_of_a_login_are_counted_and_the_dead_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "MOST_LIVE", 2)
    manager = await a_staff(desk.database, desk.cafe.owner, Role.MANAGER)
    await desk.issue(replace(desk.owner, staff=manager.staff))
    first = await desk.issue(events=EventScopeInput(), expires_in=60)
    await desk.issue()

    with pytest.raises(LimitReached, match=r"^At most 2 live tokens\.$") as refused:
        await desk.issue()
    assert refused.value.retry_at == first.expires_at
    assert refused.value.field == ["input"]

    await desk.issue(now=NOW + timedelta(seconds=60))
    ends = sorted(token.expires_at for token in await desk.stored())
    assert ends == [NOW + HOUR, NOW + HOUR, NOW + HOUR + timedelta(seconds=60)]


@pytest.mark.parametrize(
    ("values", "is_kept"),
    [
        ({"name": "Till"}, True),
        ({"digest": "another"}, False),
        ({"digest": "another", "former_until": NOW + timedelta(minutes=1)}, True),
        ({"digest": "another", "former_until": NOW}, False),
    ],
    ids=["as it was", "regenerated", "within its overlap", "after its overlap"],
)
async def test_those_of_a_key_die_with_its_secret(
    desk: Desk, values: dict[str, Any], is_kept: bool
) -> None:
    key: Any = desk.owner.api_key
    await desk.issue()
    former = {"former_digest": key.digest} if "former_until" in values else {}
    await desk.database.write(desk.cafe.business.id, lambda tx: tx.change(key, **values, **former))

    await desk.issue(replace(desk.owner, secret_digest="another"))

    kept = [token.issuer_digest for token in await desk.stored()]
    assert (key.digest in kept) is is_kept


@pytest.mark.parametrize(
    ("values", "is_kept"),
    [({"program": "x"}, True), ({"ended_at": NOW}, False), ({"expires_at": NOW}, False)],
)
async def test_those_of_a_session_die_with_it(
    desk: Desk, values: dict[str, Any], is_kept: bool
) -> None:
    staff: Any = desk.owner.staff
    opened = await desk.database.write(
        desk.cafe.business.id, lambda tx: open_session(tx, desk.secrets, staff, NOW, NOWHERE)
    )
    by = await desk.actor(opened.session.secret)
    session: Any = by.session
    await desk.issue(by)
    await desk.database.write(desk.cafe.business.id, lambda tx: tx.change(session, **values))

    await desk.issue()

    assert (session.id in {token.session_id for token in await desk.stored()}) is is_kept


# -- Scopes ---------------------------------------------------------------------------------------


async def test_a_scope_holds_what_was_asked_each_once(desk: Desk) -> None:
    card, other = [await a_card(desk.database, desk.owner) for _ in range(2)]
    asked = EventScopeInput(
        types=[STAMP, OPENED, STAMP],
        location_ids=[Id(desk.owner.location_id or "")],
        card_ids=[Id(card.id), Id(other.id), Id(card.id)],
        customer_ids=[Id(other.customer_id)],
    )

    assert await desk.scope_of(events=asked) == {
        "events": {
            "types": [str(STAMP), str(OPENED)],
            "location_ids": [desk.owner.location_id],
            "card_ids": [card.id, other.id],
            "customer_ids": [other.customer_id],
        }
    }
    assert await desk.scope_of(card=CardRef(number=card.number)) == {"card": card.id}


async def test_a_list_of_a_scope_holds_1_to_100(desk: Desk) -> None:
    customers = [Id((await a_customer(desk.database, desk.owner)).id) for _ in range(2)]

    scope = await desk.scope_of(events=EventScopeInput(customer_ids=customers * 60))
    assert scope == {"events": {"customer_ids": customers}}
    for ids in ([], [Id(new_id("c")) for _ in range(101)]):
        refusal = await desk.refusal(Invalid, events=EventScopeInput(customer_ids=ids))
        path = ["input", "events", "customerIds"]
        assert refusal == (Code.INVALID, "Between 1 and 100.", path)
    hundred = [Id(new_id("c")) for _ in range(100)]
    refusal = await desk.refusal(NotFound, events=EventScopeInput(customer_ids=hundred))
    assert refusal[1] == "There is no such customer."


@pytest.mark.parametrize(
    ("name", "path", "what"),
    [
        ("location_ids", "locationIds", "location"),
        ("card_ids", "cardIds", "card"),
        ("customer_ids", "customerIds", "customer"),
    ],
)
async def test_a_scope_names_nothing_of_another_business(
    desk: Desk, name: str, path: str, what: str
) -> None:
    other = await a_business(desk.database)
    there = await a_card(desk.database, other.owner)
    here = await a_card(desk.database, desk.owner)
    ids = {
        "location_ids": [desk.owner.location_id, other.owner.location_id],
        "card_ids": [here.id, there.id],
        "customer_ids": [here.customer_id, there.customer_id],
    }

    refusal = await desk.refusal(NotFound, events=EventScopeInput(**{name: ids[name]}))

    assert refusal == (Code.NOT_FOUND, f"There is no such {what}.", ["input", "events", path])


async def test_a_scope_is_a_card_or_events_and_not_both(desk: Desk) -> None:
    card = await a_card(desk.database, desk.owner)
    ref = CardRef(id=Id(card.id))
    told = "Give card or events, and not both."

    for input in ({"expires_in": 60}, {"card": ref, "events": EventScopeInput()}):
        assert await desk.refusal(Invalid, **input) == (Code.INVALID, told, ["input"])
    await desk.do(delete_card, desk.owner, DeleteCardInput(id=Id(card.id)), NOW)
    refusal = await desk.refusal(Refused, card=ref)
    path = ["input", "card"]
    assert refusal == (Code.CARD_DELETED, "This card was deleted.", path)
    unknown = CardRef(id=Id(new_id("card")))
    assert (await desk.refusal(NotFound, card=unknown))[2] == path


# -- What a token sees ----------------------------------------------------------------------------

LISTS = ("types", "location_ids", "card_ids", "customer_ids")


def with_scope(scope: dict[str, Any]) -> Actor:
    """Whoever comes with a token of this scope."""
    business: Any = Business.model_construct(id="b_1")
    return Actor(business, token=AccessToken.model_construct(scope=scope))


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("allowed", "asked", "left"),
    [
        (None, None, None),
        (None, ["a"], ["a"]),
        (["a", "b"], None, ["a", "b"]),
        (["a", "b"], ["b", "c"], ["b"]),
        (["a"], ["c"], []),
        (["a"], [], []),
    ],
)
def test_a_filter_keeps_within_the_scope(name: str, allowed: Any, asked: Any, left: Any) -> None:
    actor = with_scope({"events": {} if allowed is None else {name: allowed}})
    wanted = EventFilter(**{name: asked}, since=NOW, until=NOW + HOUR)

    found = filter_within(actor, wanted)

    assert found == replace(wanted, **{name: left})


def test_without_a_filter_the_scope_is_the_filter() -> None:
    actor = with_scope({"events": {"card_ids": ["card_1"]}})

    assert filter_within(actor, None) == EventFilter(card_ids=["card_1"])


def test_whoever_has_no_token_filters_as_they_like() -> None:
    business: Any = Business.model_construct(id="b_1")
    wanted = EventFilter(search="Siti", card_ids=["card_1"])

    assert filter_within(Actor(business), wanted) is wanted
    assert filter_within(Actor(business), None) == EventFilter()


def test_a_token_searches_nobody_and_one_of_a_card_lists_no_events() -> None:
    with pytest.raises(Forbidden, match="does not search people"):
        filter_within(with_scope({"events": {}}), EventFilter(search=""))
    with pytest.raises(Forbidden, match="does not reach this"):
        filter_within(with_scope({"card": "card_1"}), EventFilter())


async def test_a_token_of_a_card_sees_it_and_no_other(desk: Desk) -> None:
    mine, other = [await a_card(desk.database, desk.owner) for _ in range(2)]
    bearer = await desk.bearer(card=CardRef(id=Id(mine.id)))

    async def shown(actor: Actor, card: Card) -> bool:
        return await desk.database.read(actor.business_id, lambda tx: is_shown(tx, actor, card))

    assert [await shown(bearer, mine), await shown(bearer, other)] == [True, False]
    assert [await shown(desk.owner, mine), await shown(desk.owner, other)] == [True, True]
    with pytest.raises(Forbidden, match="does not reach this"):
        await shown(await desk.bearer(), mine)
    ghost = replace(bearer, token=with_scope({"card": new_id("card")}).token)
    assert await shown(ghost, mine) is False


async def test_a_token_of_a_card_follows_it_into_another(desk: Desk) -> None:
    mine = await a_card(desk.database, desk.owner)
    kept = await a_card(desk.database, desk.owner, mine.template_id)
    bearer = await desk.bearer(card=CardRef(id=Id(mine.id)))
    told = MergeCustomersInput(keep_id=Id(kept.customer_id), merge_id=Id(mine.customer_id))
    await desk.do(merge_customers, desk.owner, told, NOW)

    found = await desk.database.read(desk.cafe.business.id, lambda tx: is_shown(tx, bearer, kept))

    assert found is True


def test_a_token_names_no_card_by_who_holds_it() -> None:
    held = CardRef(holder=HolderRef(template_id=Id("ct_1"), customer=CustomerRef(id=Id("c_1"))))
    business: Any = Business.model_construct(id="b_1")
    bearer = with_scope({"card": "card_1"})

    check_ref(Actor(business), held)
    for ref in (CardRef(id=Id("card_1")), CardRef(number="7"), CardRef(token="t")):
        check_ref(bearer, ref)
    with pytest.raises(Forbidden, match="names a card by id, number or token"):
        check_ref(bearer, held)


REACHED: dict[Reach, set[type[Row]]] = {
    Reach.CARD: {
        Card, CardTemplate, CardTemplateVersion, Customer, Goal, VoucherTemplate, CardPlatform,
        Voucher,
    },
    Reach.EVENTS: {
        Card, CardTemplate, CardTemplateVersion, Customer, Goal, VoucherTemplate, Location,
        LotteryTicket, Operation, Reward, Voucher,
    },
}  # fmt: skip
SCOPES = {Reach.CARD: {"card": "card_1"}, Reach.EVENTS: {"events": {"types": ["stamp_added"]}}}


@pytest.mark.parametrize("reach", Reach)
def test_a_token_reaches_these_rows_and_no_others(reach: Reach) -> None:
    bearer = with_scope(SCOPES[reach])
    reached = set()
    for kind in Row.__subclasses__():
        try:
            check_reach(bearer, kind)
        except Forbidden as refusal:
            told = str(refusal)
        else:
            reached.add(kind)

    assert reached == REACHED[reach]
    assert told == "An access token does not reach this."
    assert not {Staff, ApiKey, AccessToken, WebhookEndpoint} & reached
    business: Any = Business.model_construct(id="b_1")
    check_reach(Actor(business), Staff)


def test_tokens_of_one_scope_have_one_authority() -> None:
    scopes = [{"events": {"a": ["1"], "b": []}}, {"events": {"b": [], "a": ["1"]}}, {"card": "a"}]

    first, same, other = (AccessToken.model_construct(scope=scope) for scope in scopes)

    assert first.authority == same.authority != other.authority
    assert (first.card_id, other.card_id) == (None, "a")
    assert (first.events, other.events) == (scopes[0]["events"], {})
    assert (first.reach, other.reach) == (Reach.EVENTS, Reach.CARD)
