"""The commands that work on the database: businesses, keys, passwords, the log, the schema."""

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core.secrets import Secrets
from core.settings import Settings
from db import Database, database_of
from events.vocabulary import EVENTS
from factories import NOW, a_card, stamps
from models import Actor
from services.access import authenticate
from services.operator import staff_of_login
from services.sign_ins import SignInInput, sign_in

Run = Callable[..., str]


@pytest.fixture
def demo(run: Run) -> dict[str, Any]:
    """The demo café, as the command tells of it."""
    told: dict[str, Any] = json.loads(run("demo", "--json"))
    return told


def _on(settings: Settings, work: Callable[[Database], Awaitable[Any]]) -> Any:
    async def done() -> Any:
        database = database_of(settings, visiting=True)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(done())


def _caller(settings: Settings, secrets: Secrets, key: str) -> Actor | None:
    """Whom a key stands for."""
    found: Actor | None = _on(
        settings,
        lambda database: database.read(None, lambda tx: authenticate(tx, key, secrets, NOW)),
    )
    return found


def test_the_demo_is_made_once(run_process: Run, demo: dict[str, Any], settings: Settings) -> None:
    path = settings.data_dir / "demo.json"

    again = json.loads(run_process("demo", "--json"))
    shown = run_process("demo")

    assert again == demo == json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert demo["url"] == settings.url
    assert demo["owner"]["apiKey"] in shown


def test_a_demo_whose_database_is_gone_is_made_anew(
    run: Run, demo: dict[str, Any], settings: Settings, secrets: Secrets
) -> None:
    path = settings.data_dir / "demo.json"
    path.write_text(json.dumps({**demo, "business": {"id": "b_1"}}))

    again = json.loads(run("demo", "--json"))

    assert again["business"]["id"] != demo["business"]["id"]
    assert _caller(settings, secrets, again["owner"]["apiKey"]) is not None


def test_a_key_is_generated_regenerated_and_deleted(
    run: Run, demo: dict[str, Any], settings: Settings, secrets: Secrets
) -> None:
    login, first = demo["scanner"]["login"], demo["scanner"]["apiKey"]

    second = json.loads(run("keys", "regenerate", "--staff", login, "--json"))["apiKey"]
    assert _caller(settings, secrets, first) is None
    assert _caller(settings, secrets, second) is not None

    run("keys", "delete", "--staff", login)
    assert _caller(settings, secrets, second) is None

    third = run("keys", "generate", "--staff", login).strip()
    known = _caller(settings, secrets, third)
    assert known is not None
    assert known.staff is not None
    assert known.staff.login == login


def test_keys_are_listed_without_their_secrets(run: Run, demo: dict[str, Any]) -> None:
    shown = run("keys", "list")
    keys = json.loads(run("keys", "list", "--json"))
    one = json.loads(run("keys", "list", "--staff", demo["scanner"]["login"], "--json"))

    assert [key["login"] for key in keys] == [demo["owner"]["login"], demo["scanner"]["login"]]
    assert one == keys[1:]
    assert keys[0]["hint"] == demo["owner"]["apiKey"][-4:]
    assert demo["owner"]["apiKey"] not in shown
    assert all(key["id"] in shown for key in keys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("keys", "generate", "--staff", "nobody@kopi.example"), "There is no such staff login."),
        (("keys", "generate", "--staff", "{owner}"), "This staff login has a key"),
        (("staff", "reset", "nobody@kopi.example"), "There is no such staff login."),
        (("keys", "list", "--business", "b_1"), "Say which business"),
        (("events", "--types", "stamp_eaten"), "There is no event type 'stamp_eaten'."),
        (("events", "--vocabulary", "DE"), "The vocabulary is EN or ID."),
        (("events", "--after", "tomorrow"), "This is not a cursor"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, demo: dict[str, Any], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message) as told:
        run(*(word.format(owner=demo["owner"]["login"]) for word in words))

    assert "Traceback" not in str(told.value)


def test_a_process_says_it_in_one_line_too(run_process: Run) -> None:
    with pytest.raises(RuntimeError, match="There is no such staff login") as told:
        run_process("staff", "reset", "nobody@kopi.example")

    assert "Traceback" not in str(told.value)


def test_a_password_is_reset(
    run: Run, demo: dict[str, Any], settings: Settings, secrets: Secrets
) -> None:
    login = demo["owner"]["login"]

    password = json.loads(run("staff", "reset", login, "--json"))["password"]

    async def opens(database: Database) -> Any:
        asked = SignInInput(login=login, password=password)
        return await sign_in(database, secrets, asked, NOW)

    assert password != demo["owner"]["password"]
    assert _on(settings, opens).staff.login == login


def test_the_log_is_printed_as_webhooks_carry_it(
    run: Run, demo: dict[str, Any], settings: Settings
) -> None:
    async def happen(database: Database) -> None:
        _, actor = await database.read(None, lambda tx: staff_of_login(tx, demo["owner"]["login"]))
        card = await a_card(database, actor, demo["cardTemplate"]["id"])
        await stamps(database, actor, card, 2)

    _on(settings, happen)

    plain = [json.loads(line) for line in run("events").splitlines()]
    english = [json.loads(line) for line in run("events", "--vocabulary", "EN").splitlines()]
    second = run("events", "--types", "Stamp_ditambahkan,CARD_SAVED").splitlines()
    after = run("events", "--after", "ZXZ0OjE", "--business", demo["business"]["id"]).splitlines()

    assert [event["event"] for event in english] == ["card_issued", "stamp_added"]
    assert [event["event"] for event in plain] == [EVENTS[event["event"]] for event in english]
    assert [json.loads(line) for line in second] == plain[1:]
    assert after == second


def test_with_several_businesses_the_demos_is_meant(run: Run, demo: dict[str, Any]) -> None:
    other = json.loads(
        run("business", "create", "--name", "Teh", "--timezone", "Asia/Jakarta", "--json")
    )

    theirs = json.loads(run("keys", "list", "--business", other["business"]["id"], "--json"))
    ours = json.loads(run("keys", "list", "--json"))

    assert theirs[0]["login"] == other["owner"]["login"]
    assert ours[0]["login"] == demo["owner"]["login"]


def test_the_schema_is_exported(run: Run, settings: Settings) -> None:
    path = settings.data_dir / "schema.graphql"

    printed = run("schema", "export")
    run("schema", "export", "--out", str(path))

    assert "type Mutation {" in printed
    assert path.read_text() == printed
