"""A CRM in the shape of HubSpot's CRM v3: contacts found by e-mail, tasks that belong to them."""

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TASK_TO_CONTACT = 204
"""Their number for what ties a task to a contact."""


@dataclass
class Crm:
    """A portal with its contacts, its tasks and an access token."""

    token: str = "pat-eu1-1"
    contacts: dict[str, str] = field(default_factory=dict)
    """Ids by e-mail."""
    tasks: list[dict[str, Any]] = field(default_factory=list)

    def tasks_of(self, email: str) -> list[str]:
        """The names of the tasks that belong to a contact."""
        contact = self.contacts[email]
        return [task["name"] for task in self.tasks if task["contact"] == contact]

    @property
    def app(self) -> Starlette:
        """The two calls."""
        return Starlette(
            routes=[
                Route("/crm/v3/objects/contacts/search", self._search, methods=["POST"]),
                Route("/crm/v3/objects/tasks", self._create, methods=["POST"]),
            ]
        )

    async def _search(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"status": "error", "category": "INVALID_AUTHENTICATION"}, 401)
        [group] = (await request.json())["filterGroups"]
        [wanted] = group["filters"]
        assert (wanted["propertyName"], wanted["operator"]) == ("email", "EQ")
        found = self.contacts.get(wanted["value"])
        results = [] if found is None else [{"id": found, "properties": {"email": wanted["value"]}}]
        return JSONResponse({"total": len(results), "results": results})

    async def _create(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"status": "error", "category": "INVALID_AUTHENTICATION"}, 401)
        said = await request.json()
        told = said["properties"]
        if not told.get("hs_timestamp"):  # when it is due; the only one they insist on
            return JSONResponse({"status": "error", "category": "VALIDATION_ERROR"}, 400)
        [tie] = said["associations"]
        assert tie["types"] == [
            {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": TASK_TO_CONTACT}
        ]
        task = {
            "name": told["hs_task_subject"],
            "note": told.get("hs_task_body"),
            "due": told["hs_timestamp"],
            "contact": tie["to"]["id"],
        }
        self.tasks.append(task)
        return JSONResponse({"id": str(len(self.tasks)), "properties": told}, 201)
