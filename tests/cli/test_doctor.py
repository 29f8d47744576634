"""`stampwire doctor` and `stampwire secrets`: what is amiss is found, and a new key is put in."""

import asyncio
import base64
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlmodel import select
from typer.testing import CliRunner

import cli
from backends import free_port
from core.ids import new_id
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Query, Transaction, database_of, query
from factories import NOW, a_business
from fakes.apple import authority
from models import SigningSecret, Vocabulary, WebhookEndpoint
from processes import Process
from services.secret_keys import look
from webhooks.parcels import seal_headers, unseal_headers
from webhooks.signatures import key_of, seal, unseal

_ENDPOINT: Query[WebhookEndpoint] = query(select(WebhookEndpoint))
_SECRET: Query[SigningSecret] = query(select(SigningSecret))


class Doctor:
    """The command on these settings, with more of them told."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = Process(settings).environment
        self._monkeypatch = monkeypatch

    def run(self, *words: str, **more: str) -> Any:
        """Run a command in this process."""
        for name, value in {**self._environment, **more}.items():
            self._monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli.app, words)

    def says(self, **more: str) -> tuple[int, dict[str, dict[str, str]]]:
        """Its exit code, and what it says of each thing."""
        done = self.run("doctor", "--json", **more)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.exit_code, {line["check"]: line for line in lines}


@pytest.fixture
def doctor(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """The command on the settings of the test."""
    return Doctor(settings, monkeypatch)


def test_a_good_deployment_has_no_fault(doctor: Doctor, settings: Settings) -> None:
    code, said = doctor.says()

    assert code == 0, said
    assert {line["grade"] for line in said.values()} <= {"ok", "warning"}
    assert said["revision"]["grade"] == said["stored secrets"]["grade"] == "ok"
    assert said["doorbell"]["grade"] == "ok"
    if settings.is_sqlite:
        assert said["database"]["says"].startswith("SQLite 3.")
    else:
        assert said["second wall"]["says"].startswith("up:")
        assert said["doorbell"]["says"].startswith("Redis ")
        assert said["clock"]["grade"] == "ok"


@pytest.mark.parametrize(
    ("told", "check", "grade"),
    [
        ({"STAMPWIRE_TRUSTED_PROXIES": "*"}, "trusted proxies", "fault"),
        ({"STAMPWIRE_TRUSTED_PROXIES": "nowhere"}, "trusted proxies", "fault"),
        ({"STAMPWIRE_PUBLIC_URL": "https://a.example"}, "trusted proxies", "warning"),
        ({"STAMPWIRE_PUBLIC_URL": "stamps.example"}, "public url", "fault"),
        ({"STAMPWIRE_PUBLIC_URL": "https://a.example/stamps"}, "public url", "fault"),
        ({"STAMPWIRE_PUBLIC_URL": "http://a.example"}, "public url", "warning"),
        ({"STAMPWIRE_PUBLIC_URL": "https://a.example"}, "webhook guard", "fault"),
        ({"STAMPWIRE_OPERATOR_KEY": "guess me"}, "operator key", "warning"),
        ({"STAMPWIRE_METRICS_TOKEN": "guess me"}, "metrics token", "warning"),
        ({"STAMPWIRE_SECRET_KEY": "short"}, "secret key", "fault"),
        ({"STAMPWIRE_PORT": "many"}, "settings", "fault"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.on("sqlite")
def test_a_wrong_setting_is_told_of(
    doctor: Doctor, told: dict[str, str], check: str, grade: str
) -> None:
    code, said = doctor.says(**told)

    assert said[check]["grade"] == grade
    assert said[check]["do"]
    assert code == int(any(line["grade"] == "fault" for line in said.values()))


@pytest.mark.parametrize(
    ("ends_in", "grade", "says"),
    [
        (timedelta(days=31), "ok", "pass.example.stampwire is good until"),
        (timedelta(days=29), "warning", "the certificate ends on"),
        (timedelta(days=-1), "fault", "the certificate ended on"),
    ],
)
@pytest.mark.on("sqlite")
def test_the_end_of_a_pass_certificate_is_told_of(
    doctor: Doctor, ends_in: timedelta, grade: str, says: str
) -> None:
    signed = authority(datetime.now(UTC) + ends_in)
    told = {f"STAMPWIRE_{name.upper()}": text for name, text in signed.settings.items()}
    _, said = doctor.says(**told, STAMPWIRE_PUBLIC_URL="https://a.example")

    assert said["apple wallet"]["grade"] == grade
    assert says in said["apple wallet"]["says"]


@pytest.mark.on("sqlite")
def test_bad_settings_of_wallets_are_told_of_and_keep_a_server_from_starting(
    doctor: Doctor,
) -> None:
    bad = {
        "STAMPWIRE_APPLE_PASS_CERTIFICATE": "nowhere.pem",
        "STAMPWIRE_GOOGLE_WALLET_ISSUER": "338",
        "STAMPWIRE_GOOGLE_WALLET_ACCOUNT": "nowhere.json",
    }
    _, said = doctor.says(**bad)
    done = doctor.run("serve", **bad)

    assert said["apple wallet"]["grade"] == said["google wallet"]["grade"] == "fault"
    assert done.exit_code == 2
    assert "Settings: Apple Wallet: the file with the certificate" in done.stderr


def test_a_broker_or_mail_server_that_is_away_is_a_fault(doctor: Doctor) -> None:
    code, said = doctor.says(
        STAMPWIRE_BROADCAST_URL=f"redis://:secret@127.0.0.1:{free_port()}",
        STAMPWIRE_SMTP_URL=f"smtp://user:secret@127.0.0.1:{free_port()}",
        STAMPWIRE_MAIL_FROM="a@b.example",
    )

    assert code == 1
    assert (said["doorbell"]["grade"], said["mail"]["grade"]) == ("fault", "fault")
    assert "secret@" not in json.dumps(said)


def test_a_database_that_is_away_is_a_fault(doctor: Doctor, settings: Settings) -> None:
    url = f"postgresql://user:secret@127.0.0.1:{free_port()}/stampwire"
    if settings.is_sqlite:
        broken = settings.data_dir / "broken.db"
        broken.write_bytes(os.urandom(10_000))
        url = f"sqlite:///{broken}"

    code, said = doctor.says(STAMPWIRE_DATABASE_URL=url)

    assert (code, said["database"]["grade"]) == (1, "fault")
    assert "secret@" not in json.dumps(said)


@pytest.mark.on("sqlite")
def test_files_that_others_may_read_are_told_of(doctor: Doctor, settings: Settings) -> None:
    key = settings.data_dir / "secret.key"
    key.write_text(settings.secret_key)
    settings.data_dir.chmod(0o755)
    for path in (key, settings.data_dir / "stampwire.db"):
        path.chmod(0o644)

    code, said = doctor.says(STAMPWIRE_SECRET_KEY="")

    assert code == 1
    assert (said["secret key"]["grade"], said["file"]["grade"]) == ("fault", "warning")


@pytest.mark.on("sqlite")
def test_the_fault_of_sqlite_is_told_by_its_version(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, has_fault in (((3, 51, 2), True), ((3, 51, 3), False)):
        monkeypatch.setattr("sqlite3.sqlite_version_info", number)
        _, said = doctor.says()
        assert ("sqlite version" in said) is has_fault


@pytest.mark.on("postgres")
def test_a_table_before_the_wall_is_told_of(doctor: Doctor, settings: Settings) -> None:
    async def take_down() -> None:
        wire = await asyncpg.connect(settings.database)
        await wire.execute("ALTER TABLE card NO FORCE ROW LEVEL SECURITY")
        await wire.close()

    asyncio.run(take_down())

    code, said = doctor.says()

    assert (code, said["second wall"]["says"]) == (1, "no forced policy on card")


def test_a_secret_key_that_opens_nothing_stored_is_a_fault(
    doctor: Doctor, settings: Settings
) -> None:
    asyncio.run(_an_endpoint(settings))
    other = base64.b64encode(os.urandom(32)).decode()

    code, said = doctor.says(STAMPWIRE_SECRET_KEY=other)

    assert (code, said["stored secrets"]["says"]) == (1, "the secret key opens 0 of 2")


@pytest.mark.on("sqlite")
def test_rotating_puts_a_new_key_in_front_and_stores_all_under_it(
    doctor: Doctor, settings: Settings
) -> None:
    endpoint, signing = asyncio.run(_an_endpoint(settings))
    key = settings.data_dir / "secret.key"
    key.write_text(settings.secret_key)

    done = doctor.run("secrets", "rotate", STAMPWIRE_SECRET_KEY="")

    assert done.exit_code == 0, done.output
    fresh, former = key.read_text().strip().split(",")
    assert former == settings.secret_key
    assert key.stat().st_mode & 0o777 == 0o600
    alone = Secrets.from_setting(fresh, settings.data_dir)
    now, secret = asyncio.run(_stored(settings))
    assert unseal_headers(alone, now) == {"x-till": "7"}
    assert unseal(alone, endpoint.id, secret.ciphertext) == key_of(signing)
    assert fresh not in done.output

    dropped = doctor.run("secrets", "rotate", "--drop-former", STAMPWIRE_SECRET_KEY="")

    assert dropped.exit_code == 0
    assert key.read_text().strip() == fresh


def test_where_the_key_is_a_setting_the_order_is_told(doctor: Doctor, settings: Settings) -> None:
    asyncio.run(_an_endpoint(settings))

    told = doctor.run("secrets", "rotate")
    fresh = told.output.splitlines()[0].removeprefix("A new key: ")
    both = f"{fresh},{settings.secret_key}"
    done = doctor.run("secrets", "rotate", "--reseal", STAMPWIRE_SECRET_KEY=both)

    assert settings.secret_key not in told.output
    assert done.output.strip() == "2 stored secrets are under the first key."
    alone = Secrets.from_setting(fresh, settings.data_dir)
    assert asyncio.run(_on(settings, lambda database: look(database, alone))).closed == 0


async def _an_endpoint(settings: Settings) -> tuple[WebhookEndpoint, str]:
    """An endpoint with headers of its own, and its signing secret."""
    secrets, signing = (
        Secrets.from_setting(settings.secret_key, settings.data_dir),
        "whsec_c2VjcmV0",
    )

    async def make(database: Database) -> tuple[WebhookEndpoint, str]:
        business = (await a_business(database, secrets)).business.id
        id = new_id("we")
        endpoint = WebhookEndpoint(
            id=id,
            business_id=business,
            url="https://till.example/hook",
            vocabulary=Vocabulary.EN,
            headers=seal_headers(secrets, id, {"x-till": "7"}),
            cursor_sequence=0,
            created_at=NOW,
            next_attempt_at=NOW,
            lease_until=NOW,
        )
        stored = SigningSecret(
            id=new_id("sec"),
            business_id=business,
            endpoint_id=id,
            ciphertext=seal(secrets, id, signing),
            created_at=NOW,
        )
        await database.write(business, lambda tx: tx.add(endpoint, stored))
        return endpoint, signing

    return await _on(settings, make)


async def _stored(settings: Settings) -> tuple[WebhookEndpoint, SigningSecret]:
    async def work(tx: Transaction) -> tuple[WebhookEndpoint, SigningSecret]:
        return await tx.one(_ENDPOINT), await tx.one(_SECRET)

    return await _on(settings, lambda database: database.read(None, work))


async def _on(settings: Settings, work: Any) -> Any:
    database = database_of(settings, visiting=True)
    await database.open()
    try:
        return await work(database)
    finally:
        await database.close()
