"""Endpoints with a document, over the API: checked when saved, and shown."""

from typing import Any

import pytest

from core.ids import new_id
from models import Role
from samples import NOBODY

CREATE = """mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) {
    endpoint { id document documentBy { id name } maxInFlight maxPerSecond types }
    userErrors { code field message } } }"""
UPDATE = """mutation($input: UpdateWebhookEndpointInput!) { updateWebhookEndpoint(input: $input) {
    endpoint { document documentBy { id } maxInFlight } userErrors { code field } } }"""
DOCUMENT = "subscription { events(filter: {types: [STAMP_ADDED]}) { type } }"


DEAR = """subscription { events { card { history(first: %d) { nodes {
    card { vouchers { nodes { id } } } } } } } }"""
"""Costs 10, 1 for the card, 2 for its history, and 24 for each of so many operations."""


async def test_a_document_is_saved_and_shown_with_who_saved_it(house: Any) -> None:
    asked = {"url": NOBODY, "document": DOCUMENT, "maxInFlight": 2, "maxPerSecond": 5.5}

    made = (await house.owner.do(CREATE, {"input": asked}))["createWebhookEndpoint"]
    endpoint = made["endpoint"]
    gone = {"id": endpoint["id"], "document": None, "maxInFlight": None}
    changed = (await house.owner.do(UPDATE, {"input": gone}))["updateWebhookEndpoint"]

    assert made["userErrors"] == []
    assert (endpoint["document"], endpoint["documentBy"]["id"]) == (DOCUMENT, house.actor.staff_id)
    assert (endpoint["maxInFlight"], endpoint["maxPerSecond"]) == (2, 5.5)
    assert changed["endpoint"] == {"document": None, "documentBy": None, "maxInFlight": None}


async def test_a_document_may_cost_so_much_for_each_event(house: Any) -> None:
    told = await house.owner.do(CREATE, {"input": {"url": NOBODY, "document": DEAR % 20}})

    assert told["createWebhookEndpoint"]["userErrors"] == []


@pytest.mark.parametrize(
    "document",
    [
        "subscription {",
        "subscription { events { nonsense } }",
        "query { viewer { actor { id } } }",
        "subscription($after: String) { events(after: $after) { id } }",
        'subscription { events(after: "ZXZ0OjA") { id } }',
        "subscription { pulse { newCardsToday } }",
        DEAR % 21,
    ],
)
async def test_what_is_no_document_of_an_endpoint_is_refused(house: Any, document: str) -> None:
    before = await house.dump()

    told = (await house.owner.do(CREATE, {"input": {"url": NOBODY, "document": document}}))[
        "createWebhookEndpoint"
    ]

    [error] = told["userErrors"]
    assert (told["endpoint"], error["code"], error["field"]) == (
        None,
        "INVALID",
        ["input", "document"],
    )
    assert error["message"]
    assert await house.dump() == before


async def test_scanners_save_and_try_no_documents(house: Any) -> None:
    _, scanner = await house.hire(Role.SCANNER)
    dry_run = """query($input: WebhookDryRunInput!) {
        webhookDryRun(input: $input) { matches userErrors { code } } }"""

    saved = await scanner.call(CREATE, {"input": {"url": NOBODY, "document": DOCUMENT}})
    plain = await scanner.call(CREATE, {"input": {"url": NOBODY}})
    asked = {"eventId": new_id("evt")}
    tried = await scanner.call(dry_run, {"input": {**asked, "document": DOCUMENT}})

    assert saved.codes == ["FORBIDDEN"]
    assert plain.codes == []
    assert tried.codes == ["FORBIDDEN"]
