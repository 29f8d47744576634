"""Imports over the API: who sees them, and what a picture is called there."""

from typing import Any

from models import Role
from samples import things_of

LOOKS = {
    "query($id: ID!) { importJob(id: $id) { id } }": "import_job",
    "{ importJobs { nodes { id } } }": None,
    "query($id: ID!) { exportCustomer(id: $id) }": "customer",
    "query($id: ID!) { exportCardTemplate(id: $id) }": "template",
    "query($id: ID!) { cardTemplateChanges(id: $id) { field } }": "template",
}
NODE = "query($id: ID!) { node(id: $id) { id ... on Upload { mediaType url emptiedAt } } }"


async def test_scanners_see_no_imports_and_take_nothing_out(house: Any) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    scanner, manager = [(await house.hire(role))[1] for role in (Role.SCANNER, Role.MANAGER)]

    asked = [(look, {"id": things[kind]} if kind else {}) for look, kind in LOOKS.items()]
    denied = [(await scanner.call(*one)).codes for one in asked]
    by_manager = [(await manager.call(*one)).codes for one in asked]
    by_owner = [(await house.owner.call(*one)).codes for one in asked]
    nodes = [
        (await client.do(NODE, {"id": things[kind]}))["node"]
        for client in (scanner, manager)
        for kind in ("import_job", "upload")
    ]

    assert denied == [["FORBIDDEN"]] * len(LOOKS)
    assert by_manager == [[], [], ["FORBIDDEN"], [], []]
    assert by_owner == [[]] * len(LOOKS)
    assert nodes == [
        None,
        None,
        {"id": things["import_job"]},
        {"id": things["upload"], "mediaType": "text/csv", "url": None, "emptiedAt": None},
    ]
