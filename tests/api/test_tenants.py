"""Nothing crosses from one business to another: what is foreign looks like what never was."""

import json
import re
from typing import Any

import pytest
from graphql import GraphQLSchema, get_named_type, is_object_type
from sqlmodel import col, select

from core.ids import new_id, prefix_of
from db import BUSINESS, query
from factories import stamps
from models import Card, EventRow
from patience import until
from samples import (
    KINDS,
    Place,
    Things,
    arguments,
    document,
    places,
    selection,
    things_of,
)

ROOTS = ("Query", "Mutation", "Subscription")
INSIDE = {
    "Card.vouchers": "query($id: ID!, $filter: VoucherFilter) { card(ref: {id: $id}) "
    "{ vouchers(filter: $filter) { totalCount nodes { id } } } }",
}
"""How the fields beneath the roots that take ids are reached, through a thing of one's own."""
LABEL = "Canary"
_EVENTS = query(select(EventRow).where(col(EventRow.business_id) == BUSINESS))


@pytest.fixture(
    params=["both walls", pytest.param("the second alone", marks=pytest.mark.on("postgres"))],
    autouse=True,
)
def walls(request: pytest.FixtureRequest) -> str:
    """What keeps the tenants apart: statements that name the business, or the database alone."""
    if request.param == "the second alone":
        request.getfixturevalue("robbed")
    return str(request.param)


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


@pytest.fixture
async def theirs(open_house: Any) -> tuple[Any, Things]:
    """Another café, everything in it named so that one can tell."""
    house = await open_house(name=f"{LABEL} café")
    return house, await things_of(house.database, house.actor, house.deployment.secrets, LABEL)


@pytest.fixture
async def ours(house: Any) -> Things:
    """Our own things."""
    return await things_of(house.database, house.actor, house.deployment.secrets, "Ours")


def never(value: str) -> str:
    """A text of the same form that names nothing anywhere."""
    if prefix := prefix_of(value):
        return new_id(prefix)
    if value.startswith("+"):
        return "+628999999999"
    if "@" in value:
        return "nobody-at-all@mail.example"
    if value.isdecimal():
        return str(10 ** len(value) - 1)
    return "x" * len(value)


def told(answer: Any) -> str:
    """An answer's text, but for the request's own id, and what the caller has left to spend."""
    return re.sub(r'"requestId": "[0-9a-f]+"|"remaining": [0-9.]+', "", json.dumps(answer.body))


def test_every_place_for_an_id_is_known(schema: GraphQLSchema) -> None:
    """The walk itself fails where a new place has no kind; here, where a row is left over."""
    walked = {str(place) for root in ROOTS for place in places(schema, root)}
    beneath = {
        f"{kind.name}.{name}"
        for kind in schema.type_map.values()
        if is_object_type(kind) and kind.name not in ROOTS
        for name in {place.field.partition(".")[2] for place in places(schema, kind.name)}
    }
    used = " ".join(walked)

    assert len(walked) > 120
    assert beneath == set(INSIDE)
    assert {key for key in KINDS if key.rpartition(".")[2] not in used} == set()


async def test_what_is_foreign_looks_like_what_never_was(
    house: Any, schema: GraphQLSchema, theirs: tuple[Any, Things], ours: Things, walls: str
) -> None:
    """With the second wall alone it is enough that nothing foreign shows or changes."""
    _, foreign = theirs
    before = await house.dump()
    different: dict[str, Any] = {}
    leaked: dict[str, Any] = {}
    for root in ("Query", "Mutation"):
        for place in places(schema, root):
            wanted = foreign[place.kind]
            ask = document(schema, place.field, 1)
            values = [wanted, never(wanted)] if walls == "both walls" else [wanted]
            answers = [
                await house.owner.call(ask, _asked(schema, place, ours, value)) for value in values
            ]
            assert "RATE_LIMITED" not in answers[0].codes, place  # it would prove nothing
            if told(answers[0]) != told(answers[-1]):
                different[str(place)] = [answer.body for answer in answers]
            if _leaks(answers[0], foreign, wanted):
                leaked[str(place)] = answers[0].body

    assert different == {}
    assert leaked == {}
    assert await house.dump() == before


def _asked(schema: GraphQLSchema, place: Place, ours: Things, value: str) -> dict[str, Any]:
    root, _, name = place.field.partition(".")
    shown: Any = schema.type_map[root]
    return arguments(shown.fields[name], ours, place.field, place.path, value)


def _leaks(answer: Any, foreign: Things, asked: str) -> list[str]:
    """What an answer tells of the others; what we asked for, we know."""
    text = json.dumps(answer.body)
    return [word for word in (LABEL, *foreign.ids.values()) if word in text and word != asked]


async def test_every_kind_of_id_is_nothing_to_others(
    house: Any, theirs: tuple[Any, Things], ours: Things
) -> None:
    ask = "query($id: ID!) { node(id: $id) { id __typename } }"
    other, foreign = theirs
    ids = [value for value in foreign.ids.values() if prefix_of(value)]
    ids += [other.actor.business_id, other.actor.staff_id, other.actor.location_id]

    nodes = [(await house.owner.do(ask, {"id": id}))["node"] for id in ids]
    # A channel is no node: some have no id.
    known = [value for value in ours.ids.values() if prefix_of(value) not in ("", "chn")]
    own = [(await house.owner.do(ask, {"id": value}))["node"]["id"] for value in known]

    assert nodes == [None] * len(ids)
    assert own == known


async def test_lists_beneath_our_own_things_find_nothing_foreign(
    house: Any, schema: GraphQLSchema, theirs: tuple[Any, Things], ours: Things
) -> None:
    _, foreign = theirs
    for place in places(schema, "Card"):
        [name] = place.path[1:]
        answer = await house.owner.do(
            INSIDE[place.field], {"id": ours["card"], "filter": {name: foreign[place.kind]}}
        )
        own = await house.owner.do(
            INSIDE[place.field], {"id": ours["card"], "filter": {name: ours[place.kind]}}
        )

        assert answer["card"]["vouchers"] == {"totalCount": 0, "nodes": []}
        assert own["card"]["vouchers"]["totalCount"] == 1


async def test_nothing_we_can_list_is_anothers(
    house: Any, schema: GraphQLSchema, theirs: tuple[Any, Things], ours: Things
) -> None:
    """Everything reachable from every root without naming a thing, as deep as it goes."""
    _, foreign = theirs
    query: Any = schema.query_type
    seen = ""
    for name, field in query.fields.items():
        if list(places(schema, "Query")) and any(
            place.field == f"Query.{name}" and len(place.path) == 1
            for place in places(schema, "Query")
        ):
            continue
        given = arguments(field, ours, f"Query.{name}")
        answer = await house.owner.call(document(schema, f"Query.{name}", 3), given)
        assert answer.codes == [], (name, answer.body)
        assert _leaks(answer, foreign, "") == [], name
        seen += told(answer)

    unseen = {kind for kind, value in ours.ids.items() if value not in seen}
    assert unseen == {"ticket"}  # told by its event, and found by its id


async def test_live_answers_tell_nothing_of_others(
    house: Any, schema: GraphQLSchema, theirs: tuple[Any, Things], ours: Things
) -> None:
    other, foreign = theirs
    subscription: Any = schema.subscription_type
    card = next(row for row in foreign.rows if isinstance(row, Card))
    waiting = {}
    async with house.owner.socket() as socket:
        for place in places(schema, "Subscription"):
            for value in (foreign[place.kind], never(foreign[place.kind])):
                name = place.field.partition(".")[2]
                shown = subscription.fields[name]
                given = arguments(shown, ours, place.field, place.path, value)
                words = ", ".join(f"${one}: {shown.args[one].type}" for one in given)
                handed = ", ".join(f"{one}: ${one}" for one in given)
                below = selection(schema, get_named_type(shown.type), 0)
                ask = f"subscription({words}) {{ {name}({handed}){below} }}"
                waiting.setdefault(str(place), []).append(await socket.subscribe(ask, given))
        everything = await socket.subscribe("subscription { events { id } }")
        of_the_log = [one for place, both in waiting.items() if ".events(" in place for one in both]
        of_cards = [one for place, both in waiting.items() if ".card(" in place for one in both]
        assert len(of_the_log) + len(of_cards) == 2 * len(waiting)
        await house.until_followed(1 + len(of_the_log))
        await until(lambda: all(one.inbox.qsize() >= 2 for one in of_cards))
        async with other.owner.socket() as their_socket:
            witness = await their_socket.subscribe("subscription { events { id } }")
            await house.until_followed(2 + len(of_the_log))
            await stamps(other.database, other.actor, card, 1)
            await witness.next()
        # Who sees what is ours shows that the feeds have told everybody what is theirs.
        [mine] = [row for row in ours.rows if isinstance(row, Card)][:1]
        await stamps(house.database, house.actor, mine, 1)
        own = await everything.next()
        said = {place: [_drained(one) for one in both] for place, both in waiting.items()}
        silent = await everything.is_silent()

    assert len(said) > 5
    assert {place: both for place, both in said.items() if both[0] != both[1]} == {}
    assert {str(both[0]) for place, both in said.items() if ".events(" in place} == {"[]"}
    null = [("next", {"data": {"card": None}}), ("complete", None)]
    assert [both[0] for place, both in said.items() if ".card(" in place] == [null] * 7
    assert own["events"]["id"] in {row.id for row in await house.all(_EVENTS)}
    assert silent


def _drained(one: Any) -> list[tuple[str, Any]]:
    messages = []
    while not one.inbox.empty():
        message = one.inbox.get_nowait()
        messages.append((message["type"], message.get("payload")))
    return messages


async def test_a_customer_of_both_is_two_customers(
    house: Any, theirs: tuple[Any, Things], ours: Things
) -> None:
    ask = """mutation($input: IssueCardInput!) { issueCard(input: $input) {
        customer: card { customer { id name } } created customerCreated } }"""
    _, foreign = theirs
    asked = {"templateId": ours["template"], "customer": {"email": foreign["email"]}}

    made = (await house.owner.do(ask, {"input": asked}))["issueCard"]

    assert (made["created"], made["customerCreated"]) == (True, True)
    assert made["customer"]["customer"]["name"] is None
    assert made["customer"]["customer"]["id"] != foreign["customer"]
