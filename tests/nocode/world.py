"""The other side of each story: fakes at the addresses of the real services, and apps that call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from fakes.crm import TASK_TO_CONTACT, Crm
from fakes.mailchimp import Mailchimp, hash_of
from fakes.slack import Slack

MAILCHIMP, SLACK, CRM = (
    "https://us6.api.mailchimp.com",
    "https://slack.com",
    "https://api.hubapi.com",
)
Action = Callable[..., Awaitable[Any]]


@dataclass
class World:
    """What a story reaches."""

    http: httpx2.AsyncClient
    mailchimp: Mailchimp = field(default_factory=Mailchimp)
    slack: Slack = field(default_factory=Slack)
    crm: Crm = field(default_factory=Crm)

    @property
    def actions(self) -> dict[str, Action]:
        """What apps of Zapier do when a step has their name; each takes the step's fields."""
        return {
            "Mailchimp: Add/Update Subscriber": self._subscribe,
            "Slack: Send Channel Message": self._post,
            "Your CRM: Find Contact": self._find_contact,
            "Your CRM: Create Task": self._create_task,
        }

    async def _subscribe(self, fields: dict[str, str]) -> Any:
        email = fields["Subscriber Email"]
        member = f"{MAILCHIMP}/3.0/lists/{fields['Audience']}/members/{hash_of(email)}"
        asked = {"email_address": email, "status_if_new": "subscribed"}
        login = ("stampwire", self.mailchimp.key)
        put = (await self.http.put(member, json=asked, auth=login)).raise_for_status()
        tags = {"tags": [{"name": fields["Tags"], "status": "active"}]}
        (await self.http.post(f"{member}/tags", json=tags, auth=login)).raise_for_status()
        return put.json()

    async def _post(self, fields: dict[str, str]) -> Any:
        asked = {"channel": fields["Channel"], "text": fields["Message Text"]}
        headers = {"authorization": f"Bearer {self.slack.token}"}
        said = await self.http.post(f"{SLACK}/api/chat.postMessage", json=asked, headers=headers)
        assert said.json()["ok"], said.json()
        return said.json()

    async def _find_contact(self, fields: dict[str, str]) -> Any:
        wanted = {"propertyName": "email", "operator": "EQ", "value": fields["Email"]}
        said = await self.http.post(
            f"{CRM}/crm/v3/objects/contacts/search",
            json={"filterGroups": [{"filters": [wanted]}]},
            headers=self._crm_headers,
        )
        [found] = said.raise_for_status().json()["results"]
        return found

    async def _create_task(self, fields: dict[str, str]) -> Any:
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": TASK_TO_CONTACT}
        asked = {
            "properties": {
                "hs_task_subject": fields["Title"],
                "hs_task_body": fields["Note"],
                "hs_timestamp": fields["Due Date"],
            },
            "associations": [{"to": {"id": fields["Contact"]}, "types": [kind]}],
        }
        said = await self.http.post(
            f"{CRM}/crm/v3/objects/tasks", json=asked, headers=self._crm_headers
        )
        return said.raise_for_status().json()

    @property
    def _crm_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.crm.token}"}


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """One, with nobody in it."""
    mailchimp, slack, crm = Mailchimp(), Slack(), Crm()
    fakes = {MAILCHIMP: mailchimp.app, SLACK: slack.app, CRM: crm.app}
    mounts = {url: httpx2.ASGITransport(app=app) for url, app in fakes.items()}
    async with httpx2.AsyncClient(mounts=mounts, trust_env=False) as http:
        yield World(http, mailchimp, slack, crm)
