"""Plans and graphql-core answer alike, byte for byte, whatever is asked, on both databases."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from graphql import OperationType, VariableNode, get_operation_ast, parse, validate
from strawberry.http import GraphQLRequestData

from contract.test_contract import OPERATIONS
from core.buckets import LocalBuckets
from core.settings import Execution
from execution.documents import check_document
from execution.plans import cache
from execution.plans.cache import Plan
from execution.plans.leaves import Dropped
from execution.running import Ready, Runner
from factories import NOW, a_card, a_voucher, stamps
from houses import House
from models import AccessToken, Actor, Card, Reach, Role, encode_cursor
from resolvers.context import Context
from samples import Things, arguments, document, things_of
from wild import Writer

AT_RANDOM = 60
NEVER_TWICE = {"eventSample"}
"""Root fields whose answers have something new in them each time."""
UNPLANNED = {"canRedeem"}
"""Root fields that leave traces, and so are in no plan."""
_NAME_OF_FAULT = re.compile(rb'(?<=requestId":")\w+')


class Pair:
    """Both ways to execute, and what each answers."""

    def __init__(self, house: House) -> None:
        self.house, settings = house, house.deployment.settings
        self.schema = house.view.schema
        self.core: Any = self.schema._schema
        slow = settings.model_copy(update={"execution": Execution.GRAPHQL})
        self.plans, self.graphql = Runner(self.schema, settings), Runner(self.schema, slow)

    def plan(self, ready: Ready) -> Plan | None:
        """The plan there is for a document."""
        assert self.plans._plans
        return self.plans._plans.plan(ready.text, ready.checked, ready.operation, ready.variables)

    async def compare(
        self, text: str, variables: dict[str, Any] | None = None, actor: Actor | None = None
    ) -> bool:
        """See that both give the same answer; says whether there was a plan for it.

        There is one for every answer without errors, and for no other.
        """
        context = Context(self.house.deployment, caller=actor)
        ready = self.ready(text, variables, context)
        slow = await self._answer(self.graphql, ready, context)
        for _ in range(2):  # the second time rows are read in part
            assert await self._answer(self.plans, ready, context) == slow, text
        is_planned = await self.plans._planned(context, ready) is not None
        has_traces = any(name in text for name in UNPLANNED)
        assert is_planned is ("errors" not in orjson.loads(slow) and not has_traces), text
        return is_planned

    def ready(self, text: str, variables: dict[str, Any] | None, context: Context) -> Ready:
        """A document that may run."""
        asked = GraphQLRequestData(text, variables, None, None, "http")
        _, ready = self.plans.ready(asked, context)
        assert ready is not None, text
        return ready

    async def _answer(self, runner: Runner, ready: Ready, context: Context) -> bytes:
        deployment = replace(context.deployment, buckets=LocalBuckets())
        context = replace(context, deployment=deployment, _loaders={})
        body = (await runner.run(context, ready)).body
        return _NAME_OF_FAULT.sub(b"0", body)


@pytest.fixture
async def pair(house: House) -> Pair:
    return Pair(house)


@pytest.fixture
async def things(house: House) -> Things:
    """A house with something in every list."""
    database, actor = house.database, house.actor
    made = await things_of(database, actor, house.deployment.secrets)
    for number in range(4):
        card = await a_card(database, actor, made["template"], email=f"{number}@plans.example")
        await stamps(database, actor, card, number + 1)
        await a_voucher(database, actor, made["voucher_template"], card)
    return made


async def test_whatever_is_asked_at_random(pair: Pair, things: Things) -> None:
    limits, planned = pair.house.deployment.settings.document_limits, 0
    for text, variables in Writer(pair.core, things.ids, seed=20).documents(AT_RANDOM):
        assert validate(pair.core, parse(text)) == [], text
        if not check_document(pair.core, text, limits).errors:
            planned += await pair.compare(text, variables, pair.house.actor)
    assert planned > AT_RANDOM * 0.9


async def test_everything_of_each_root_field(pair: Pair, things: Things) -> None:
    for name, field in pair.core.query_type.fields.items():
        if name not in NEVER_TWICE:
            text = document(pair.core, f"Query.{name}", depth=2)
            given = arguments(field, things, f"Query.{name}")
            assert await pair.compare(text, given, pair.house.actor) is (name not in UNPLANNED)


async def test_every_query_of_the_contract(pair: Pair, things: Things) -> None:
    for text in OPERATIONS.values():
        operation = get_operation_ast(parse(text))
        assert operation
        if operation.operation is not OperationType.QUERY:
            continue
        given: dict[str, Any] = {}
        for node in operation.selection_set.selections:
            field: Any = node
            name = field.name.value
            known = arguments(pair.core.query_type.fields[name], things, f"Query.{name}")
            for argument in field.arguments or ():
                if isinstance(argument.value, VariableNode) and argument.name.value in known:
                    given[argument.value.name.value] = known[argument.name.value]
        if "$after: String!" in text:
            given["after"] = encode_cursor(1)
        if not NEVER_TWICE & {field.name.value}:
            planned = await pair.compare(text, given, pair.house.actor)
            assert planned is not any(name in text for name in UNPLANNED), text


@pytest.mark.parametrize("choice", [True, False])
async def test_what_skip_and_include_leave_in_has_a_plan_of_its_own(
    pair: Pair, things: Things, choice: bool
) -> None:
    text = """query($yes: Boolean! = true, $no: Boolean!) { cards { nodes {
        id @include(if: $yes) stamps @skip(if: $no) ...some @include(if: $no) } } }
        fragment some on Card { id cycle customer @skip(if: $yes) { name } }"""
    assert await pair.compare(text, {"no": choice}, pair.house.actor)
    assert await pair.compare(text, {"yes": choice, "no": not choice}, pair.house.actor)
    assert not await pair.compare(text, {"yes": None, "no": choice}, pair.house.actor)
    assert not await pair.compare(text, {}, pair.house.actor)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{ cards(first: 101) { nodes { id } } }", {}),
        ('{ cards(after: "garbage") { nodes { id } } }', {}),
        ("{ cards(first: 1, last: 1) { nodes { id } } }", {}),
        ('{ events(filter: {search: "x", types: []}, after: "x") { nodes { id } } }', {}),
        ("query($id: ID!) { voucher(id: $id) { id } }", {"id": {"not": "an id"}}),
        ("query($size: Int) { cards(first: $size) { nodes { id } } }", {"size": "many"}),
        ("query($size: Int) { cards(first: $size) { nodes { id } } }", {"size": 2**40}),
        ("query($ref: CardRef!) { card(ref: $ref) { id } }", {"ref": {"id": "x", "number": "1"}}),
        ("query($ref: CardRef!) { card(ref: $ref) { id } __typename }", {"ref": {}}),
    ],
)
async def test_what_is_wrong_is_told_by_graphql_core(
    pair: Pair, text: str, variables: dict[str, Any]
) -> None:
    assert not await pair.compare(text, variables, pair.house.actor)


async def test_strangers_scanners_and_tokens_see_what_they_saw(pair: Pair, things: Things) -> None:
    scanner, _ = await pair.house.hire(Role.SCANNER)
    texts = [
        ("{ rateLimit { limit } __typename }", None),
        ("{ viewer { business { name } } }", None),
        ("{ notices { nodes { id } } cards { nodes { id } } }", None),
        ("query($id: ID!) { card(ref: {id: $id}) { id token customer { name } } }", "card"),
        ("query($id: ID!) { card(ref: {id: $id}) { customer { email } } }", "card"),
        ("query($id: ID!) { card(ref: {id: $id}) { vouchers { nodes { token } } } }", "card"),
        ("query($id: ID!) { card(ref: {id: $id}) { history { nodes { id } } } }", "card"),
        ("{ events(first: 2) { nodes { id type card { stamps } } totalCount } }", None),
        ("{ events(first: 2) { nodes { id actor { name } } } }", None),
        ("{ events { nodes { ... on StampAdded { customer { name } } } } }", None),
    ]
    tokens = [
        _token(pair.house.actor, {"card": things["card"]}),
        _token(pair.house.actor, {"events": {"types": ["stamp_added"]}}),
    ]
    planned = {
        (number, text)
        for number, actor in enumerate([None, scanner, *tokens])
        for text, kind in texts
        if await pair.compare(text, {"id": things["card"]} if kind else {}, actor)
    }
    assert (0, texts[0][0]) in planned
    assert (0, texts[1][0]) not in planned
    assert (1, texts[2][0]) not in planned
    assert (2, texts[3][0]) in planned
    assert (2, texts[4][0]) not in planned
    assert (3, texts[7][0]) in planned
    assert (3, texts[8][0]) not in planned


def _token(actor: Actor, scope: dict[str, Any]) -> Actor:
    token = AccessToken(
        id="tok",
        business_id=actor.business_id,
        staff_id=str(actor.staff_id),
        issuer_digest="",
        role=Role.OWNER,
        digest="",
        scope=scope,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    assert token.reach in Reach
    return replace(actor, token=token)


async def test_a_plan_that_fails_is_dropped_and_rests(
    pair: Pair, things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception two levels down, and a null where none may be."""
    text = "{ cards(first: 2) { nodes { id status customer { id language } } } }"
    assert await pair.compare(text, None, pair.house.actor)
    with monkeypatch.context() as patch:
        patch.setattr(Card, "status", property(lambda _: None))
        assert not await pair.compare(text, None, pair.house.actor)

    async def broken(*_: Any) -> Any:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(Context, "ones", broken)
        context = Context(pair.house.deployment, caller=pair.house.actor)
        ready = pair.ready(text.replace("first: 2", "first: 3"), None, context)
        for _ in range(9):
            assert b'"errors"' not in (await pair.plans.run(context, ready)).body
        plan = pair.plan(ready)
        assert plan
        assert plan.failures == 3  # of 9 calls, with a rest of 2 and one of 4 between them


async def test_no_caller_makes_a_plan_rest_for_the_others(pair: Pair, things: Things) -> None:
    text = "query($size: Int) { cards(first: $size) { nodes { id customer { email } } } }"
    context = Context(pair.house.deployment, caller=pair.house.actor)
    token = Context(pair.house.deployment, caller=_token(pair.house.actor, {"events": {}}))
    for size in (101, "many", -1):
        await pair.plans.run(context, pair.ready(text, {"size": size}, context))
        await pair.plans.run(token, pair.ready(text, {"size": 1}, token))
    ready = pair.ready(text, {"size": 1}, context)
    assert await pair.plans._planned(context, ready) is not None


async def test_plans_are_no_more_than_a_few_for_each_operation(pair: Pair, things: Things) -> None:
    names = [f"b{number}" for number in range(5)]
    words = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: __typename @include(if: ${name})" for name in names)
    context = Context(pair.house.deployment, caller=pair.house.actor)
    plans = []
    for number in range(32):
        given = {name: bool(number & 1 << place) for place, name in enumerate(names)}
        ready = pair.ready(f"query({words}) {{ {fields} id: __typename }}", given, context)
        plans.append(pair.plan(ready))
    assert sum(plan is not None for plan in plans) == 8


async def test_plans_made_longest_ago_are_forgotten(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "ROOM", 32_000)  # for three small ones
    few = Pair(pair.house)
    context = Context(pair.house.deployment, caller=pair.house.actor)
    texts = [f"{{ x{number}: __typename }}" for number in range(4)]
    made = [few.plan(few.ready(text, None, context)) for text in texts]
    again = [few.plan(few.ready(text, None, context)) for text in reversed(texts)]
    assert again[0] is made[-1]
    assert again[-1] is not made[0]


async def test_a_query_that_cannot_be_planned_is_executed_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans read private details of Strawberry, which another release may have changed."""

    def broken(*_: Any) -> Any:
        raise AttributeError

    monkeypatch.setattr(cache.Compiler, "place", broken)
    context = Context(pair.house.deployment, caller=pair.house.actor)
    ready = pair.ready("{ viewer { apiKey { name } } }", None, context)
    assert (await pair.plans.run(context, ready)).body.startswith(b'{"data":{"viewer":')


async def test_the_setting_leaves_everything_to_graphql_core(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dropped(*_: Any) -> Any:
        raise Dropped

    context = Context(pair.house.deployment, caller=pair.house.actor)
    ready = pair.ready("{ viewer { business { name } } }", None, context)
    monkeypatch.setattr(Plan, "answer", dropped)
    assert b'"errors"' not in (await pair.graphql.run(context, ready)).body
    with pytest.raises(Dropped):
        await pair.plans.run(context, ready)
