"""Recipes for Make and n8n: sound in shape, and run with real requests until it has happened."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from graphql import build_schema, parse, validate

from events import event_types
from events.log import sample_body
from factories import a_card, a_card_template, a_voucher, an_award_goal, stamps
from fakes.receiver import Receiver
from houses import House
from nocode.make_app import APP, Invalid, MakeApp
from nocode.recipes import Scenario, Stopped, Workflow
from nocode.world import World, a_world
from processes import ROOT

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

MAKE = ROOT / "integrations" / "make"
BLUEPRINT = MAKE / "redeemed-to-mailchimp.blueprint.json"
WORKFLOW = ROOT / "integrations" / "n8n" / "goals-to-slack.json"
PAGES = ROOT / "docs" / "integrations"
ANA = "Ana@mail.example"

CONSENT = """mutation($id: ID!) {
  setConsent(input: {customerId: $id, channel: EMAIL, granted: true}) {
    userErrors { message } } }"""
REDEEM = """mutation($id: ID!) { redeemVoucher(input: {voucher: {id: $id}}) {
  voucher { status } userErrors { message } } }"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Mailchimp, Slack and a CRM."""
    async with a_world() as made:
        yield made


async def follow(house: House, page: str, hooks: Receiver) -> None:
    """Make the endpoint of a page's first mutation, for our own hook."""
    text = (PAGES / page).read_text()
    block = re.findall(r"```graphql\n(.*?)```", text, re.DOTALL)[0]
    mutation, count = re.subn(r'url: "[^"]*"', f'url: "{hooks.at("/hook")}"', block)
    assert count == 1
    made = (await house.owner.do(mutation))["createWebhookEndpoint"]
    assert made["userErrors"] == []


async def test_the_scenario_for_make_puts_the_tag_on_the_right_address(
    house: House, hooks: Receiver, world: World
) -> None:
    await follow(house, "make.md", hooks)
    template = await a_card_template(house.database, house.actor)
    for email in (ANA, "ben@mail.example"):
        card = await a_card(house.database, house.actor, template.id, email=email)
        if email == ANA:
            await house.owner.do(CONSENT, {"id": card.customer_id})
        voucher = await a_voucher(house.database, house.actor, card=card)
        await house.owner.do(REDEEM, {"id": voucher.id})
    came = await hooks.wait_for(2)

    scenario = Scenario.of(BLUEPRINT)
    ended = [await scenario.run(one.data, world.http, world.mailchimp.key) for one in came]

    assert sorted(ended) == [False, True]
    assert len(world.mailchimp.members) == 1
    [tag] = world.mailchimp.tags_of(ANA)
    assert tag.startswith("redeemed")
    assert {one.headers["x-make-apikey"] for one in came} == {"your long random text"}


async def test_the_workflow_for_n8n_puts_the_message_into_the_channel_once(
    house: House, hooks: Receiver, world: World
) -> None:
    await follow(house, "n8n.md", hooks)
    template = await a_card_template(house.database, house.actor, goals=[an_award_goal(3)])
    card = await a_card(house.database, house.actor, template.id)
    await stamps(house.database, house.actor, card, 3)
    [came] = await hooks.wait_for(1)

    workflow, secret = Workflow.of(WORKFLOW), f"Bearer {world.slack.token}"
    for _ in range(2):
        await workflow.run(came.data, world.http, secret)

    text = f"Card {card.number} (Coffee card) reached goal 1: 3 of 3 stamps."
    assert world.slack.channels == {"#loyalty": [text]}
    assert came.headers["x-stampwire-key"] == "your long random text"
    with pytest.raises(Stopped, match="Slack said: invalid_auth"):
        await Workflow.of(WORKFLOW).run(came.data, world.http, "Bearer nobody")


async def test_the_app_for_make_watches_and_does_all_it_offers(
    house: House, hooks: Receiver
) -> None:
    app = MakeApp(house.owner, {"url": hooks.at("/make")})
    watched = {"types": ["CARD_ISSUED"], "includeContact": True}
    await app.run("webhooks/events/events.attach.iml.json", **watched)
    await a_voucher(house.database, house.actor)
    template = await a_card_template(house.database, house.actor)

    [chosen] = await app.run(rpc("cardTemplates"))
    [voucher_chosen, *_] = await app.run(rpc("voucherTemplates"))
    made = {"templateId": chosen["value"], "email": ANA, "runKey": "1"}
    issued = await app.run(module("issueCard"), **made)
    added = {"cardNumber": issued["card"]["number"], "count": 2, "runKey": "1"}
    once = await app.run(module("addStamps"), **added)
    twice = await app.run(module("addStamps"), **added)
    given = await app.run(
        module("issueVoucher"),
        voucherTemplateId=voucher_chosen["value"],
        cardId=issued["card"]["id"],
        runKey="1",
    )
    spent = {"voucherId": given["voucher"]["id"]}
    redeemed = await app.run(module("redeemVoucher"), **spent)
    found = await app.run(module("findCard"), cardId=issued["card"]["id"])
    [customer] = await app.run(module("findCustomers"), search="ana@", limit=10)
    [came] = await hooks.wait_for(1)
    await app.run("webhooks/events/events.detach.iml.json")

    outputs = {"issueCard": issued, "addStamps": once, "issueVoucher": given}
    outputs |= {"redeemVoucher": redeemed, "findCard": found, "findCustomers": customer}
    for name, output in outputs.items():
        assert unnamed(output, interface(name)) <= {"userErrors"}, name
    assert unnamed(came.data, interface("watchEvents")) == set()
    assert (chosen["value"], chosen["label"]) == (template.id, "Coffee card")
    assert issued["created"] is True
    assert once == twice
    assert (found["stamps"], customer["email"]) == (2, ANA.lower())
    assert redeemed["voucher"]["status"] == "REDEEMED"
    assert came.data["card"]["id"] == issued["card"]["id"]
    listed = await house.owner.do("{ webhookEndpoints { nodes { id } } }")
    assert listed["webhookEndpoints"]["nodes"] == []
    with pytest.raises(Invalid, match="redeemed"):
        await app.run(module("redeemVoucher"), **spent)
    with pytest.raises(Invalid, match="ID cannot represent"):
        await app.run(module("findCard"), cardId={})


@pytest.mark.parametrize("kind", event_types().values(), ids=list(event_types()))
def test_the_trigger_for_make_names_every_field_of_every_event(kind: Any) -> None:
    body = json.loads(sample_body(kind, "b_1", datetime(2026, 5, 11, tzinfo=UTC)))

    assert unnamed(body, interface("watchEvents")) == set()


def interface(name: str) -> list[Any]:
    """What a module says comes out of it."""
    fields: list[Any] = json.loads((APP / f"modules/{name}/{name}.interface.iml.json").read_text())
    return fields


def unnamed(told: Any, fields: Any) -> set[str]:
    """The keys, at any depth, that these fields do not name."""
    if isinstance(told, list):
        return {name for one in told for name in unnamed(one, fields)}
    if not isinstance(told, dict):
        return set()
    named = {field["name"]: field.get("spec", []) for field in fields}
    found = set(told) - set(named)
    return found.union(*(unnamed(told[name], named[name]) for name in set(told) & set(named)))


def module(name: str) -> str:
    """The file of a module's request."""
    return f"modules/{name}/{name}.communication.iml.json"


def rpc(name: str) -> str:
    """The file of a menu's request."""
    return f"rpcs/{name}/{name}.communication.iml.json"


def test_the_app_for_make_is_whole_and_knows_every_event() -> None:
    told = json.loads((APP / "makecomapp.json").read_text())

    named = {name for name in told["generalCodeFiles"].values() if name}
    for components in told["components"].values():
        for component in components.values():
            named |= set(component["codeFiles"].values())
    there = {str(path.relative_to(APP)) for path in APP.rglob("*") if path.is_file()}
    assert there == {*named, "makecomapp.json"}
    offered = json.loads((APP / "webhooks/events/events.params.iml.json").read_text())[0]
    assert [option["value"] for option in offered["options"]] == [
        name.upper() for name in event_types()
    ]


def test_the_blueprint_has_the_shape_that_make_imports() -> None:
    blueprint = json.loads(BLUEPRINT.read_text())

    assert set(blueprint) == {"name", "flow", "metadata"}
    assert blueprint["metadata"]["instant"] is True
    known: set[str] = set()
    for module in blueprint["flow"]:
        assert {"id", "module", "version", "parameters", "mapper", "metadata"} <= set(module)
        assert set(module["metadata"]["designer"]) == {"x", "y"}
        named = set(re.findall(r"\{\{(?:\w+\()*(\d+)\.", json.dumps(module)))
        assert named <= known
        known.add(str(module["id"]))
    assert len(known) == len(blueprint["flow"])


def test_the_workflow_has_the_shape_that_n8n_imports() -> None:
    workflow = json.loads(WORKFLOW.read_text())

    names = [item["name"] for item in workflow["nodes"]]
    assert len(set(names)) == len({item["id"] for item in workflow["nodes"]}) == len(names)
    for item in workflow["nodes"]:
        assert {"parameters", "id", "name", "type", "typeVersion", "position"} <= set(item)
        assert item["type"].startswith("n8n-nodes-base.")
        assert "credentials" not in item
    reached = {names[0]}
    for name, links in workflow["connections"].items():
        assert name in names
        for link in (link for branch in links["main"] for link in branch):
            assert set(link) == {"node", "type", "index"}
            assert (link["type"], link["index"]) == ("main", 0)
            reached.add(link["node"])
    assert reached == set(names)


@pytest.mark.parametrize("page", ["zapier.md", "make.md", "n8n.md"])
def test_every_document_on_a_page_fits_the_schema(page: str) -> None:
    schema = build_schema((ROOT / "docs" / "schema.graphql").read_text())
    text = (PAGES / page).read_text()
    said: Any = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]

    documents = re.findall(r"```graphql\n(.*?)```", text, re.DOTALL)
    documents += [block["query"] for block in said if "query" in block]
    assert documents
    for document in documents:
        assert validate(schema, parse(document)) == []
