"""`stampwire doctor`: what is amiss in this deployment, and what to do about it."""

import asyncio
import json
import os
import resource
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from core.settings import Settings

if TYPE_CHECKING:
    from db.checkup import Checkup

_PATIENCE = 5.0
_LONG = 32
_SOON = timedelta(days=30)
"""So long before its end a certificate is told of: Apple makes a new one in minutes."""
_CONNECTIONS = 10
"""What one process opens to PostgreSQL at most, beside one for the doorbell."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do where it is not well."""

    check: str
    grade: str
    says: str
    do: str = ""


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", says)


def warning(check: str, says: str, do: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(check, "warning", says, do)


def fault(check: str, says: str, do: str) -> Finding:
    """It does not work, or not safely."""
    return Finding(check, "fault", says, do)


def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False
) -> None:
    """Look for what is amiss; a line for each thing looked at. Exit code 1 on a fault.

    Nothing is changed, and nothing secret is printed.
    """
    found = list(_look())
    for finding in found:
        typer.echo(json.dumps(asdict(finding)) if as_json else _line(finding))
    if any(finding.grade == "fault" for finding in found):
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    line = f"{finding.grade:<8} {finding.check:<16} {finding.says}"
    return f"{line}\n{'':<26}{finding.do}" if finding.do else line


def _look() -> Iterator[Finding]:
    try:
        settings = Settings()
    except ValueError as error:
        yield fault("settings", " ".join(str(error).split()), "See docs/settings.md.")
        return
    yield ok("settings", "they can be read")
    yield from _secret_key(settings)
    yield from _database(settings)
    yield from _folder(settings)
    yield from _doorbell(settings)
    yield from _mail(settings)
    yield from _wallets(settings)
    yield from _public(settings)
    yield from _proxies(settings)
    yield from _dangers(settings)
    yield from _process()


# -- The secret key -------------------------------------------------------------------------------


def _secret_key(settings: Settings) -> Iterator[Finding]:
    from core.secrets import Secrets  # noqa: PLC0415

    path = settings.data_dir / "secret.key"
    if not settings.secret_key and not path.exists():
        yield ok("secret key", f"none yet: the first start makes {path}")
        return
    try:
        Secrets.from_setting(settings.secret_key, settings.data_dir)
        text = settings.secret_key or path.read_text()
    except (ValueError, OSError) as error:
        yield fault("secret key", f"it cannot be used: {error}", "Put back the one you keep.")
        return
    if not settings.secret_key and _is_open_to_others(path):
        yield fault("secret key", f"others may read {path}", f"chmod 600 {path}")
        return
    former = text.count(",")
    says = f"good, and {former} former accepted" if former else "good"
    where = "STAMPWIRE_SECRET_KEY" if settings.secret_key else str(path)
    yield ok("secret key", f"{says}; keep a copy of {where} apart from the backups")


# -- The database ---------------------------------------------------------------------------------


def _database(settings: Settings) -> Iterator[Finding]:
    from db.checkup import check_up_postgresql, check_up_sqlite  # noqa: PLC0415

    path = Path(settings.database.removeprefix("sqlite:///"))
    if settings.is_sqlite and not path.exists():
        yield ok("database", f"none yet: the first start makes {path}")
        return
    try:
        if settings.is_sqlite:
            found = check_up_sqlite(settings.database)
        else:
            found = asyncio.run(check_up_postgresql(settings.database))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it does not answer
        do = "Is it running, and are address, login and password right?"
        yield fault("database", f"it cannot be read ({type(error).__name__})", do)
        return
    if settings.is_sqlite:
        yield from _sqlite(found, path)
    else:
        yield from _postgresql(found)
    yield from _revision(settings)


def _sqlite(found: "Checkup", path: Path) -> Iterator[Finding]:
    yield ok("database", f"SQLite {found.version} at {path}")
    if found.has_reset_fault:
        yield warning(
            "sqlite version",
            f"{found.version} has a fault (fixed in 3.51.3): connections of several processes that "
            "write and checkpoint at once can break the file",
            "Embedded mode keeps clear of it: one server process, which alone checkpoints. Write "
            "to the file with stampwire's own commands only, never with the sqlite3 shell.",
        )
    if not found.has_wal:
        yield warning("journal", "it is not in WAL mode", "The next start sets it.")
    if _is_open_to_others(path):
        do = f"chmod 600 {path} (and chmod 700 the folder)"
        yield warning("file", f"others may read {path}, which holds personal data", do)


def _postgresql(found: "Checkup") -> Iterator[Finding]:
    yield ok("database", f"PostgreSQL {found.version}")
    wall = "second wall"
    if not found.may_act:
        yield warning(
            wall,
            "off: our login may not act as stampwire_app and stampwire_system",
            "As a superuser: CREATE ROLE both NOLOGIN, GRANT both to our login; then make the "
            "database anew from a backup, so that its policies are there (decision 9).",
        )
    elif found.unprotected:
        tables = ", ".join(found.unprotected)
        do = "Make the database anew from a backup (stampwire restore), and look again."
        yield fault(wall, f"no forced policy on {tables}", do)
    else:
        yield ok(wall, "up: every tenant table has a forced policy")
    if found.bypasses:
        do = "Use a login of its own: CREATE ROLE stampwire LOGIN CREATEROLE PASSWORD …"
        yield warning(
            "login", "a superuser, or one that goes round policies; migrations do not need it", do
        )
    if abs(found.skew) > 2:
        do = "Run a time service (chrony, systemd-timesyncd) on both machines."
        yield warning("clock", f"{found.skew:+.1f} s against the database's", do)
    else:
        yield ok("clock", f"{found.skew:+.2f} s against the database's")
    processes = found.connections // (_CONNECTIONS + 1)
    yield ok(
        "connections", f"the server takes {found.connections}: enough for {processes} processes"
    )


def _revision(settings: Settings) -> Iterator[Finding]:
    from db.revision import latest, revision_of, suffices  # noqa: PLC0415

    revision = revision_of(settings.database)
    if not suffices(revision):
        do = "stampwire db upgrade (serve and worker do it themselves)"
        yield warning("revision", f"{revision or 'none'}; this release needs {latest()}", do)
        return
    later = "" if revision == latest() else ", of a later release"
    yield ok("revision", f"{revision}{later}")
    yield from _sealed(settings)


def _sealed(settings: Settings) -> Iterator[Finding]:
    """Whether the key opens what is stored."""
    from cli.common import on_database  # noqa: PLC0415
    from core.secrets import Secrets  # noqa: PLC0415
    from services.secret_keys import look  # noqa: PLC0415

    if not settings.secret_key and not (settings.data_dir / "secret.key").exists():
        yield fault(
            "stored secrets", "there is a database, but no secret key", "Put back the one you keep."
        )
        return
    try:
        secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    except ValueError:
        return  # told of already
    sealed = on_database(settings, lambda database: look(database, secrets))
    if sealed.closed:
        yield fault(
            "stored secrets",
            f"the secret key opens {sealed.all - sealed.closed} of {sealed.all}",
            "It is not the one this database was made with: put that one back, or behind a comma.",
        )
    else:
        yield ok("stored secrets", f"the secret key opens all {sealed.all}")


# -- Around it ------------------------------------------------------------------------------------


def _folder(settings: Settings) -> Iterator[Finding]:
    from services.health import Grade, check_disk  # noqa: PLC0415

    folder = settings.data_dir
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        who = f"uid {os.getuid()}"
        yield fault("data dir", f"{who} may not write in {folder}", f"chown it to {who}")
        return
    disk = check_disk(folder, holds_database=settings.is_sqlite)
    grade = {Grade.OK: "ok", Grade.WARNING: "warning", Grade.DOWN: "fault"}[disk.grade]
    do = "" if disk.grade is Grade.OK else f"Make room where {folder} is."
    yield Finding("disk", grade, "room enough" if disk.grade is Grade.OK else disk.says, do)


def _doorbell(settings: Settings) -> Iterator[Finding]:
    kind = urlsplit(settings.broadcast).scheme
    if kind == "memory":
        if settings.is_sqlite:
            yield ok("doorbell", "within the process")
            return
        do = "Leave STAMPWIRE_BROADCAST_URL empty (the database rings), or name a Redis."
        yield warning("doorbell", "memory does not reach other processes", do)
    elif kind.startswith("redis"):
        yield from _redis(settings)
    elif settings.broadcast == settings.database:
        yield ok("doorbell", "the database itself (LISTEN and NOTIFY)")
    else:
        yield _reachable("doorbell", settings.broadcast, 5432)


def _redis(settings: Settings) -> Iterator[Finding]:
    import redis  # noqa: PLC0415

    try:
        number = version("redis")
    except PackageNotFoundError:
        number = "0"
    if int(number.partition(".")[0]) >= 8:
        do = "pip install 'redis<8', as requirements/base.txt has it."
        yield fault("redis client", f"redis-py {number} was measured to hear nothing", do)
    client = redis.Redis.from_url(
        settings.broadcast, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
    )
    try:
        began = time.monotonic()
        client.ping()
        took = (time.monotonic() - began) * 1000
        said = client.info("server")
        server = said.get("redis_version", "?") if isinstance(said, dict) else "?"
        yield ok("doorbell", f"Redis {server}, answers in {took:.0f} ms")
    except (redis.RedisError, OSError) as error:
        do = "Events still arrive, a second late. Is it running, are address and password right?"
        yield fault("doorbell", f"Redis does not answer ({type(error).__name__})", do)
    finally:
        client.close()


def _mail(settings: Settings) -> Iterator[Finding]:
    if not settings.smtp_url:
        yield ok("mail", "not set: owners see notices by query only")
        return
    yield _reachable("mail", settings.smtp_url, 465 if "smtps:" in settings.smtp_url else 587)


def _reachable(check: str, url: str, port: int) -> Finding:
    """Whether somebody listens there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or port

    async def connect() -> None:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()

    try:
        asyncio.run(connect())
    except (OSError, TimeoutError) as error:
        return fault(
            check, f"nobody answers at {host}:{port} ({type(error).__name__})", "Is it running?"
        )
    return ok(check, f"somebody listens at {host}:{port}")


def _wallets(settings: Settings) -> Iterator[Finding]:
    """What is known without asking anybody."""
    if settings.apple_pass_certificate:
        yield _apple(settings)
    if settings.google_wallet_issuer:
        yield _google(settings)


def _apple(settings: Settings) -> Finding:
    from integrations.wallets.apple import Credentials  # noqa: PLC0415

    check, page = "apple wallet", "See docs/integrations/apple-wallet.md."
    try:
        credentials = Credentials.of(settings)
    except ValueError as error:
        return fault(check, str(error), page)
    left, day = credentials.ends_at - datetime.now(UTC), credentials.ends_at.date()
    if left <= timedelta():
        return fault(check, f"the certificate ended on {day}: nobody is told of stamps", page)
    if left < _SOON:
        return warning(check, f"the certificate ends on {day}", page)
    if not settings.url.startswith("https:"):
        return warning(check, "passes stay as they are", "Telephones call by https: public URL.")
    return ok(check, f"{credentials.pass_type} is good until {day}")


def _google(settings: Settings) -> Finding:
    from integrations.wallets.google import account_of  # noqa: PLC0415

    check = "google wallet"
    try:
        account = account_of(settings.google_wallet_account)
    except ValueError as error:
        return fault(check, str(error), "See docs/integrations/google-wallet.md.")
    return ok(check, f"issuer {settings.google_wallet_issuer}, as {account.email}")


def _public(settings: Settings) -> Iterator[Finding]:
    check, said = "public url", settings.public_url
    if not said:
        yield ok(check, f"not set: links lead to {settings.url}, good on this machine only")
        return
    parts = urlsplit(said)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield fault(check, "it is no address", "Such as https://stamps.example")
    elif parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        do = "Stampwire is at the root of a host: https://stamps.example"
        yield fault(check, "it has more than a scheme, a host and a port", do)
    elif parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        do = "Put a proxy with TLS in front: keys and personal data travel in the clear."
        yield warning(check, "it is http", do)
    else:
        yield ok(check, said)


def _proxies(settings: Settings) -> Iterator[Finding]:
    check, said = "trusted proxies", settings.trusted_proxies
    wrong = [name for name in said if name != "*" and not _is_network(name)]
    if "*" in said:
        do = "Name the proxy's own address; limits by address mean nothing now."
        yield fault(check, "anybody may claim any address", do)
    elif wrong:
        yield fault(check, f"no address: {', '.join(wrong)}", "Such as 127.0.0.1 or 10.0.0.0/8")
    elif settings.public_url.startswith("https:") and not said:
        do = "STAMPWIRE_TRUSTED_PROXIES=127.0.0.1 where the proxy is on this machine."
        yield warning(check, "none: all callers seem to be the proxy, and share its limits", do)
    else:
        yield ok(check, ", ".join(said) or "none")


def _dangers(settings: Settings) -> Iterator[Finding]:
    """What is good for trying out, and not for real."""
    is_public = settings.public_url.startswith("https:")
    if settings.allow_insecure_webhooks and is_public:
        do = "STAMPWIRE_ALLOW_INSECURE_WEBHOOKS=0"
        yield fault("webhook guard", "off: endpoints may lead into this network", do)
    if settings.demo and is_public:
        do = "STAMPWIRE_DEMO=0, and disable its logins."
        yield warning("demo", "a public deployment with the demo café", do)
    if 0 < len(settings.operator_key) < _LONG:
        do = "Make it of 32 random characters or more."
        yield warning("operator key", "it is short enough to be guessed", do)
    if 0 < len(settings.metrics_token) < _LONG:
        do = "Make it of 32 random characters or more."
        yield warning("metrics token", "it is short enough to be guessed", do)


def _process() -> Iterator[Finding]:
    from execution.protocols import fits  # noqa: PLC0415

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < 4096:
        do = "Raise it: ulimit -n 65536, or LimitNOFILE=65536 of systemd."
        yield warning("open files", f"{files} at most, a socket each", do)
    else:
        yield ok("open files", f"{files} at most")
    if not fits():
        do = "Install what requirements/base.txt pins."
        yield warning("uvicorn", f"{version('uvicorn')} is not the one we know: slower sockets", do)


def _is_open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)) and not _is_closed(path.parent)


def _is_closed(folder: Path) -> bool:
    """Whether others cannot even enter the folder."""
    return not folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH)


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
