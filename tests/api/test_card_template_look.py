"""Card templates over the API: the look changes at once, and JSON goes out and in."""

from typing import Any

from factories import a_card

TEMPLATE = """query($card: ID!, $id: ID!) {
    card(ref: {id: $card}) { stampsRequired nextGoal { title } template { name design version } }
    cardTemplateChanges(id: $id) { field before after } }"""
UPDATE = """mutation($input: UpdateCardTemplateInput!) {
    updateCardTemplate(input: $input) { changes { field } userErrors { code } } }"""
PUBLISH = """mutation($input: PublishCardTemplateInput!) {
    publishCardTemplate(input: $input) { userErrors { code } } }"""
OUT = "query($id: ID!) { exportCardTemplate(id: $id) }"
IN = """mutation($input: ImportCardTemplateInput!) { importCardTemplate(input: $input) {
    cardTemplate { id name status stampsRequired goals { stamps title } } userErrors { code } } }"""


async def test_the_look_changes_at_once_and_goals_with_the_next_cycle(house: Any) -> None:
    card = await a_card(house.database, house.actor)
    asked = {"card": card.id, "id": card.template_id}
    given = {
        "id": card.template_id,
        "design": {"colour": "red"},
        "stampsRequired": 5,
        "goals": [{"stamps": 5, "reward": {"award": {"title": "A cake"}}}],
    }

    await house.owner.do(UPDATE, {"input": given})
    waiting = await house.owner.do(TEMPLATE, asked)
    await house.owner.do(PUBLISH, {"input": {"id": card.template_id}})
    after = await house.owner.do(TEMPLATE, asked)

    assert [change["field"] for change in waiting["cardTemplateChanges"]] == [
        "stampsRequired",
        "goals",
        "design",
    ]
    assert waiting["card"]["template"]["design"] == {}
    assert after["cardTemplateChanges"] == []
    assert after["card"]["template"] == {
        "name": "Coffee card",
        "design": {"colour": "red"},
        "version": 2,
    }
    assert after["card"]["stampsRequired"] == 3
    assert after["card"]["nextGoal"]["title"] == "A free coffee"


async def test_a_template_goes_out_and_in_as_json(house: Any, open_house: Any) -> None:
    card = await a_card(house.database, house.actor)
    other = await open_house()

    document = (await house.owner.do(OUT, {"id": card.template_id}))["exportCardTemplate"]
    made = (await other.owner.do(IN, {"input": {"document": document, "name": "Copy"}}))[
        "importCardTemplate"
    ]
    nothing = (await other.owner.do(OUT, {"id": card.template_id}))["exportCardTemplate"]
    refused = (await other.owner.do(IN, {"input": {"document": [1]}}))["importCardTemplate"]

    assert made["cardTemplate"] == {
        "id": made["cardTemplate"]["id"],
        "name": "Copy",
        "status": "DRAFT",
        "stampsRequired": 3,
        "goals": [{"stamps": 3, "title": "A free coffee"}],
    }
    assert nothing is None
    assert refused == {"cardTemplate": None, "userErrors": [{"code": "INVALID"}]}
