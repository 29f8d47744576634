"""One idempotency key, one effect: told again, refused again, and never a secret twice."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlmodel import col, select

from core.settings import Settings
from db import BUSINESS, query
from factories import a_card, a_card_template, a_staff, a_voucher, an_award_goal
from models import Business, Card, Customer, EventRow, IdempotencyRecord, Operation, Role
from schema.operation import operations

OPERATOR_KEY = "the operator's key of tests, long enough"
STAMP = """mutation($input: AddStampsInput!) { addStamps(input: $input) {
    operation { id after } card { stamps } rewards { id title } events { id sequence }
    userErrors { code field message ... on LimitReached { retryAt } } } }"""
REDEEM = """mutation($input: RedeemVoucherInput!) { redeemVoucher(input: $input) {
    voucher { id status } events { id } userErrors {
        code field message ... on VoucherAlreadyRedeemed { redeemedAt redeemedBy { id name } }
        ... on VoucherHasExpired { expiredAt } } } }"""
ISSUE = """mutation($input: IssueCardInput!) { issueCard(input: $input) {
    card { id stamps } created customerCreated events { id } userErrors { code field } } }"""
KEY = """mutation($input: GenerateApiKeyInput!) { generateApiKey(input: $input) {
    apiKey { id hint } secret userErrors { code message } } }"""
REGENERATE = """mutation($input: RegenerateApiKeyInput!) { regenerateApiKey(input: $input) {
    apiKey { id hint } secret userErrors { code } } }"""
ENDPOINT = """mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) {
    endpoint { id } signingSecret userErrors { code } } }"""
ROTATE = """mutation($input: RotateSigningSecretInput!) { rotateSigningSecret(input: $input) {
    signingSecret previousExpiresAt userErrors { code } } }"""
BUSINESS_ = """mutation($input: CreateBusinessInput!) { createBusiness(input: $input) {
    business { id name } owner { login } apiKeySecret userErrors { code } } }"""
RENAME = """mutation($input: UpdateCustomerInput!) { updateCustomer(input: $input) {
    customer { name phone } userErrors { code } } }"""

LEDGER = query(
    select(Operation).where(col(Operation.business_id) == BUSINESS).order_by(col(Operation.id))
)
LOG = query(
    select(EventRow).where(col(EventRow.business_id) == BUSINESS).order_by(col(EventRow.sequence))
)
RECORDS = query(select(IdempotencyRecord).where(col(IdempotencyRecord.business_id) == BUSINESS))
CUSTOMERS = query(select(Customer).where(col(Customer.business_id) == BUSINESS))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With an operator."""
    return settings.model_copy(update={"operator_key": OPERATOR_KEY})


@pytest.fixture
async def card(house: Any) -> Card:
    """A card of fifty stamps with a cookie at twenty."""
    goals = [an_award_goal(20), an_award_goal(50)]
    template = await a_card_template(house.database, house.actor, 50, goals)
    return await a_card(house.database, house.actor, template.id)


def test_every_mutation_but_sign_in_takes_a_key() -> None:
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    fields = _schema._schema.mutation_type.fields  # type: ignore[union-attr]
    without = {
        name
        for name, field in fields.items()
        if "idempotencyKey" not in field.args["input"].type.of_type.fields
    }

    assert without == {"signIn"}
    assert set(fields) == set(operations)


async def test_a_hundred_calls_with_ten_keys_have_ten_effects(house: Any, card: Card) -> None:
    def asked(key: int) -> dict[str, Any]:
        return {"input": {"card": {"id": card.id}, "count": 1, "idempotencyKey": f"till-{key}"}}

    answers = await asyncio.gather(
        *(house.owner.do(STAMP, asked(number % 10)) for number in range(100))
    )

    told = [answer["addStamps"] for answer in answers]
    assert [item["userErrors"] for item in told] == [[]] * 100
    by_operation = Counter(item["operation"]["id"] for item in told)
    assert list(by_operation.values()) == [10] * 10
    assert len({(item["operation"]["id"], item["events"][0]["id"]) for item in told}) == 10
    assert len(await house.all(LEDGER)) == 10
    assert [event.type for event in await house.all(LOG)].count("stamp_added") == 10


async def test_a_repeat_tells_the_same_with_objects_read_afresh(house: Any, card: Card) -> None:
    asked = {"input": {"card": {"id": card.id}, "count": 20, "idempotencyKey": "once"}}

    first = (await house.owner.do(STAMP, asked))["addStamps"]
    await house.owner.do(STAMP, {"input": {"card": {"id": card.id}, "count": 5}})
    repeat = (await house.owner.do(STAMP, asked))["addStamps"]

    assert first["rewards"] == [{"id": first["rewards"][0]["id"], "title": "A cookie"}]
    assert [event["sequence"] for event in first["events"]] == [2, 3, 4]
    assert repeat == {**first, "card": {"stamps": 25}}


async def test_a_repeat_of_an_issue_still_says_that_it_created(house: Any, card: Card) -> None:
    customer = {"email": "new@mail.example"}
    asked = {"templateId": card.template_id, "customer": customer, "idempotencyKey": "once"}

    first = await house.owner.do(ISSUE, {"input": asked})
    repeat = await house.owner.do(ISSUE, {"input": asked})
    without = await house.owner.do(ISSUE, {"input": {**asked, "idempotencyKey": None}})

    assert (first["issueCard"]["created"], first["issueCard"]["customerCreated"]) == (True, True)
    assert repeat == first
    assert without["issueCard"]["created"] is False
    assert without["issueCard"]["events"] == []


async def test_the_same_key_with_another_input_is_refused(house: Any, card: Card) -> None:
    asked = {"card": {"id": card.id}, "count": 1, "idempotencyKey": "once"}
    await house.owner.do(STAMP, {"input": asked})

    other = await house.owner.do(STAMP, {"input": {**asked, "count": 2}})

    [refusal] = other["addStamps"]["userErrors"]
    assert refusal["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert refusal["field"] == ["input", "idempotencyKey"]
    assert len(await house.all(LEDGER)) == 1


@pytest.mark.parametrize("key", ["", "k" * 129, "nul\x00"])
async def test_a_key_has_1_to_128_characters_that_can_be_stored(
    house: Any, card: Card, key: str
) -> None:
    asked = {"card": {"id": card.id}, "count": 1, "idempotencyKey": key}

    answer = await house.owner.do(STAMP, {"input": asked})

    [refusal] = answer["addStamps"]["userErrors"]
    assert (refusal["code"], refusal["field"]) == ("INVALID", ["input", "idempotencyKey"])
    assert await house.all(LEDGER) == []


async def test_a_key_is_its_staffs_and_its_mutations_own(
    house: Any, card: Card, open_house: Any
) -> None:
    _, scanner = await house.hire(Role.SCANNER)
    stranger = await open_house()
    theirs = await a_card(stranger.database, stranger.actor)

    def asked(id: str) -> dict[str, Any]:
        return {"input": {"card": {"id": id}, "count": 1, "idempotencyKey": "same"}}

    await house.owner.do(STAMP, asked(card.id))
    await scanner.do(STAMP, asked(card.id))
    other = await stranger.owner.do(STAMP, asked(theirs.id))
    voucher = await a_voucher(house.database, house.actor)
    redeemed = await house.owner.do(
        REDEEM, {"input": {"voucher": {"id": voucher.id}, "idempotencyKey": "same"}}
    )

    stamps = [line for line in await house.all(LEDGER) if line.card_id == card.id]
    assert [line.after for line in stamps] == [1, 2]
    assert other["addStamps"]["card"] == {"stamps": 1}
    assert redeemed["redeemVoucher"]["voucher"]["status"] == "REDEEMED"


async def test_a_refusal_is_told_again_in_every_part(house: Any, card: Card) -> None:
    voucher = await a_voucher(house.database, house.actor)
    await house.owner.do(REDEEM, {"input": {"voucher": {"id": voucher.id}}})
    redeem = {"input": {"voucher": {"id": voucher.id}, "idempotencyKey": "late"}}
    many = {"input": {"card": {"id": card.id}, "count": 51, "idempotencyKey": "many"}}

    first = [await house.owner.do(REDEEM, redeem), await house.owner.do(STAMP, many)]
    repeat = [await house.owner.do(REDEEM, redeem), await house.owner.do(STAMP, many)]

    [late] = first[0]["redeemVoucher"]["userErrors"]
    assert late["redeemedBy"] == {"id": house.actor.staff_id, "name": "Ayu"}
    assert first[1]["addStamps"]["userErrors"] == [
        {
            "code": "LIMIT_REACHED",
            "field": ["input", "count"],
            "message": "At most 50 stamps at once.",
            "retryAt": None,
        }
    ]
    assert repeat == first


async def test_a_refusal_stays_when_its_reason_is_gone(house: Any) -> None:
    template = await a_card_template(
        house.database, house.actor, 50, [an_award_goal(50)], name="Another"
    )
    holder = {"templateId": template.id, "customer": {"email": "siti@mail.example"}}
    asked = {"input": {"card": {"holder": holder}, "count": 1, "idempotencyKey": "early"}}

    refused = await house.owner.do(STAMP, asked)
    await a_card(house.database, house.actor, template.id, email="siti@mail.example")
    repeat = await house.owner.do(STAMP, asked)

    [refusal] = refused["addStamps"]["userErrors"]
    assert refusal["code"] == "NOT_FOUND"
    assert repeat == refused
    assert await house.all(LEDGER) == []


async def test_a_secret_is_not_told_again(house: Any) -> None:
    staff = await a_staff(house.database, house.actor)
    url = f"{house.owner.server.url}/livez"

    async def twice(document: str, **asked: Any) -> tuple[Any, Any]:
        told = {"input": {**asked, "idempotencyKey": "once"}}
        [first] = (await house.owner.do(document, told)).values()
        [repeat] = (await house.owner.do(document, told)).values()
        return first, repeat

    key, key_again = await twice(KEY, staffId=staff.staff_id)
    regenerated, regenerated_again = await twice(REGENERATE, id=key["apiKey"]["id"])
    endpoint, endpoint_again = await twice(ENDPOINT, url=url)
    rotated, rotated_again = await twice(ROTATE, id=endpoint["endpoint"]["id"])

    for first, repeat, name, object_ in (
        (key, key_again, "secret", "apiKey"),
        (regenerated, regenerated_again, "secret", "apiKey"),
        (endpoint, endpoint_again, "signingSecret", "endpoint"),
        (rotated, rotated_again, "signingSecret", "previousExpiresAt"),
    ):
        assert first[name]
        assert first["userErrors"] == []
        assert repeat[name] is None
        assert [error["code"] for error in repeat["userErrors"]] == ["SECRET_ALREADY_SHOWN"]
        if object_ == "apiKey":
            assert repeat[object_]["id"] == first[object_]["id"]
        else:
            assert repeat[object_] == first[object_]
    assert regenerated_again["apiKey"] == regenerated["apiKey"]
    stored = str([record.outcome for record in await house.all(RECORDS)])
    for secret in (
        key["secret"],
        regenerated["secret"],
        endpoint["signingSecret"],
        rotated["signingSecret"],
    ):
        assert secret not in stored


async def test_the_record_keeps_no_personal_data(house: Any, card: Card) -> None:
    customer = {"email": "secretly@mail.example", "name": "Nyai Ontosoroh", "phone": "+628123456"}
    asked = {"templateId": card.template_id, "customer": customer, "idempotencyKey": "once"}

    await house.owner.do(ISSUE, {"input": asked})

    [record] = await house.all(RECORDS)
    for told in ("secretly", "Ontosoroh", "628123456"):
        assert told not in str(record.outcome) + record.fingerprint
    assert set(record.outcome) == {"events", "user_errors", "card", "created", "customer_created"}


async def test_the_header_serves_a_document_with_one_mutation(house: Any, card: Card) -> None:
    asked = {"input": {"card": {"id": card.id}, "count": 1}}
    two = f"""mutation {{
        a: addStamps(input: {{card: {{id: "{card.id}"}}, count: 1}}) {{ operation {{ id }} }}
        b: addStamps(input: {{card: {{id: "{card.id}"}}, count: 1}}) {{ operation {{ id }} }} }}"""

    first = await house.owner.call(STAMP, asked, idempotency_key="receipt-1")
    repeat = await house.owner.call(STAMP, asked, idempotency_key="receipt-1")
    inputs = {"input": {**asked["input"], "idempotencyKey": "of its own"}}
    own = await house.owner.call(STAMP, inputs, idempotency_key="receipt-1")
    both = await house.owner.call(two, idempotency_key="receipt-2")

    assert repeat.data == first.data
    assert own.data["addStamps"]["card"] == {"stamps": 2}
    assert both.data["a"] != both.data["b"]
    assert len(await house.all(LEDGER)) == 4


async def test_the_header_serves_partial_updates_too(house: Any, card: Card) -> None:
    def asked(name: str) -> dict[str, Any]:
        return {"input": {"id": card.customer_id, "name": name}}

    await house.owner.call(RENAME, asked("Siti Aminah"), idempotency_key="rename")
    await house.owner.do(RENAME, asked("Siti"))
    repeat = await house.owner.call(RENAME, asked("Siti Aminah"), idempotency_key="rename")
    other = await house.owner.call(RENAME, asked("Sri"), idempotency_key="rename")

    assert repeat.data["updateCustomer"]["customer"]["name"] == "Siti"
    [refusal] = other.data["updateCustomer"]["userErrors"]
    assert refusal["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_leaving_out_and_emptying_a_field_are_two_inputs(house: Any, card: Card) -> None:
    asked = {"id": card.customer_id, "idempotencyKey": "once"}

    await house.owner.do(RENAME, {"input": asked})
    emptied = await house.owner.do(RENAME, {"input": {**asked, "name": None}})

    [refusal] = emptied["updateCustomer"]["userErrors"]
    assert refusal["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_a_failure_in_the_middle_stores_nothing(
    house: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services import cards  # noqa: PLC0415 -- to break it

    asked = {"input": {"card": {"id": card.id}, "count": 20, "idempotencyKey": "once"}}

    async def fails(*_: Any) -> None:
        raise RuntimeError("a fault of ours, with a secret in it")

    with monkeypatch.context() as broken:
        broken.setattr(cards, "pay_goal", fails)
        failed = await house.owner.call(STAMP, asked)
    stored = [*await house.all(LEDGER), *await house.all(RECORDS)]
    again = await house.owner.do(STAMP, asked)

    assert failed.codes == ["INTERNAL_SERVER_ERROR"]
    assert "secret" not in str(failed.body)
    assert stored == []
    assert again["addStamps"]["card"] == {"stamps": 20}
    assert [event.sequence for event in await house.all(LOG)] == [1, 2, 3, 4]


async def test_a_business_is_made_once_per_key(client_of: Any, house: Any) -> None:
    operator = client_of(OPERATOR_KEY)
    owner = {"name": "Ana", "login": "ana@warung.example", "password": "correct horse"}
    asked = {
        "name": "Warung",
        "timezone": "Asia/Jakarta",
        "currency": "IDR",
        "owner": owner,
        "idempotencyKey": "once",
    }

    answers = await asyncio.gather(*(operator.do(BUSINESS_, {"input": asked}) for _ in range(5)))
    other = await operator.do(BUSINESS_, {"input": {**asked, "name": "Kedai"}})

    told = [answer["createBusiness"] for answer in answers]
    assert len({item["business"]["id"] for item in told}) == 1
    assert {item["owner"]["login"] for item in told} == {"ana@warung.example"}
    assert sum(item["apiKeySecret"] is not None for item in told) == 1
    codes = Counter(error["code"] for item in told for error in item["userErrors"])
    assert codes == {"SECRET_ALREADY_SHOWN": 4}
    assert other["createBusiness"]["userErrors"] == [{"code": "IDEMPOTENCY_KEY_REUSED"}]
    every = query(select(Business))
    made = await house.database.read(None, lambda tx: tx.many(every))
    assert sorted(business.name for business in made) == ["Kopi Kenangan", "Warung"]


async def test_ten_first_calls_with_one_key_make_one_customer(house: Any, card: Card) -> None:
    customer = {"email": "new@mail.example"}
    asked = {"templateId": card.template_id, "customer": customer, "idempotencyKey": "once"}

    answers = await asyncio.gather(*(house.owner.do(ISSUE, {"input": asked}) for _ in range(10)))

    assert answers == [answers[0]] * 10
    assert answers[0]["issueCard"]["created"] is True
    assert len(await house.all(CUSTOMERS)) == 2
