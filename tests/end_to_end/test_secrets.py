"""What was given out once is nowhere to be found again: not in the database, not in the logs."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from backends import Backend, free_port
from core.settings import Settings
from fakes.receiver import receiving
from partners import BEGINNING, Api, operations, subscriber
from processes import Process, stampwire

OPERATOR = "operator-key-of-the-tests-0123456789"
CUSTOMER = {
    "email": "ratna.wulandari@mail.example",
    "phone": "+6281355501234",
    "name": "Ratna Wulandari",
}
_COLUMNS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
"""


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """A server without the demo, whose credentials it would show at its start."""
    started = Process(settings.model_copy(update={"operator_key": OPERATOR}))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@dataclass
class Given:
    """What was given out in a story, and whom it was about."""

    secrets: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)

    def forms(self) -> Iterator[tuple[str, bytes]]:
        """Every secret, as it is and as it might be hidden: in base64 and in hex."""
        for name, secret in self.secrets.items():
            raw = secret.encode()
            yield name, raw
            yield f"{name} in base64", base64.b64encode(raw).rstrip(b"=")[:-1]
            yield f"{name} in hex", raw.hex().encode()
        for name, secret in self.secrets.items():
            if secret.startswith("whsec_"):
                key = base64.b64decode(secret.removeprefix("whsec_"))
                yield f"{name} without prefix", secret.removeprefix("whsec_").encode()
                yield f"{name}'s bytes", key
                yield f"{name}'s bytes in hex", key.hex().encode()


async def test_no_secret_is_found_in_the_database_or_the_logs(
    process: Process, backend: Backend
) -> None:
    given = await _story(process)

    assert len(given.secrets) >= 12
    before = await _stored(process, backend)
    await asyncio.to_thread(process.stop)
    after = await _stored(process, backend)
    logs = _logs(process)

    assert CUSTOMER["email"].encode() in before  # the search does find what is there
    assert CUSTOMER["email"].encode() in after
    for name, secret in given.forms():
        assert secret not in before, f"{name} is in the database of a running server"
        assert secret not in after, f"{name} is in the database"
        assert secret not in logs, f"{name} is in the logs"


async def test_no_customer_is_named_in_the_logs(process: Process) -> None:
    given = await _story(process)
    await asyncio.to_thread(process.stop)

    logs = _logs(process).lower()
    assert len(given.people) >= 6
    for name, told in given.people.items():
        assert told.lower().encode() not in logs, f"{name} is in the logs"
    assert b"traceback" not in logs


async def test_a_replay_gives_no_secret(process: Process) -> None:
    async with _owner(process) as (api, _):
        staff = await _new_staff(api, "replay@kopi.example")
        asked = {"staffId": staff["id"], "idempotencyKey": "once"}
        first = await api.do("GenerateApiKey", **asked)
        again = await api.ask("GenerateApiKey", input=asked)
        endpoint = {"url": f"http://127.0.0.1:{free_port()}/hooks", "idempotencyKey": "once more"}
        made = await api.do("CreateWebhookEndpoint", **endpoint)
        made_again = await api.ask("CreateWebhookEndpoint", input=endpoint)

    assert first["secret"]
    assert again["apiKey"] == first["apiKey"]
    assert again["secret"] is None
    assert [error["code"] for error in again["userErrors"]] == ["SECRET_ALREADY_SHOWN"]
    assert first["secret"] not in json.dumps(again)
    assert made["signingSecret"]
    assert made_again["endpoint"]["id"] == made["endpoint"]["id"]
    assert made_again["signingSecret"] is None
    assert [error["code"] for error in made_again["userErrors"]] == ["SECRET_ALREADY_SHOWN"]


@asynccontextmanager
async def _owner(process: Process) -> AsyncIterator[tuple[Api, dict[str, Any]]]:
    """The owner of a new business, made on the command line."""
    words = ("business", "create", "--name", "Kopi", "--timezone", "Asia/Jakarta", "--json")
    made = json.loads(await asyncio.to_thread(process.run, *words))
    async with Api(process.graphql, made["owner"]["apiKey"]) as api:
        yield api, made


async def _new_staff(api: Api, login: str, password: str = "long enough 1") -> Any:
    staff = {"name": "Bar", "login": login, "password": password, "role": "SCANNER"}
    return (await api.do("CreateStaff", **staff))["staff"]


async def _story(process: Process) -> Given:
    """Give out everything there is to give, and make every mistake that logs might tell of."""
    given = Given()
    keep, people = given.secrets, given.people
    keep["operator's key"] = OPERATOR
    keep["secret key of the deployment"] = process.settings.secret_key
    people |= {f"customer's {name}": told for name, told in CUSTOMER.items()}
    async with _owner(process) as (api, made), receiving() as receiver:
        for who in ("owner", "scanner"):
            keep[f"{who}'s password"] = made[who]["password"]
            keep[f"{who}'s key"] = made[who]["apiKey"]

        await _sessions(api, keep)
        await _keys(api, keep)
        await _another_business(api, keep)
        made["endpoint"] = await _endpoint(api, receiver.at("/hidden-in-the-url"), keep)
        card = await _customers(api, made, people)
        async with subscriber(
            process.socket, api.secret or "", operations()["Events"], after=BEGINNING
        ) as heard:
            await api.do("AddStamps", card={"id": card["id"]}, count=6)
            await heard.wait_for(3)
        await receiver.wait_for(3)
        await _mistakes(process, api, keep)
    return given


async def _sessions(api: Api, keep: dict[str, str]) -> None:
    keep["first password"], keep["new password"] = "kopi hitam 12345", "kopi susu 67890"
    login = "sessions@kopi.example"
    await _new_staff(api, login, keep["first password"])
    signed = await api.do("SignIn", login=login, password=keep["first password"])
    keep["session"] = signed["session"]["secret"]
    async with api.by(keep["session"]) as staff:
        await staff.do(
            "ChangePassword",
            currentPassword=keep["first password"],
            newPassword=keep["new password"],
        )
    again = await api.do("SignIn", login=login, password=keep["new password"])
    keep["second session"] = again["session"]["secret"]
    async with api.by(keep["second session"]) as staff:
        await staff.do("SignOut")


async def _keys(api: Api, keep: dict[str, str]) -> None:
    staff = await _new_staff(api, "keys@kopi.example")
    key = await api.do("GenerateApiKey", staffId=staff["id"], idempotencyKey="key")
    keep["generated key"] = key["secret"]
    again = await api.do("RegenerateApiKey", id=key["apiKey"]["id"], idempotencyKey="again")
    keep["regenerated key"] = again["secret"]
    async with api.by(again["secret"]) as till:
        await till.ask("Viewer")


async def _another_business(api: Api, keep: dict[str, str]) -> None:
    keep["another owner's password"] = "teh tarik 24680"
    owner = {
        "name": "Ana",
        "login": "another@kopi.example",
        "password": keep["another owner's password"],
    }
    async with api.by(OPERATOR) as operator:
        made = await operator.do(
            "CreateBusiness",
            name="Teh",
            timezone="Asia/Jakarta",
            currency="IDR",
            mode="TEST",
            owner=owner,
        )
    keep["another owner's key"] = made["apiKeySecret"]


async def _endpoint(api: Api, url: str, keep: dict[str, str]) -> str:
    keep["endpoint's header"] = "token-of-the-partner-13579"
    made = await api.do(
        "CreateWebhookEndpoint",
        url=url,
        idempotencyKey="endpoint",
        headers=[{"name": "X-Token", "value": keep["endpoint's header"]}],
    )
    keep["signing secret"] = made["signingSecret"]
    id: str = made["endpoint"]["id"]
    rotated = await api.do("RotateSigningSecret", id=id, idempotencyKey="rotate")
    keep["rotated signing secret"] = rotated["signingSecret"]
    await api.do("SendTestEvent", id=id, type="VOUCHER_REDEEMED")
    return id


async def _customers(api: Api, made: Any, people: dict[str, str]) -> Any:
    issued = await api.do(
        "IssueCard",
        templateId=made["cardTemplate"]["id"],
        customer={**CUSTOMER, "birthday": "1991-07-17"},
        idempotencyKey="issue",
    )
    customer = issued["card"]["customer"]["id"]
    people["birthday"] = "1991-07-17"
    people["new name"], people["new e-mail"] = "Ratna Kusuma", "ratna.kusuma@mail.example"
    await api.do("SetConsent", customerId=customer, channel="EMAIL", granted=True)
    await api.ask("Customers", filter={"search": CUSTOMER["name"]})
    other = await api.do("CreateCustomer", name=people["new name"], email=people["new e-mail"])
    # Taken by somebody else: the database itself says the value in its error.
    await api.ask("UpdateCustomer", input={"id": customer, "email": people["new e-mail"]})
    await api.ask("CreateCustomer", input={"email": CUSTOMER["email"], "phone": CUSTOMER["phone"]})
    await api.ask("CreateCustomer", input={"name": CUSTOMER["name"], "email": "not an address"})
    assert other["customer"]["id"] != customer
    return issued["card"]


async def _mistakes(process: Process, api: Api, keep: dict[str, str]) -> None:
    """Wrong passwords and keys, secrets where they do not belong, documents that do not parse."""
    keep["mistyped password"] = "kopi typo 97531"
    login = "sessions@kopi.example"
    await api.ask("SignIn", input={"login": login, "password": keep["mistyped password"]})
    keep["mistyped key"] = f"{keep['generated key'][:-1]}!"
    for secret in (keep["generated key"], keep["mistyped key"]):
        async with api.by(secret) as stranger:
            await stranger.send(operations()["Viewer"])
    person = f'"{CUSTOMER["email"]} {CUSTOMER["phone"]} {CUSTOMER["name"]}'
    for document in (f"{{ cards(first: {person}) }}", f"{{ {person}", f'{{ node(id: {person}") }}'):
        await api.send(document)
    await api.send(
        operations()["Customers"], filter={"search": {"oh": CUSTOMER["name"]}}, first="x"
    )
    await api.send(operations()["Customers"], filter={"search": f"{CUSTOMER['name']}\x00"})
    async with httpx2.AsyncClient() as client:
        headers = {"authorization": f"Bearer {api.secret}"}
        query = {"key": api.secret or "", "email": CUSTOMER["email"]}
        await client.get(f"{process.url}/no/{CUSTOMER['email']}", params=query, headers=headers)
        await client.get(process.graphql, params={"query": "{ x }", **query}, headers=headers)
        broken = f'{{"query": "{api.secret} {CUSTOMER["email"]}'
        await client.post(process.graphql, content=broken, headers=headers)


async def _stored(process: Process, backend: Backend) -> bytes:
    """Everything the database holds, as bytes."""
    if backend.name == "sqlite":
        files = sorted(process.data_dir.glob("stampwire.db*"))
        assert Path(process.data_dir / "stampwire.db") in files
        return b"\n".join(file.read_bytes() for file in files)
    return await _rows(process.settings.database)


async def _rows(database: str) -> bytes:
    """Every value of every column, as the superuser sees it: row-level security hides none."""
    url = database.replace("//stampwire@", "//postgres@")
    wire = await asyncpg.connect(url)
    try:
        found = []
        for table, column in await wire.fetch(_COLUMNS):
            rows = await wire.fetch(f'SELECT "{column}"::text FROM "{table}"')
            found += [f"{table}.{column}={row[0]}" for row in rows]
    finally:
        await wire.close()
    return "\n".join(found).encode()


def _logs(process: Process) -> bytes:
    """What the server said, in all its logs."""
    return b"\n".join(file.read_bytes() for file in process.data_dir.rglob("*.log"))


def test_a_wrong_setting_is_told_of_without_the_others(settings: Settings) -> None:
    process = Process(settings)
    secret = "postgres://stampwire:hunter2-of-the-database@127.0.0.1/stampwire"
    wrong = {"STAMPWIRE_DATABASE_URL": secret, "STAMPWIRE_SECRET_KEY": ""}

    done = subprocess.run(
        [*stampwire(), "db", "upgrade"],
        env={**process.environment, **wrong, "STAMPWIRE_OPERATOR_KEY": OPERATOR},
        capture_output=True,
        check=False,
        timeout=30,
    )

    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert b"Settings: " in said
    assert b"hunter2" not in said
    assert OPERATOR.encode() not in said
