"""Neither time, haste nor a mistaken id tells of what is not there: rows 30, 31 and 33."""

import asyncio
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from core.ids import new_id, prefix_of
from factories import a_card, a_customer
from samples import arguments, document, places, things_of

SAMPLES = 300
WITHIN = 0.10
"""By how much of a call's time medians may differ."""
ASK = "query($id: ID!) { card(ref: {id: $id}) { id customer { name } } node(id: $id) { id } }"


@pytest.mark.alone
async def test_what_is_foreign_takes_as_long_as_what_never_was(
    house: Any, open_house: Any, figure: Callable[[str], None]
) -> None:
    theirs = await open_house()
    card = await a_card(theirs.database, theirs.actor, email="theirs@mail.example")
    for last in (False, False, True):
        spent: dict[str, list[float]] = {"foreign": [], "missing": []}
        for number in range(SAMPLES):
            asked = [("foreign", card.id), ("missing", new_id("c"))]
            for name, id in asked if number % 2 else reversed(asked):
                began = time.perf_counter()
                answer = await house.owner.do(ASK, {"id": id})
                spent[name].append(time.perf_counter() - began)
                assert answer == {"card": None, "node": None}
        foreign, missing = median(spent["foreign"]), median(spent["missing"])
        figure(f"foreign {foreign * 1e6:.0f} µs, missing {missing * 1e6:.0f} µs")
        if abs(foreign - missing) <= WITHIN * missing:
            break
        assert not last, (foreign, missing)


async def test_two_businesses_at_once_never_meet(house: Any, open_house: Any) -> None:
    """The same documents, memoised once, run 1 000 times in turns and side by side."""
    other = await open_house()
    both = {"Alif canary": house, "Bima canary": other}
    for label, one in both.items():
        await a_customer(one.database, one.actor, name=label, email="same@mail.example")
    asks = (
        "{ customers(first: 5) { nodes { name email } } }",
        '{ customers(filter: {search: "same@mail.example"}) { totalCount nodes { id name } } }',
        "{ viewer { actor { id } business { id name } } customers { nodes { name } } }",
    )

    async def call(number: int, label: str) -> None:
        said = json.dumps(await both[label].owner.do(asks[number % len(asks)]))
        [foreign] = both.keys() - {label}
        assert label in said
        assert foreign not in said

    for start in range(0, 500, 20):
        await asyncio.gather(
            *(call(number, label) for number in range(start, start + 20) for label in both)
        )


@pytest.mark.on("sqlite")
async def test_an_id_of_another_type_is_nothing_wherever_it_is_given(house: Any) -> None:
    """Our own, of a thing that is there: the answer is that of an id that never was."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    schema: Any = _schema._schema
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    before = await house.dump()
    different, tried = {}, 0
    for root in ("Query", "Mutation"):
        fields: Any = schema.type_map[root].fields
        for place in places(schema, root):
            prefix = prefix_of(things[place.kind])
            if prefix is None or place.field == "Query.node":  # takes them all
                continue
            other = things["voucher" if prefix != prefix_of(things["voucher"]) else "customer"]
            shown, ask = fields[place.field.partition(".")[2]], document(schema, place.field, 1)
            mistaken, missing = [
                (await house.owner.call(ask, arguments(shown, things, place.field, place.path, id)))
                for id in (other, new_id(prefix))
            ]
            tried += 1
            said = [json.dumps([one.body.get("data"), one.codes]) for one in (mistaken, missing)]
            if said[0].replace(other, "") != said[1] or "INTERNAL_SERVER_ERROR" in mistaken.codes:
                different[str(place)] = said

    assert tried > 90
    assert different == {}
    assert await house.dump() == before
