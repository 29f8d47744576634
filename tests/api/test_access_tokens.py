"""Access tokens: what they read, all they do not, and when they die."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from graphql import (
    GraphQLSchema,
    get_named_type,
    is_interface_type,
    is_leaf_type,
    is_object_type,
    is_required_argument,
)
from sqlalchemy import func
from sqlmodel import col, select

from clients import Client
from core.clock import ManualClock
from core.errors import Forbidden
from core.ids import Id, new_id
from core.secrets import is_access_token, new_access_token
from db import BUSINESS, query
from events.log import head_of
from factories import a_card, a_card_template, a_location, a_staff, an_award_goal, stamps
from models import AccessToken, Actor, Card, Reach, Role
from models.relations import CONSENTS_OF_CUSTOMER, STAFF
from patience import PATIENCE
from resolvers.context import Context
from resolvers.nodes import node
from samples import Things, arguments, document, things_of
from schema.access import DECISIONS, NOTHING, decision_of
from schema.operation import operations
from services import access_tokens
from services.merging import MergeCustomersInput, merge_customers

CREATE = """mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) {
    secret expiresAt userErrors { code field message ... on LimitReached { retryAt } } } }"""
EVENTS = """query($filter: EventFilter, $after: String) {
    events(filter: $filter, after: $after, order: OLDEST_FIRST, first: 100) {
        totalCount nodes { id sequence type } } }"""
LIVE = """subscription($filter: EventFilter, $after: String) {
    events(filter: $filter, after: $after) { id sequence type } }"""
CARD = "query($ref: CardRef!) { card(ref: $ref) { id stamps customer { name } } }"
CARD_LIVE = "subscription($ref: CardRef!) { card(ref: $ref) { id stamps } }"
SESSION = """mutation($login: String!, $password: String!) {
    signIn(input: {login: $login, password: $password}) { session { secret } } }"""
DELETE = "mutation($id: ID!) { deleteApiKey(input: {id: $id}) { userErrors { code } } }"
REGENERATE = """mutation($id: ID!, $hours: Int) { regenerateApiKey(
    input: {id: $id, overlapHours: $hours}) { secret userErrors { code } } }"""
DISABLE = "mutation($id: ID!) { disableStaff(input: {id: $id}) { userErrors { code } } }"
ROLE = """mutation($id: ID!) {
    updateStaff(input: {id: $id, role: SCANNER}) { userErrors { code } } }"""
MOVE = """mutation($id: ID!) {
    updateStaff(input: {id: $id, locationId: null}) { userErrors { code } } }"""
BEGINNING = "ZXZ0OjA"
COUNT = query(
    select(func.count(col(AccessToken.id))).where(col(AccessToken.business_id) == BUSINESS)
)


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


async def asked(client: Client, **input: Any) -> Any:
    """What createAccessToken answers."""
    return (await client.do(CREATE, {"input": input}))["createAccessToken"]


async def token_of(house: Any, client: Client | None = None, **input: Any) -> Client:
    """A client with a fresh token."""
    made = await asked(client or house.owner, **input)
    assert made["userErrors"] == []
    return house.client_of(made["secret"])


async def key_of(client: Client) -> str:
    """The id of the key a client calls with."""
    return (await client.do("{ viewer { apiKey { id } } }"))["viewer"]["apiKey"]["id"]


# -- What is decided. -----------------------------------------------------------------------------


@pytest.mark.on("sqlite")
def test_every_type_and_root_field_has_a_decision(schema: GraphQLSchema) -> None:
    """A new type, root field, or field of a readable type fails here until somebody decides."""
    shown = {
        name: kind
        for name, kind in schema.type_map.items()
        if is_object_type(kind) and not name.startswith("__")
    }
    undecided = [name for name, kind in shown.items() if decision_of(kind) is None]
    different = {
        name: set(kind.fields) ^ decision_of(kind).every
        for name, kind in shown.items()
        if name not in undecided
    }

    assert undecided == []
    assert {name: fields for name, fields in different.items() if fields} == {}
    assert (set(DECISIONS) | NOTHING) - set(schema.type_map) == set()
    assert set(DECISIONS) & NOTHING == set()


@pytest.mark.on("sqlite")
def test_no_token_reaches_staff_or_what_opens_a_door(schema: GraphQLSchema) -> None:
    """By the table alone: which types each kind of token can come to, wherever it begins."""
    reached = {reach: {place.kind for place in places(schema, reach, "card_x")} for reach in Reach}

    assert reached[Reach.CARD] == {
        "Card", "CardTemplate", "Customer", "Goal", "Money", "NextGoal", "PageInfo", "RateLimit",
        "Voucher", "VoucherCode", "VoucherConnection", "VoucherEdge", "VoucherTemplate",
    }  # fmt: skip
    events = {kind.name for kind in schema.get_possible_types(schema.type_map["Event"])}
    assert reached[Reach.EVENTS] - events == {
        "CampaignFacts", "Card", "CardTemplate", "Customer", "EventConnection", "EventEdge",
        "EventSample", "Location", "LotteryResult", "LotteryTicket", "NextGoal", "Operation",
        "PageInfo", "RateLimit", "Reward", "Voucher",
    }  # fmt: skip


class Place:
    """A type at the end of a way from a root, and how a document goes there."""

    def __init__(self, kind: str, head: str, depth: int) -> None:
        self.kind, self.head, self.depth = kind, head, depth

    def asking(self, fields: str) -> str:
        return f"{self.head} {{ __typename {fields} " + "}" * self.depth


def places(schema: GraphQLSchema, reach: Reach, card_id: str) -> Iterator[Place]:
    """Every type a token can come to, by the shortest way."""
    roots = {
        "card": f'card(ref: {{id: "{card_id}"}})',
        "events": "events(first: 100)",
        "eventSample": "eventSample(type: STAMP_ADDED)",
        "rateLimit": "rateLimit",
    }
    query_type: Any = schema.query_type
    waiting = [
        (get_named_type(query_type.fields[name].type), "{ " + roots[name], 2)
        for name in sorted(DECISIONS["Query"].fields(reach))
    ]
    seen: set[str] = set()
    for kind, head, depth in waiting:
        if is_interface_type(kind):
            waiting += [
                (one, f"{head} {{ ... on {one.name}", depth + 1)
                for one in schema.get_possible_types(kind)
            ]
        elif kind.name not in seen:
            seen.add(kind.name)
            yield Place(kind.name, head, depth)
            waiting += [
                (get_named_type(kind.fields[name].type), f"{head} {{ {name}", depth + 1)
                for name in sorted(decision_of(kind).fields(reach))
                if not is_leaf_type(get_named_type(kind.fields[name].type))
            ]


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("reach", Reach)
async def test_each_field_is_read_or_refused_as_decided(
    house: Any, schema: GraphQLSchema, reach: Reach
) -> None:
    """Every field of every type a token can come to, asked for over HTTP, one by one."""
    things = await things_of(house.database, house.actor, house.deployment.secrets, "Canary")
    scope = {"card": {"id": things["card"]}} if reach is Reach.CARD else {"events": {}}
    app = await token_of(house, **scope)
    faults, seen, met = {}, "", set()
    for place in places(schema, reach, things["card"]):
        kind: Any = schema.type_map[place.kind]
        may = decision_of(kind).fields(reach)
        allowed = " ".join(_selected(kind, name) for name in sorted(may))
        answer = await app.call(place.asking(allowed))
        seen += json.dumps(answer.body)
        if answer.codes:
            faults[place.kind] = answer.body["errors"]
        is_there = f'"__typename": "{place.kind}"' in json.dumps(answer.body)
        met |= {place.kind} if is_there else set()
        for name in set(kind.fields) - may:
            refused = await app.call(place.asking(_selected(kind, name)))
            seen += json.dumps(refused.body)
            if is_there and set(refused.codes) != {"FORBIDDEN"}:
                faults[f"{place.kind}.{name}"] = refused.body

    assert faults == {}
    assert len(met) >= 11
    people = ["Canary staff", "Canary keyed", "Ayu", house.cafe.login, things["email"]]
    people += [things["phone"]]
    if reach is Reach.EVENTS:
        people += ["Canary person", things["card_token"], things["voucher_token"]]
    assert [word for word in people if word in seen] == []


def _selected(kind: Any, name: str) -> str:
    told = kind.fields[name]
    assert not any(is_required_argument(one) for one in told.args.values())
    return name if is_leaf_type(get_named_type(told.type)) else f"{name} {{ __typename }}"


@pytest.mark.on("sqlite")
@pytest.mark.parametrize("reach", Reach)
async def test_every_other_root_is_forbidden_and_changes_nothing(
    house: Any, schema: GraphQLSchema, reach: Reach
) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    scope = {"card": {"id": things["card"]}} if reach is Reach.CARD else {"events": {}}
    app = await token_of(house, **scope)
    before = await house.dump()
    answers = {}
    async with app.socket() as socket:
        for type_name in ("Subscription", "Query", "Mutation"):
            kind: Any = schema.type_map[type_name]
            allowed = decision_of(kind).fields(reach)
            for name in set(kind.fields) - allowed:
                given = arguments(kind.fields[name], things, f"{type_name}.{name}")
                text = document(schema, f"{type_name}.{name}", 0)
                if type_name != "Subscription":
                    answers[name] = (await app.call(text, given)).codes
                    if reach is Reach.CARD:
                        continue
                told = await socket.subscribe(text, given)
                message = await told.message()
                payload = message["payload"]
                errors = payload if message["type"] == "error" else payload["errors"]
                answers[name, "socket"] = [error["extensions"]["code"] for error in errors]

    assert len(answers) > 80
    assert answers == {key: ["FORBIDDEN"] for key in answers}
    assert await house.dump() == before


@pytest.mark.on("sqlite")
async def test_no_other_way_leads_round(house: Any) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets, "Canary")
    of_events = await token_of(house, events={})
    of_card = await token_of(house, card={"id": things["card"]})
    ids = [value for value in things.ids.values() if "_" in value]
    documents = [
        *(f'{{ node(id: "{id}") {{ id ... on Customer {{ email }} }} }}' for id in ids),
        "{ a: viewer { b: actor { c: name } } }",
        "query { ...F } fragment F on Query { staff { nodes { login } } }",
        "{ ... on Query { customers { nodes { email } } } }",
        "{ ... @include(if: true) { apiKeys { nodes { hint } } } }",
        "{ events { nodes { ... on Node { ... on Event { x: actor { name } } } } } }",
        "{ events { nodes { ... on StampAdded { operation { actor { name } } } } } }",
        "{ events { nodes { customer { cards { nodes { id } } } } } }",
        "{ events { nodes { card { history { nodes { id } } } } } }",
        "{ events { nodes { card { customer { email } } } } }",
        (
            "{ events { edges { node { ... on CardIssued { card { ...C } } } } } } "
            "fragment C on Card { token joinUrl vouchers { nodes { token } } }"
        ),
    ]
    answers = [
        (await client.call(text)).body for client in (of_events, of_card) for text in documents
    ]

    assert {error["extensions"]["code"] for answer in answers for error in answer["errors"]} == {
        "FORBIDDEN"
    }
    assert all(answer["errors"] for answer in answers)
    assert not [word for word in (things["email"], "Canary staff") if word in json.dumps(answers)]


@pytest.mark.on("sqlite")
async def test_services_and_resolvers_refuse_a_token_by_themselves(house: Any) -> None:
    """Whatever the schema's guard lets through, what lies beneath it is held to its reach too."""
    for scope in ({"events": {}}, {"card": new_id("card")}):
        actor = replace(house.actor, token=AccessToken(scope=scope))
        context = Context(house.deployment, caller=actor)
        tries: list[Any] = [
            lambda service=service, actor=actor: service(None, actor, None, None)
            for service in operations.values()
            if hasattr(service, "roles")
        ]
        tries += [
            lambda context=context: context.read(head_of),
            lambda context=context: context.one(STAFF, house.actor.staff_id),
            lambda context=context: context.many(CONSENTS_OF_CUSTOMER, new_id("c")),
            lambda context=context: node(context, house.actor.location_id),
        ]

        for attempt in tries:
            with pytest.raises(Forbidden):
                await attempt()
        assert len(tries) > 50


@pytest.mark.on("sqlite")
async def test_the_plain_routes_take_no_token(house: Any) -> None:
    app = await token_of(house, events={})
    url = house.owner.server.url
    calls = [
        ("POST", "/hooks", {"url": "https://example.com/"}),
        ("DELETE", f"/hooks/{new_id('wh')}", None),
        ("GET", "/hooks/sample/stamp_added", None),
        ("POST", "/uploads", None),
    ]
    told = {}
    for method, path, body in calls:
        async with app.session.request(
            method, f"{url}{path}", json=body, headers=app.headers
        ) as answer:
            told[path] = answer.status

    assert set(told.values()) == {403}


# -- A token for events: its scope cannot be widened. ---------------------------------------------


class Scene:
    """Two places, two cards, and who stamps where."""

    def __init__(self, house: Any, here: Any, there: Any, staff: Actor, cards: list[Card]) -> None:
        self.house, self.here, self.there, self.staff = house, here, there, staff
        self.mine, self.other = cards

    async def stamp(self) -> None:
        """A stamp on each card, in each place."""
        for actor in (self.house.actor, self.staff):
            for card in (self.mine, self.other):
                await stamps(self.house.database, actor, card, 1)


@pytest.fixture
async def scene(house: Any) -> Scene:
    """Events 1 and 2 issue the cards; 3 to 6 stamp them, here (3, 4) and there (5, 6)."""
    there = await a_location(house.database, house.actor)
    staff = await a_staff(house.database, house.actor, Role.SCANNER, location_id=there.id)
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    cards = [
        await a_card(house.database, house.actor, template.id, email=f"{name}@mail.example")
        for name in ("mine", "other")
    ]
    made = Scene(house, house.actor.location_id, there, staff, cards)
    await made.stamp()
    return made


def filters(scene: Scene) -> dict[str, tuple[Any, Any, list[int]]]:
    """Scopes, filters, and the events that both let through."""
    here, there = scene.here, scene.there.id
    mine, other = scene.mine, scene.other
    nowhere = new_id("loc")
    return {
        "all": ({}, None, [1, 2, 3, 4, 5, 6]),
        "types": ({"types": ["STAMP_ADDED"]}, None, [3, 4, 5, 6]),
        "other types": ({"types": ["STAMP_ADDED"]}, {"types": ["CARD_ISSUED"]}, []),
        "more types": (
            {"types": ["STAMP_ADDED"]}, {"types": ["CARD_ISSUED", "STAMP_ADDED"]}, [3, 4, 5, 6],
        ),
        "there": ({"locationIds": [there]}, None, [5, 6]),
        "null": ({"locationIds": [there]}, {"locationIds": None}, [5, 6]),
        "here": ({"locationIds": [there]}, {"locationIds": [here]}, []),
        "both": ({"locationIds": [there]}, {"locationIds": [here, there]}, [5, 6]),
        "nowhere": ({"locationIds": [there]}, {"locationIds": [nowhere]}, []),
        "card": ({"cardIds": [mine.id]}, {"cardIds": [other.id]}, []),
        "card there": ({"cardIds": [mine.id]}, {"locationIds": [there]}, [5]),
        "customer": ({"customerIds": [other.customer_id]}, {"types": ["STAMP_ADDED"]}, [4, 6]),
        "another": (
            {"customerIds": [other.customer_id]}, {"customerIds": [mine.customer_id]}, [],
        ),
        "of another": ({"customerIds": [other.customer_id]}, {"cardIds": [mine.id]}, []),
    }  # fmt: skip


async def test_a_filter_never_widens_the_scope(scene: Scene) -> None:
    house, cases = scene.house, filters(scene)
    by_query, by_socket, live = {}, {}, {}
    async with contextlib.AsyncExitStack() as open_:
        witness = await (await open_.enter_async_context(house.owner.socket())).subscribe(LIVE)
        told = {}
        for name, (scope, filter_, _) in cases.items():
            app = await token_of(house, events=scope)
            page = (await app.do(EVENTS, {"filter": filter_}))["events"]
            by_query[name] = [node["sequence"] for node in page["nodes"]]
            assert page["totalCount"] == len(by_query[name])
            socket = await open_.enter_async_context(app.socket())
            told[name] = [
                await socket.subscribe(LIVE, {"filter": filter_, "after": after})
                for after in (BEGINNING, None)
            ]
        for name, (replayed, _) in told.items():
            by_socket[name] = await sequences(replayed, len(by_query[name]))
        await house.until_followed(1 + 2 * len(cases))
        # The feed reads on only when all were told: who sees the eighth event shows that the
        # seventh has reached everybody whom it is for.
        for place in (7, 8):
            await stamps(house.database, scene.staff, scene.mine, 1)
            assert await sequences(witness, 1) == [place]
        for name, both in told.items():
            due = 2 * (5 in by_query[name])
            live[name] = [await sequences(one, due) for one in both]
        assert await witness.is_silent()
        live = {name: [seen + drained(one) for one, seen in zip(told[name], both, strict=True)]
                for name, both in live.items()}  # fmt: skip

    assert by_query == {name: wanted for name, (_, _, wanted) in cases.items()}
    assert by_socket == by_query
    # They are like the fifth.
    assert live == {name: [[7, 8] if 5 in seen else []] * 2 for name, seen in by_query.items()}


async def sequences(told: Any, count: int) -> list[int]:
    """The sequences of the next events."""
    return [answer["events"]["sequence"] for answer in await told.take(count)]


def drained(told: Any) -> list[int]:
    """The sequences that have come by now."""
    seen = []
    while not told.inbox.empty():
        message = told.inbox.get_nowait()
        assert message["type"] == "next", message
        seen.append(message["payload"]["data"]["events"]["sequence"])
    return seen


async def test_one_document_tells_each_caller_what_is_its_own(scene: Scene) -> None:
    """The same text from an owner and tokens of three scopes, at one moment: none shares."""
    house = scene.house
    scopes = [
        {"cardIds": [scene.mine.id]},
        {"cardIds": [scene.other.id]},
        {"types": ["CARD_ISSUED"]},
    ]
    apps = [house.owner, *[await token_of(house, events=scope) for scope in scopes]]
    async with contextlib.AsyncExitStack() as open_:
        sockets = [await open_.enter_async_context(app.socket()) for app in apps]
        told = [await socket.subscribe(LIVE) for socket in sockets]
        await house.until_followed(len(apps))
        await scene.stamp()
        seen = [await sequences(one, due) for one, due in zip(told, (4, 2, 2, 0), strict=True)]
        assert await told[0].is_silent()
        late = [drained(one) for one in told]

    assert seen == [[7, 8, 9, 10], [7, 9], [8, 10], []]
    assert late == [[]] * 4


@pytest.mark.on("sqlite")
async def test_a_token_does_not_search_people(scene: Scene) -> None:
    app = await token_of(scene.house, events={})
    found = {"filter": {"search": "mine@mail"}}
    nothing = {"filter": {"search": "nobody at all"}}

    answers = [await app.call(EVENTS, told) for told in (found, nothing)]
    async with app.socket() as socket:
        told = await (await socket.subscribe(LIVE, found)).message()

    assert [answer.codes for answer in answers] == [["FORBIDDEN"], ["FORBIDDEN"]]
    assert answers[0].body == answers[1].body
    [error] = told["payload"] if told["type"] == "error" else told["payload"]["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.on("sqlite")
async def test_events_come_over_sse_too_and_end_with_the_token(
    scene: Scene, clock: ManualClock
) -> None:
    house = scene.house
    app = await token_of(house, events={"cardIds": [scene.mine.id]}, expiresIn=2)
    headers = {**app.headers, "accept": "text/event-stream"}
    body = {"query": LIVE, "variables": {"after": BEGINNING}}
    async with app.session.post(app.server.graphql, json=body, headers=headers) as answer:
        text = ""
        while text.count('"sequence"') < 3:
            text += (await answer.content.readany()).decode()
        clock.advance(timedelta(seconds=2))
        async with asyncio.timeout(PATIENCE):
            text += (await answer.content.read()).decode()
    after = await app.call(EVENTS)

    assert text.count('"sequence"') == 3
    assert after.codes == ["UNAUTHENTICATED"]


# -- A token for a card. --------------------------------------------------------------------------


async def test_a_token_for_a_card_shows_it_and_no_other(scene: Scene) -> None:
    house, mine, other = scene.house, scene.mine, scene.other
    app = await token_of(house, card={"number": mine.number})
    own = [
        {"id": mine.id},
        {"number": mine.number},
        {"token": mine.token},
    ]
    foreign = [
        {"id": other.id},
        {"number": other.number},
        {"token": other.token},
        {"id": new_id("card")},
        {"number": "999999"},
    ]

    shown = [(await app.call(CARD, {"ref": ref})).body for ref in own]
    hidden = [(await app.call(CARD, {"ref": ref})).body for ref in foreign]

    guesses = [
        await app.call(
            CARD,
            {"ref": {"holder": {"templateId": mine.template_id, "customer": {"email": email}}}},
        )
        for email in ("mine@mail.example", "other@mail.example", "nobody@mail.example")
    ]

    person = {"name": None}
    assert shown == [{"data": {"card": {"id": mine.id, "stamps": 2, "customer": person}}}] * 3
    assert hidden == [{"data": {"card": None}}] * 5
    assert [answer.codes for answer in guesses] == [["FORBIDDEN"]] * 3


async def test_a_token_for_a_card_follows_it(scene: Scene) -> None:
    app = await token_of(scene.house, card={"id": scene.mine.id})
    async with app.socket() as socket:
        told = await socket.subscribe(CARD_LIVE, {"ref": {"id": scene.mine.id}})
        foreign = await socket.subscribe(CARD_LIVE, {"ref": {"id": scene.other.id}})
        first = await told.next()
        nothing = await foreign.next()
        await scene.stamp()
        later = [answer["card"]["stamps"] for answer in await told.take(2)]

    assert first == {"card": {"id": scene.mine.id, "stamps": 2}}
    assert nothing == {"card": None}
    assert later[-1] == 4


async def test_a_token_for_a_card_goes_with_it_when_its_holder_is_merged(scene: Scene) -> None:
    house, mine, other = scene.house, scene.mine, scene.other
    app = await token_of(house, card={"id": mine.id})
    told = MergeCustomersInput(keep_id=Id(other.customer_id), merge_id=Id(mine.customer_id))
    await house.database.write(
        house.actor.business_id,
        lambda tx: merge_customers(tx, house.actor, told, house.deployment.clock.now()),
    )

    shown = [(await app.do(CARD, {"ref": {"id": id}}))["card"]["id"] for id in (mine.id, other.id)]

    assert shown == [other.id, other.id]


# -- Issuing. -------------------------------------------------------------------------------------


async def test_what_a_token_may_be_asked_for(scene: Scene, open_house: Any) -> None:
    house = scene.house
    foreign = await open_house()
    elsewhere = await a_card(foreign.database, foreign.actor)
    refused: list[tuple[dict[str, Any], str, list[str]]] = [
        ({}, "INVALID", ["input"]),
        ({"card": {"id": scene.mine.id}, "events": {}}, "INVALID", ["input"]),
        ({"card": {"id": new_id("card")}}, "NOT_FOUND", ["input", "card"]),
        ({"card": {"id": elsewhere.id}}, "NOT_FOUND", ["input", "card"]),
        ({"events": {"cardIds": [elsewhere.id]}}, "NOT_FOUND", ["input", "events", "cardIds"]),
        ({"events": {"cardIds": []}}, "INVALID", ["input", "events", "cardIds"]),
        ({"events": {"types": []}}, "INVALID", ["input", "events", "types"]),
        (
            {"events": {"locationIds": [foreign.actor.location_id]}},
            "NOT_FOUND",
            ["input", "events", "locationIds"],
        ),
        (
            {"events": {"customerIds": [new_id("c") for _ in range(101)]}},
            "INVALID",
            ["input", "events", "customerIds"],
        ),
        ({"events": {}, "expiresIn": 0}, "INVALID", ["input", "expiresIn"]),
        ({"events": {}, "expiresIn": 86_401}, "INVALID", ["input", "expiresIn"]),
    ]
    before = await house.dump()
    told = [(await asked(house.owner, **input)) for input, _, _ in refused]

    errors = [
        (payload["userErrors"][0]["code"], payload["userErrors"][0]["field"]) for payload in told
    ]
    assert errors == [(code, field) for _, code, field in refused]
    assert [payload["secret"] for payload in told] == [None] * len(told)
    assert await house.dump() == before
    longest = await asked(house.owner, events={}, expiresIn=86_400)
    usual = await asked(house.owner, events={})
    assert longest["expiresAt"] == "2026-03-03T12:00:00Z"
    assert usual["expiresAt"] == "2026-03-02T13:00:00Z"


@pytest.mark.on("sqlite")
async def test_only_its_digest_is_kept(house: Any) -> None:
    secret = (await asked(house.owner, events={}))["secret"]

    stored = json.dumps(await house.dump(), default=str)

    assert is_access_token(secret)
    assert secret not in stored
    assert secret[4:] not in stored


@pytest.mark.on("sqlite")
async def test_a_wrong_checksum_is_refused_without_a_query(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = (await asked(house.owner, events={}))["secret"]
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    queries = []
    from services import access  # noqa: PLC0415 -- only here

    monkeypatch.setattr(access, "_TOKEN", _Counted(access._TOKEN, queries))

    by_wrong = await house.client_of(wrong).call(EVENTS)
    before = len(queries)
    by_unknown = await house.client_of(new_access_token()).call(EVENTS)

    assert (by_wrong.codes, by_unknown.codes) == (["UNAUTHENTICATED"], ["UNAUTHENTICATED"])
    assert (before, len(queries)) == (0, 1)


class _Counted:
    """A statement, and how often it was run."""

    def __init__(self, statement: Any, runs: list[int]) -> None:
        self._statement, self._runs = statement, runs

    def on(self, dialect: Any) -> Any:
        self._runs.append(1)
        return self._statement.on(dialect)


async def test_a_staff_login_has_so_many_live_ones(
    house: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "MOST_LIVE", 4)
    _, manager = await house.hire(Role.MANAGER)
    at_once = await asyncio.gather(
        *(asked(house.owner, events={}, expiresIn=60 + number) for number in range(12))
    )
    given = [payload for payload in at_once if payload["secret"]]
    [error] = {json.dumps(payload["userErrors"]) for payload in at_once if not payload["secret"]}
    by_another = await asked(manager, events={})
    clock.advance(timedelta(seconds=120))
    later = await asked(house.owner, events={})
    key = await key_of(house.owner)
    for _ in range(3):
        await asked(house.owner, events={})
    renewed = (await house.owner.do(REGENERATE, {"id": key}))["regenerateApiKey"]["secret"]
    after = await asked(house.client_of(renewed), events={})
    [stored] = await house.all(COUNT)

    assert len(given) == 4
    first_end = min(payload["expiresAt"] for payload in given)
    assert json.loads(error)[0]["code"] == "LIMIT_REACHED"
    assert json.loads(error)[0]["retryAt"] == first_end
    assert [payload["userErrors"] for payload in (by_another, later, after)] == [[], [], []]
    assert stored == 2, "those that died are thrown away with the next one issued"


# -- Its end. -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "of_key"),
    [(REGENERATE, True), (DELETE, True), (DISABLE, False), (ROLE, False), (MOVE, False)],
    ids=["key regenerated", "key deleted", "staff disabled", "role changed", "location changed"],
)
async def test_a_token_dies_with_what_issued_it(house: Any, change: str, of_key: bool) -> None:
    staff, client = await house.hire(Role.MANAGER)
    key = await key_of(client)
    app = await token_of(house, client, events={})
    async with app.socket() as socket:
        await socket.subscribe(LIVE)
        await house.until_followed(1)

        changed = await house.owner.do(change, {"id": key if of_key else staff.staff_id})
        code = await socket.close_code()
    after = await app.call(EVENTS)

    assert next(iter(changed.values()))["userErrors"] == []
    assert code == 4403
    assert after.codes == ["UNAUTHENTICATED"]


async def test_rights_that_come_back_bring_no_token_back(house: Any) -> None:
    staff, client = await house.hire(Role.MANAGER)
    disabled, demoted = [await token_of(house, client, events={}) for _ in range(2)]
    enable = "mutation($id: ID!) { enableStaff(input: {id: $id}) { userErrors { code } } }"
    promote = ROLE.replace("SCANNER", "MANAGER")
    told = {"id": staff.staff_id}

    await house.owner.do(ROLE, told)
    await house.owner.do(promote, told)
    after_role = (await demoted.call(EVENTS)).codes
    late = await token_of(house, client, events={})
    await house.owner.do(DISABLE, told)
    await house.owner.do(enable, told)
    after_all = [(await app.call(EVENTS)).codes for app in (disabled, late)]
    fresh = await token_of(house, client, events={})

    assert after_role == ["UNAUTHENTICATED"]
    assert after_all == [["UNAUTHENTICATED"], ["UNAUTHENTICATED"]]
    assert (await fresh.call(EVENTS)).codes == []


async def test_a_token_of_a_session_dies_with_it(house: Any) -> None:
    asked_in = {"login": house.cafe.login, "password": "correct horse battery"}
    secret = (await house.owner.do(SESSION, asked_in))["signIn"]["session"]["secret"]
    client = house.client_of(secret)
    app = await token_of(house, client, events={})
    async with app.socket() as socket:
        await socket.subscribe(LIVE)
        await client.do("mutation { signOut(input: {}) { userErrors { code } } }")

        code = await socket.close_code()

    assert code == 4403
    assert (await app.call(EVENTS)).codes == ["UNAUTHENTICATED"]


async def test_a_token_dies_with_the_secret_that_issued_it_not_with_its_successor(
    house: Any, clock: ManualClock
) -> None:
    """While an overlap lasts both secrets issue tokens; those of the former end with it."""
    old = house.owner
    before = await token_of(house, old, events={}, expiresIn=86_400)
    told = {"id": await key_of(old), "hours": 2}
    new = house.client_of((await old.do(REGENERATE, told))["regenerateApiKey"]["secret"])
    made = await asked(old, events={}, expiresIn=86_400)
    late = house.client_of(made["secret"])
    fresh = await token_of(house, new, events={}, expiresIn=86_400)

    during = [(await app.call(EVENTS)).codes for app in (before, late, fresh)]
    clock.advance(timedelta(hours=2))
    after = [(await app.call(EVENTS)).codes for app in (before, late, fresh)]

    assert made["expiresAt"] == "2026-03-02T14:00:00Z"
    assert during == [[], [], []]
    assert after == [["UNAUTHENTICATED"], ["UNAUTHENTICATED"], []]


@pytest.mark.on("sqlite")
async def test_a_tokens_own_end_closes_its_socket(house: Any, clock: ManualClock) -> None:
    app = await token_of(house, events={}, expiresIn=1)
    async with app.socket() as socket:
        await socket.subscribe(LIVE)
        clock.advance(timedelta(seconds=1))

        code = await socket.close_code()

    assert code == 4403
    assert (await app.call(EVENTS)).codes == ["UNAUTHENTICATED"]


async def test_a_token_of_one_business_sees_nothing_of_another(house: Any, open_house: Any) -> None:
    other = await open_house(name="Canary café")
    foreign: Things = await things_of(
        other.database, other.actor, other.deployment.secrets, "Canary"
    )
    app = await token_of(house, events={})
    asked_for = {"cardIds": [foreign["card"]], "locationIds": [foreign["location"]]}

    page = (await app.do(EVENTS, {"filter": asked_for}))["events"]
    everything = (await app.do(EVENTS))["events"]

    assert page == {"totalCount": 0, "nodes": []}
    assert everything["nodes"] == []


@pytest.mark.on("sqlite")
def test_references_are_named_as_everywhere() -> None:
    """The scope is kept by ids: whoever changes the input's words changes what is stored."""
    token = AccessToken(scope={"events": {"types": ["stamp_added"]}})

    assert (token.reach, token.card_id) == (Reach.EVENTS, None)
    assert token.events == {"types": ["stamp_added"]}
    assert AccessToken(scope={"card": "card_1"}).card_id == "card_1"
