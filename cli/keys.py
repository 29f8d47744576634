"""`stampwire keys` and `stampwire staff`: who gets in, set right on the database itself."""

import json
import secrets as random
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import business_named, fail, on_database, settings_of, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from db import Database, Transaction
    from models import Actor, ApiKey, Staff

keys_app = typer.Typer(no_args_is_help=True, help="API keys: one per staff login.")
staff_app = typer.Typer(no_args_is_help=True, help="Staff logins.")

Login = Annotated[str, typer.Option("--staff", help="The staff login.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys_app.command("list")
def keys_list(
    *,
    staff: Annotated[str | None, typer.Option(help="Only the key of this staff login.")] = None,
    business: Annotated[str | None, typer.Option(help="The business's id.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys of a business, without their secrets."""
    settings = _ready()
    found = on_database(settings, lambda database: _keys(database, settings, staff, business))
    shown = [_shown(key, holder) for key, holder in found]
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for key in shown:
        typer.echo(f"{key['id']}  …{key['hint']}  {key['login']}  {key['name']}")


@keys_app.command("generate")
def keys_generate(
    *,
    staff: Login,
    name: Annotated[
        str | None, typer.Option(help="The key's name; absent: the staff login's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate the API key of a staff login. It is printed once."""
    from core.ids import Id  # noqa: PLC0415
    from services.api_keys import GenerateApiKeyInput, generate_api_key  # noqa: PLC0415

    async def work(tx: "Transaction", holder: "Staff", actor: "Actor", now: datetime) -> Any:
        asked = GenerateApiKeyInput(staff_id=Id(holder.id), name=name)
        return await generate_api_key(tx, actor, asked, now, secrets=secrets)

    settings = _ready()
    secrets = _secrets(settings)
    _print_key(_for_login(settings, staff, work), staff, as_json=as_json)


@keys_app.command("regenerate")
def keys_regenerate(
    *,
    staff: Login,
    overlap_hours: Annotated[
        int, typer.Option(help="How long the former secret stays good, 0 to 72.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Give a staff login's API key a new secret. It is printed once."""
    from core.ids import Id  # noqa: PLC0415
    from services.api_keys import RegenerateApiKeyInput, regenerate_api_key  # noqa: PLC0415

    async def work(tx: "Transaction", holder: "Staff", actor: "Actor", now: datetime) -> Any:
        key = await _key_of(tx, holder)
        asked = RegenerateApiKeyInput(id=Id(key.id), overlap_hours=overlap_hours)
        return await regenerate_api_key(tx, actor, asked, now, secrets=secrets)

    settings = _ready()
    secrets = _secrets(settings)
    _print_key(_for_login(settings, staff, work), staff, as_json=as_json)


@keys_app.command("delete")
def keys_delete(*, staff: Login) -> None:
    """Delete a staff login's API key: it opens no door any more."""
    from core.ids import Id  # noqa: PLC0415
    from services.api_keys import DeleteApiKeyInput, delete_api_key  # noqa: PLC0415

    async def work(tx: "Transaction", holder: "Staff", actor: "Actor", now: datetime) -> Any:
        key = await _key_of(tx, holder)
        asked = DeleteApiKeyInput(id=Id(key.id))
        return await delete_api_key(tx, actor, asked, now)

    gone = _for_login(_ready(), staff, work)
    typer.echo(f"Deleted {gone.deleted_id}.")


@staff_app.callback()
def _staff() -> None:
    """Staff logins."""


@staff_app.command("reset")
def staff_reset(
    login: Annotated[str, typer.Argument(help="The staff login.")], *, as_json: AsJson = False
) -> None:
    """Give a staff login a new password. It is printed once; all its sessions end."""
    from core.ids import Id  # noqa: PLC0415
    from core.secrets import password_digest  # noqa: PLC0415
    from services.sign_ins import forgive  # noqa: PLC0415
    from services.staff import ChangePasswordInput, change_password  # noqa: PLC0415

    password = random.token_urlsafe(12)
    digest = password_digest(password)

    async def work(tx: "Transaction", holder: "Staff", actor: "Actor", now: datetime) -> Any:
        asked = ChangePasswordInput(new_password=password, staff_id=Id(holder.id))
        return await change_password(tx, actor, asked, now, password_digest=digest, proven=None)

    settings = _ready()
    changed = _for_login(settings, login, work)
    keys = _secrets(settings)
    on_database(settings, lambda database: forgive(database, keys, changed.staff.login))
    told = {"login": changed.staff.login, "password": password}
    typer.echo(json.dumps(told) if as_json else f"{told['login']}  {told['password']}")


def _ready() -> Settings:
    settings = settings_of()
    upgrade(settings)
    return settings


def _secrets(settings: Settings) -> Any:
    from core.secrets import Secrets  # noqa: PLC0415

    return Secrets.from_setting(settings.secret_key, settings.data_dir)


def _for_login(settings: Settings, login: str, work: Any) -> Any:
    """Do something for a staff login in one transaction, in the name of the system."""

    async def done(database: "Database") -> Any:
        from core.clock import SystemClock  # noqa: PLC0415
        from services.operator import staff_of_login  # noqa: PLC0415

        holder, actor = await database.read(None, lambda tx: staff_of_login(tx, login))
        now = actor.business.time(SystemClock().now())
        return await database.write(actor.business_id, lambda tx: work(tx, holder, actor, now))

    return on_database(settings, done)


async def _keys(
    database: "Database", settings: Settings, login: str | None, business_id: str | None
) -> "list[tuple[ApiKey, Staff]]":
    from services.operator import keys_of_business, staff_of_login  # noqa: PLC0415

    if login is None:
        business = await business_named(database, settings, business_id)
        return await database.read(business.id, keys_of_business)
    holder, actor = await database.read(None, lambda tx: staff_of_login(tx, login))
    keys = await database.read(actor.business_id, keys_of_business)
    return [(key, staff) for key, staff in keys if staff.id == holder.id]


async def _key_of(tx: "Transaction", holder: "Staff") -> "ApiKey":
    from services.operator import keys_of_business  # noqa: PLC0415

    keys = await keys_of_business(tx)
    found = next((key for key, staff in keys if staff.id == holder.id), None)
    return found or fail("This staff login has no API key.")


def _shown(key: "ApiKey", holder: "Staff") -> dict[str, Any]:
    used = key.last_used_at
    return {
        "id": key.id,
        "name": key.name,
        "login": holder.login,
        "hint": key.hint,
        "createdAt": key.created_at.isoformat(),
        "lastUsedAt": used.isoformat() if used else None,
    }


def _print_key(made: Any, login: str, *, as_json: bool) -> None:
    told = {"id": made.api_key.id, "login": login, "apiKey": str(made.secret)}
    typer.echo(json.dumps(told) if as_json else told["apiKey"])
