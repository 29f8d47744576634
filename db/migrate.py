"""Migrations: bring a database up to date."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config

from db.revision import FOLDER, is_current


def upgrade(url: str) -> None:
    """Bring the database up to date. Not to be called from a running event loop.

    Several processes may do so at once: one works, the others wait. A database that a later
    release has migrated is left as it is.
    """
    if is_current(url):
        return
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        with _alone(path.parent):
            # It holds personal data: nobody else on this machine is to read it.
            path.touch(mode=0o600)
            command.upgrade(_config(url), "head")
    else:
        command.upgrade(_config(url), "head")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others out of the folder; SQLite's own lock ends with each step of a migration."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["url"] = url
    return config
