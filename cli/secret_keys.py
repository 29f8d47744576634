"""`stampwire secrets`: a new secret key in front of the former ones, and all stored under it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.common import fail, on_database, settings_of, upgrade
from core.settings import Settings

if TYPE_CHECKING:
    from services.secret_keys import Sealed

secrets_app = typer.Typer(no_args_is_help=True, help="The secret key of the deployment.")

_FORMER = (
    "The former key stays behind the new one: API keys, sessions and access tokens made under it "
    "are known by it alone. Drop it when those have been regenerated, with "
    "`stampwire secrets rotate --drop-former`."
)


@secrets_app.callback()
def _secrets() -> None:
    """The secret key of the deployment."""


@secrets_app.command("rotate")
def secrets_rotate(
    *,
    reseal: Annotated[
        bool,
        typer.Option(
            "--reseal", help="Make no new key; store all that is encrypted under the first one."
        ),
    ] = False,
    drop_former: Annotated[
        bool,
        typer.Option("--drop-former", help="Make no new key; forget the former ones."),
    ] = False,
) -> None:
    """Put a new secret key in front of the present one, and encrypt all that is stored under it.

    With the key file of the data dir it does all of it; the server must be stopped. Where the key
    is a setting, it prints the new value and what to do in which order.
    """
    from core.secrets import new_secret_key  # noqa: PLC0415

    settings = settings_of()
    if reseal:
        typer.echo(_resealed(settings))
        return
    if settings.secret_key:
        typer.echo(_by_hand(settings, new_secret_key(), drop_former=drop_former))
        return
    from db.backup import CannotBackUp, nobody_serves  # noqa: PLC0415

    path = settings.data_dir / "secret.key"
    if not path.exists():
        fail(f"There is no {path} yet: the first start makes it.")
    try:
        with nobody_serves(settings.data_dir):
            present = path.read_text().strip()
            if drop_former:
                _resealed(settings)
                _write(path, present.split(",")[0])
                typer.echo("The former keys are forgotten.")
                return
            _write(path, f"{new_secret_key()},{present}")
            typer.echo(_resealed(settings))
            typer.echo(f"{path} begins with the new key; keep a copy of it.\n{_FORMER}")
    except CannotBackUp as reason:
        fail(str(reason))


def _resealed(settings: Settings) -> str:
    from core.secrets import Secrets  # noqa: PLC0415
    from services.secret_keys import seal_anew  # noqa: PLC0415

    upgrade(settings)
    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    done: Sealed = on_database(settings, lambda database: seal_anew(database, secrets))
    if done.closed:
        fail(
            f"{done.closed} of {done.all} stored secrets are under a key that is not given; "
            "the others are under the first one now."
        )
    return f"{done.all} stored secrets are under the first key."


def _by_hand(settings: Settings, fresh: str, *, drop_former: bool) -> str:
    """What to do where the key is a setting of every process. The present key is not printed."""
    if drop_former:
        fail("Take what follows the first comma out of STAMPWIRE_SECRET_KEY, and restart all.")
    count = settings.secret_key.count(",") + 1
    return "\n".join(
        [
            f"A new key: {fresh}",
            "",
            "1. Put it BEHIND the present value, after a comma, and restart every process: now all",
            "   of them accept it.",
            "2. Put it IN FRONT, the former after a comma, and restart every process: it is used.",
            "3. stampwire secrets rotate --reseal",
            "",
            f"At present there {'is 1 key' if count == 1 else f'are {count} keys'}.",
            _FORMER,
        ]
    )


def _write(path: Path, text: str) -> None:
    """Write the key file anew: all of it or none, for its owner alone."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)
    partial.rename(path)
