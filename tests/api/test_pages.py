"""Lists: every one is covered once in both directions, and garbage is told apart from an end."""

from typing import Any

import pytest
from graphql import GraphQLSchema, get_named_type, is_required_argument

from factories import (
    a_card,
    a_card_template,
    a_customer,
    a_location,
    a_staff,
    a_voucher,
    a_voucher_template,
    an_award_goal,
    stamps,
)
from samples import an_endpoint

MANY = 7
"""How many things the lists here have, at least."""
FEWER = {
    "apiKeys": 1,
    "campaigns": 0,
    "importJobs": 0,
    "notices": 0,
    "pointsOfSale": 0,
    "refusedCalls": 0,
}
"""But these: what they list is made by time, by files, or one by one."""
CLAIM_CODES = """mutation($id: ID!, $count: Int!) {
    createClaimCodes(input: {templateId: $id, count: $count, stamps: 1}) {
        userErrors { code } } }"""


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


@pytest.fixture
async def full(house: Any) -> Any:
    """A café with several things of every kind that has a list."""
    database, actor, secrets = house.database, house.actor, house.deployment.secrets
    template = await a_card_template(database, actor, 50, [an_award_goal(50)])
    held = await a_card(database, actor, template.id)
    voucher_template = await a_voucher_template(database, actor)
    for number in range(MANY):
        await a_location(database, actor, name=f"Location {number}")
        await a_staff(database, actor)
        await a_card_template(database, actor, 3, [an_award_goal(3)], name=f"Card {number}")
        await a_voucher_template(database, actor, title=f"Voucher {number}")
        await a_customer(database, actor)
        await a_card(database, actor, template.id)
        await a_voucher(database, actor, voucher_template.id, held)
        await stamps(database, actor, held, 1)
        await an_endpoint(database, actor, secrets, f"Endpoint {number}")
    await house.owner.do(CLAIM_CODES, {"id": template.id, "count": MANY})
    return house


def lists(schema: GraphQLSchema) -> dict[str, bool]:
    """Every list of the schema that needs no id, and whether it can be read backwards."""
    query: Any = schema.query_type
    found = {}
    for name, field in query.fields.items():
        is_list = get_named_type(field.type).name.endswith("Connection")
        if is_list and not any(is_required_argument(told) for told in field.args.values()):
            found[name] = "last" in field.args
    return found


def ask(name: str) -> str:
    """The document that reads a page of a list."""
    return f"""query($first: Int, $after: String, $last: Int, $before: String) {{
        {name}(first: $first, after: $after, last: $last, before: $before) {{
            edges {{ cursor node {{ id }} }} nodes {{ id }} totalCount
            pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"""


async def walk(client: Any, name: str, size: int, *, backwards: bool) -> tuple[list[str], int]:
    """The ids of a list, read to its end in pages of a size; and what it says it has."""
    ids: list[str] = []
    cursor = None
    for _ in range(100):
        paging = {"last": size, "before": cursor} if backwards else {"first": size, "after": cursor}
        page = (await client.do(ask(name), paging))[name]
        told, info = [node["id"] for node in page["nodes"]], page["pageInfo"]
        assert [edge["node"]["id"] for edge in page["edges"]] == told
        cursors = [edge["cursor"] for edge in page["edges"]]
        assert [info["startCursor"], info["endCursor"]] == [cursors[0], cursors[-1]]
        ids = told + ids if backwards else ids + told
        here, there = ("hasPreviousPage", "hasNextPage")[:: 1 if backwards else -1]
        assert info[there] is (cursor is not None)
        if not info[here]:
            return ids, page["totalCount"]
        cursor = info["startCursor"] if backwards else info["endCursor"]
    raise AssertionError("the list has no end")


async def test_every_list_is_covered_once_in_both_directions(
    full: Any, schema: GraphQLSchema
) -> None:
    for name, is_two_way in lists(schema).items():
        whole = (await full.owner.do(ask(name), {"first": 100}))[name]
        ids = [node["id"] for node in whole["nodes"]]
        assert len(ids) == len(set(ids)) >= FEWER.get(name, MANY), name
        if not ids:
            continue

        for size in (3, len(ids)):
            assert await walk(full.owner, name, size, backwards=False) == (ids, len(ids)), name
            if is_two_way:
                assert await walk(full.owner, name, size, backwards=True) == (ids, len(ids)), name


async def test_a_cursor_keeps_its_place_while_things_are_added(full: Any) -> None:
    first = (await full.owner.do(ask("customers"), {"first": 3}))["customers"]
    log = """query($after: String) { events(order: OLDEST_FIRST, first: 3, after: $after) {
        nodes { sequence } pageInfo { endCursor } } }"""
    begun = (await full.owner.do(log))["events"]

    new = await a_customer(full.database, full.actor)
    await a_card(full.database, full.actor)
    after = {"first": 3, "after": first["pageInfo"]["endCursor"]}
    second = (await full.owner.do(ask("customers"), after))["customers"]
    before = {"last": 50, "before": first["pageInfo"]["startCursor"]}
    newer = (await full.owner.do(ask("customers"), before))["customers"]
    going = (await full.owner.do(log, {"after": begun["pageInfo"]["endCursor"]}))["events"]

    seen = [node["id"] for node in first["nodes"] + second["nodes"]]
    assert len(set(seen)) == 6
    assert seen == sorted(seen, reverse=True)
    assert [node["id"] for node in newer["nodes"]][-1] == new.id
    assert len(newer["nodes"]) == 2
    assert [node["sequence"] for node in begun["nodes"] + going["nodes"]] == [1, 2, 3, 4, 5, 6]


async def test_between_two_cursors_lies_what_is_between(full: Any) -> None:
    edges = (await full.owner.do(ask("cards"), {"first": 6}))["cards"]["edges"]
    bounds = {"after": edges[1]["cursor"], "before": edges[5]["cursor"]}

    forwards = (await full.owner.do(ask("cards"), {"first": 2, **bounds}))["cards"]
    backwards = (await full.owner.do(ask("cards"), {"last": 2, **bounds}))["cards"]

    ids = [edge["node"]["id"] for edge in edges]
    assert [node["id"] for node in forwards["nodes"]] == ids[2:4]
    assert [node["id"] for node in backwards["nodes"]] == ids[3:5]
    assert forwards["pageInfo"]["hasNextPage"] is True
    assert backwards["pageInfo"]["hasPreviousPage"] is True


async def test_sizes_out_of_bounds_and_foreign_cursors_are_bad_input(
    full: Any, schema: GraphQLSchema
) -> None:
    ours = {
        name: (await full.owner.do(ask(name), {"first": 1}))[name]["pageInfo"]["endCursor"]
        for name in ("cards", "customers", "events")
    }
    accepted = {}
    for name, is_two_way in lists(schema).items():
        foreign = [cursor for other, cursor in ours.items() if other != name]
        for bad in (
            {"first": 0},
            {"first": -1},
            {"first": 101},
            {"first": 2**31 - 1},
            {"after": ""},
            {"after": "garbage"},
            {"after": "Y2FyZDo"},
            {"after": "é"},
            {"after": "=" * 50},
            *({"after": cursor} for cursor in foreign),
            *(
                ({"last": 0}, {"last": -1}, {"last": 101}, {"first": 1, "last": 1}, {"before": "x"})
                if is_two_way
                else ()
            ),
        ):
            answer = await full.owner.call(ask(name), bad)
            if answer.codes != ["BAD_USER_INPUT"]:
                accepted[name, str(bad)] = answer.body

    assert accepted == {}


async def test_twenty_is_the_size_of_a_page_that_names_none(full: Any) -> None:
    for _ in range(20):
        await a_customer(full.database, full.actor)

    page = (await full.owner.do(ask("customers")))["customers"]

    assert len(page["nodes"]) == 20
    assert page["totalCount"] == 1 + 2 * MANY + 20
    assert page["pageInfo"]["hasNextPage"] is True


async def test_the_lists_of_a_thing_are_pages_too(full: Any) -> None:
    """Read for one card, and for many at once, they are the same."""
    one = """query($id: ID!, $first: Int!, $after: String) { card(ref: {id: $id}) {
        vouchers(first: $first, after: $after) { nodes { id } totalCount
            pageInfo { hasNextPage endCursor } } } }"""
    many = """query($first: Int!) { cards(first: 100) { nodes { id
        vouchers(first: $first) { nodes { id } totalCount
            pageInfo { hasNextPage endCursor } } } } }"""
    cards = (await full.owner.do(many, {"first": 3}))["cards"]["nodes"]
    [held] = [card for card in cards if card["vouchers"]["totalCount"]]

    first = (await full.owner.do(one, {"id": held["id"], "first": 3}))["card"]["vouchers"]
    after = {"id": held["id"], "first": 100, "after": first["pageInfo"]["endCursor"]}
    rest = (await full.owner.do(one, after))["card"]["vouchers"]

    assert held["vouchers"] == first
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (MANY, True)
    ids = [node["id"] for node in first["nodes"] + rest["nodes"]]
    assert len(set(ids)) == MANY
    assert ids == sorted(ids, reverse=True)
    assert rest["pageInfo"]["hasNextPage"] is False
    assert {len(card["vouchers"]["nodes"]) for card in cards if card is not held} == {0}


async def test_totals_follow_the_filter(full: Any) -> None:
    ask_ = """query($filter: CardFilter) { cards(filter: $filter, first: 2) {
        nodes { number template { id } } totalCount } }"""
    everything = (await full.owner.do(ask_))["cards"]
    [one, *_] = everything["nodes"]

    by_number = (await full.owner.do(ask_, {"filter": {"search": one["number"]}}))["cards"]
    template = {"templateId": one["template"]["id"]}
    by_template = (await full.owner.do(ask_, {"filter": template}))["cards"]
    none = (await full.owner.do(ask_, {"filter": {"search": "nobody has this name"}}))["cards"]
    odd = (await full.owner.do(ask_, {"filter": {"search": "%"}}))["cards"]

    assert (everything["totalCount"], by_template["totalCount"]) == (MANY + 1, MANY + 1)
    assert by_number == {"nodes": [one], "totalCount": 1}
    assert none == odd == {"nodes": [], "totalCount": 0}
