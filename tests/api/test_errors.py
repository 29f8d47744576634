"""How the API says no: a code for everything, a 4xx for malformed requests, and nothing leaks."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from clients import Answer
from factories import a_card
from models import Card
from samples import document

VIEWER = "{ viewer { actor { id } } }"
STAMP = """mutation($input: AddStampsInput!) { addStamps(input: $input) {
    card { stamps } userErrors { code field } } }"""
CUSTOMER = """mutation($input: CreateCustomerInput!) { createCustomer(input: $input) {
    customer { id name } userErrors { code field } } }"""


@pytest.fixture
async def card(house: Any) -> Card:
    """A card."""
    return await a_card(house.database, house.actor)


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "BAD_REQUEST"),
    ("{", {}, "GRAPHQL_PARSE_FAILED"),
    ("{ viewer { actor { id } }", {}, "GRAPHQL_PARSE_FAILED"),
    ("{ viewer { nonsense } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("{ viewer }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("{ ...Nowhere }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("query($id: ID!) { node(id: $other) { id } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ('{ cards(first: "ten") { totalCount } }', {}, "GRAPHQL_VALIDATION_FAILED"),
    ("fragment F on Card { id }", {}, "OPERATION_RESOLUTION_FAILURE"),
    ("query($id: ID!) { node(id: $id) { id } }", {}, "BAD_USER_INPUT"),
    ("query($id: ID!) { node(id: $id) { id } }", {"id": None}, "BAD_USER_INPUT"),
    ("query($id: ID!) { node(id: $id) { id } }", {"id": {"a": 1}}, "BAD_USER_INPUT"),
    ("query($n: Int) { cards(first: $n) { totalCount } }", {"n": "x"}, "BAD_USER_INPUT"),
    ("query($n: Int) { cards(first: $n) { totalCount } }", {"n": 2**31}, "BAD_USER_INPUT"),
    ("query($n: Int) { cards(first: $n) { totalCount } }", {"n": 1.5}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {}, "count": 1}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a", "number": "b"}, "count": 1}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": None}, "count": 1}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a"}, "count": 1, "more": 2}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a"}, "amount": "much"}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a"}, "amount": "NaN"}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a"}, "amount": "1e999999999"}}, "BAD_USER_INPUT"),
    (STAMP, {"input": {"card": {"id": "a"}, "channel": "FAX"}}, "BAD_USER_INPUT"),
    ("{ cards(first: 0) { totalCount } }", {}, "BAD_USER_INPUT"),
    ('{ events(after: "garbage") { totalCount } }', {}, "BAD_USER_INPUT"),
    *(
        (STAMP, {"input": {"card": {"id": "a"}, "amount": amount}}, "BAD_USER_INPUT")
        for amount in ("1_000", " 1", "\u0661\u0662", "9" * 31, True, [1])
    ),
    *(
        ("query($d: Date) { overview(date: $d) { __typename } }", {"d": day}, "BAD_USER_INPUT")
        for day in ("2026-02-30", "2026-W01-1", "20260511", "\u0662\u0660\u0662\u0666-01-01", 5)
    ),
    (
        "query($f: EventFilter) { events(filter: $f) { totalCount } }",
        {"f": {"since": "yesterday"}},
        "BAD_USER_INPUT",
    ),
    (
        "query($f: EventFilter) { events(filter: $f) { totalCount } }",
        {"f": {"since": "2026-03-02T12:00:00"}},
        "BAD_USER_INPUT",
    ),
]


async def test_every_fault_of_a_request_has_its_code(house: Any) -> None:
    wrong = {}
    for ask, variables, code in FAULTS:
        answer = await house.owner.call(ask, variables)
        told = answer.body.get("data") or {}
        if (
            answer.status not in {200, 400}
            or set(answer.codes) != {code}
            or any(value is not None for value in told.values())
        ):
            wrong[ask, str(variables)] = answer

    assert wrong == {}


async def test_an_operation_that_is_not_there_or_not_chosen_is_an_error(house: Any) -> None:
    two = "query A { viewer { actor { id } } } query B { viewer { actor { id } } }"

    unknown = await house.owner.call(two, operation="C")
    unchosen = await house.owner.call(two)
    chosen = await house.owner.call(two, operation="B")

    assert unknown.codes == unchosen.codes == ["OPERATION_RESOLUTION_FAILURE"]
    assert chosen.data["viewer"]["actor"]["id"] == house.actor.staff_id


async def test_a_key_that_opens_no_door_is_unauthenticated(house: Any) -> None:
    keys = [None, "", "7loc_sc_nobody", "7loc_sc_" + "0" * 36, "ses_nothing", "x" * 7_000, "\u00e9"]

    answers = [await house.client_of(key).call(VIEWER) for key in keys]

    for answer in answers:
        assert (answer.status, answer.codes) == (200, ["UNAUTHENTICATED"])
        assert answer.body["errors"][0]["message"] == "This needs a valid API key or session."


async def test_a_fault_of_ours_is_masked_and_found_again_by_its_id(
    house: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services import cards  # noqa: PLC0415 -- to break it

    async def fails(*_: Any) -> None:
        raise RuntimeError("ana@mail.example and a password: hunter2")

    monkeypatch.setattr(cards, "_check_limits", fails)
    with capture_logs() as logs:
        answer = await house.owner.call(
            STAMP, {"input": {"card": {"id": card.id}, "count": 1, "externalRef": "hunter3"}}
        )

    [error] = answer.body["errors"]
    assert answer.status == 200
    assert error["message"] == "Something went wrong on our side."
    assert error["path"] == ["addStamps"]
    assert set(error["extensions"]) == {"code", "requestId"}
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert line["request_id"] == error["extensions"]["requestId"]
    assert "hunter" not in json.dumps(answer.body)
    assert "hunter3" not in str({**line, "exc_info": None})


async def test_faults_of_clients_are_not_logged_as_ours(house: Any) -> None:
    with capture_logs() as logs:
        for ask in ("{", "{ nonsense }", "{ cards(first: 0) { totalCount } }"):
            await house.owner.call(ask)
        await house.client_of(None).call(VIEWER)
        await house.owner.post(b"nonsense")

    assert [line for line in logs if line["log_level"] in {"error", "warning"}] == []


def deep(levels: int) -> bytes:
    """A body nested so deep."""
    inner = '{"a":' * levels + "1" + "}" * levels
    return f'{{"query": "{VIEWER}", "variables": {{"x": {inner}}}}}'.encode()


MALFORMED = [
    b"",
    b"null",
    b"7",
    b"true",
    b'"text"',
    b"[]",
    b"[null]",
    b'[{"query": "{ viewer { actor { id } } }"}]',
    b"{}",
    b"{",
    b'{"query": null}',
    b'{"query": 7}',
    b'{"query": ["{ viewer { actor { id } } }"]}',
    b'{"query": "{ viewer { actor { id } } }", "variables": []}',
    b'{"query": "{ viewer { actor { id } } }", "variables": "x"}',
    b'{"query": "{ viewer { actor { id } } }", "operationName": 7}',
    b'{"query": "{ viewer { actor { id } } }", "operationName": {}}',
    b'{"query": "{ viewer { actor { id } } }", "extensions": 7}',
    b'{"query": "\xff\xfe"}',
    b"\xef\xbb\xbf{}",
    b'{"query": "\\ud800"}',
    b'{"query": NaN}',
    b'{"query": "{ viewer { actor { id } } }", "variables": {"a": ' + b"9" * 5_000 + b"}}",
    b'{"query": "{ viewer { actor { id } } }", "variables": {"a": 1e999}}',
    deep(2_000),
    b"[" * 90_000,
    b"--boundary\r\n",
]


async def test_a_malformed_body_is_a_typed_4xx(house: Any) -> None:
    answers = [await house.owner.post(body) for body in MALFORMED]

    assert {answer.status // 100 for answer in answers} == {4}
    for answer in answers:
        _check_typed(answer)


def _check_typed(answer: Answer) -> None:
    assert answer.codes
    assert all(error["message"] for error in answer.body["errors"])
    assert "Traceback" not in json.dumps(answer.body)


async def test_enormous_integers_in_documents_and_variables_are_bad_input(house: Any) -> None:
    ask = "query($n: Int) { cards(first: $n) { totalCount } }"
    for integer in ("9" * 5_000, "-" + "9" * 4_400, "1" + "0" * 400, str(2**63)):
        raw = f'{{"query": "{ask}", "variables": {{"n": {integer}}}}}'
        written = await house.owner.call(f"{{ cards(first: {integer}) {{ totalCount }} }}")
        given = await house.owner.post(raw.encode())

        assert written.codes == ["GRAPHQL_VALIDATION_FAILED"]
        assert given.codes in (["BAD_USER_INPUT"], ["BAD_REQUEST"])
        _check_typed(written)
        _check_typed(given)


async def test_a_long_mistake_is_told_in_few_words(house: Any) -> None:
    """What was written is repeated in the message; to look it through once took three seconds."""
    long = " Did you mean " * 6_500
    by_variable = (
        "query($d: Date, $f: EventFilter) "
        "{ overview(date: $d) { __typename } events(filter: $f) { totalCount } }"
    )
    asks: tuple[tuple[str, dict[str, Any]], ...] = (
        (by_variable, {"d": long}),
        (by_variable, {"f": {long: 1}}),
        (by_variable, {"f": {f"{long[:900]}{number}": 1 for number in range(90)}}),
        (f'{{ cards(first: "{long}") {{ totalCount }} }}', {}),
        (f"{{ node(id: {'[' * 150}{']' * 150}) {{ id }} }}", {}),
    )
    for ask, variables in asks:
        answer = await house.owner.call(ask, variables)

        assert answer.codes
        assert max(len(error["message"]) for error in answer.body["errors"]) <= 1_000
        assert "isoformat" not in json.dumps(answer.body)
        _check_typed(answer)


async def test_a_body_over_100_kb_is_413_whether_or_not_it_tells_its_size(house: Any) -> None:
    body = json.dumps({"query": VIEWER, "variables": {"x": "y" * 100_000}}).encode()
    fits = json.dumps({"query": VIEWER, "variables": {"x": "y" * 99_000}}).encode()

    async def in_pieces() -> Any:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]
            await asyncio.sleep(0)

    told = await house.owner.post(body)
    untold = await house.owner.post(in_pieces())
    within = await house.owner.post(fits)

    assert (told.status, untold.status, within.status) == (413, 413, 200)
    _check_typed(told)
    _check_typed(untold)


async def test_other_media_types_are_refused(house: Any) -> None:
    body = json.dumps({"query": VIEWER}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await house.owner.post(body, content_type=kind)

        assert 400 <= answer.status < 500
        _check_typed(answer)


ODD = {
    "nul": "a\x00b",
    "control": "a\x07b",
    "nothing": "\u200b",
    "beyond": "\U0001f600" * 50,
    "long": "x" * 50_000,
    "quote": "'; DROP TABLE customer; --",
}


async def test_odd_texts_are_stored_or_refused_wherever_a_text_is_taken(
    house: Any, card: Card
) -> None:
    """On PostgreSQL a NUL cannot be stored at all; SQLite takes no pattern that is too long."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    faults = {}
    for name, text in ODD.items():
        for place, given in asks_with(text, card):
            answer = await house.owner.call(document(_schema._schema, place, 0), given)
            if answer.status >= 500 or "INTERNAL_SERVER_ERROR" in answer.codes:
                faults[name, place, str(given)[:100]] = answer.body

    assert faults == {}


def asks_with(text: str, card: Card) -> list[tuple[str, dict[str, Any]]]:
    """Calls that give a text to every kind of field that takes one."""
    ref = {"id": card.id}
    return [
        ("Query.node", {"id": text}),
        ("Query.customer", {"id": text}),
        ("Query.deliveries", {"endpointId": text}),
        ("Query.customers", {"filter": {"search": text}}),
        ("Query.cards", {"filter": {"search": text, "templateId": text}}),
        ("Query.cards", {"after": text}),
        ("Query.vouchers", {"filter": {"redeemCode": text}}),
        ("Query.events", {"filter": {"search": text, "cardIds": [text]}}),
        ("Query.events", {"after": text}),
        ("Query.card", {"ref": {"number": text}}),
        ("Query.card", {"ref": {"token": text}}),
        ("Query.canRedeem", {"voucher": {"code": {"redeemCode": text}}}),
        ("Query.canRedeem", {"voucher": {"token": text}}),
        ("Mutation.createCustomer", {"input": {"email": text}}),
        ("Mutation.createCustomer", {"input": {"phone": text}}),
        ("Mutation.createCustomer", {"input": {"email": "a@b.example", "name": text}}),
        ("Mutation.createCustomer", {"input": {"email": "a@b.example", "language": text}}),
        ("Mutation.createCustomer", {"input": {"email": "a@b.example", "birthday": text}}),
        ("Mutation.updateCustomer", {"input": {"id": text, "name": text}}),
        ("Mutation.addStamps", {"input": {"card": ref, "count": 1, "externalRef": text}}),
        ("Mutation.addStamps", {"input": {"card": ref, "count": 1, "idempotencyKey": text}}),
        ("Mutation.addStamps", {"input": {"card": {"number": text}, "count": 1}}),
        ("Mutation.issueVoucher", {"input": {"custom": {"title": text, "description": text}}}),
        ("Mutation.issueVoucher", {"input": {"custom": {"title": "x", "imageUrl": text}}}),
        ("Mutation.issueVoucher", {"input": {"custom": {"title": "x", "redeemCode": text}}}),
        ("Mutation.redeemVoucher", {"input": {"voucher": {"code": {"redeemCode": text}}}}),
        ("Mutation.createLocation", {"input": {"name": text, "address": text}}),
        ("Mutation.createLocation", {"input": {"name": "x", "timezone": text}}),
        ("Mutation.updateBusiness", {"input": {"name": text}}),
        ("Mutation.updateBusiness", {"input": {"logoUrl": text}}),
        ("Mutation.updateBusiness", {"input": {"timezone": text}}),
        ("Mutation.signIn", {"input": {"login": text, "password": text}}),
        ("Mutation.changePassword", {"input": {"currentPassword": text, "newPassword": text}}),
        ("Mutation.createVoucherTemplate", {"input": {"title": text}}),
        ("Mutation.createWebhookEndpoint", {"input": {"url": text, "name": text}}),
        (
            "Mutation.createWebhookEndpoint",
            {
                "input": {
                    "url": "http://127.0.0.1:9999/",
                    "headers": [{"name": "X-A", "value": text}],
                }
            },
        ),
        ("Mutation.createWebhookEndpoint", {"input": {"url": "x", "startAt": {"cursor": text}}}),
        (
            "Mutation.createCardTemplate",
            {
                "input": {
                    "name": "x",
                    "stampsRequired": 1,
                    "earningRule": {"perOrder": True},
                    "goals": [{"stamps": 1, "reward": {"award": {"title": "x"}}}],
                    "design": {text[:100]: text},
                }
            },
        ),
    ]


async def test_a_lone_surrogate_is_refused_before_it_is_read(house: Any) -> None:
    raw = json.dumps(
        {"query": CUSTOMER, "variables": {"input": {"name": "\ud800", "email": "a@b.c"}}}
    )
    written = (
        'mutation { createCustomer(input: {email: "a@b.example", name: "\\ud800"}) { created } }'
    )

    given = await house.owner.post(raw.encode())
    in_document = await house.owner.call(written)

    assert given.status == 400
    _check_typed(given)
    assert in_document.codes == ["GRAPHQL_PARSE_FAILED"]


COUNTS: list[tuple[dict[str, Any], str]] = [
    ({"count": 2**31 - 1}, "LIMIT_REACHED"),
    ({"count": 51}, "LIMIT_REACHED"),
    ({"count": 0}, "INVALID"),
    ({"count": -1}, "INVALID"),
    ({"count": -(2**31)}, "INVALID"),
    ({}, "INVALID"),
    ({"count": 1, "amount": "1"}, "INVALID"),
    ({"amount": "100"}, "INVALID"),
]


async def test_counts_that_no_card_can_take_are_refused(house: Any, card: Card) -> None:
    for told, code in COUNTS:
        answer = await house.owner.do(STAMP, {"input": {"card": {"id": card.id}, **told}})

        assert [error["code"] for error in answer["addStamps"]["userErrors"]] == [code], told
        assert answer["addStamps"]["card"] is None
