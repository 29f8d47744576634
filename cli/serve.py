"""`stampwire serve`, `stampwire worker` and `stampwire db`: what runs as long as it is wanted."""

import asyncio
import fcntl
import gc
import resource
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cli.business import readable
from cli.common import settings_of, upgrade
from cli.demo import the_demo
from core.settings import Settings

if TYPE_CHECKING:
    from resolvers.context import Deployment

_NOT_STARTED = 3
_DISK_FAILED = 74
"""What BSD's sysexits calls an input or output error."""

db_app = typer.Typer(no_args_is_help=True, help="The database.")


_MOST_FILES = 65_536


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    worker: Annotated[
        bool, typer.Option(help="Run the worker inside; on SQLite it always does.")
    ] = True,
) -> None:
    """Migrate the database, then serve until told to stop."""
    # All that is loaded now stays: looking it through for garbage took a quarter of the start.
    gc.disable()
    given = {"host": host, "port": port}
    settings = settings_of(**{name: value for name, value in given.items() if value is not None})
    with _only_server(settings):
        upgrade(settings)
        if settings.demo:
            typer.echo(readable(the_demo(settings)))
        _run_server(settings, with_worker=worker)


def worker() -> None:
    """Work on what backlogs and time cause, beside servers on PostgreSQL."""
    settings = settings_of()
    if settings.is_sqlite:
        typer.echo(
            "On SQLite the work runs inside `stampwire serve`; nothing to do here.", err=True
        )
        told = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, told)
        signal.sigwait(told)
        return
    upgrade(settings)
    asyncio.run(_work(settings))


@db_app.callback()
def _db() -> None:
    """The database."""


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database up to date."""
    upgrade(settings_of())


@contextmanager
def _only_server(settings: Settings) -> Iterator[None]:
    """On SQLite one server process holds the file; a second one is told so."""
    if not settings.is_sqlite:
        yield
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / "stampwire.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            typer.echo(f"Another server runs on {settings.data_dir}.", err=True)
            raise typer.Exit(1) from None
        yield


def _allow_files() -> None:
    """Every socket is a file, and 1 024, the usual allowance, are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = most == resource.RLIM_INFINITY
    allowed = _MOST_FILES if unlimited else min(most, _MOST_FILES)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


@contextmanager
def _told_at_start() -> Iterator[None]:
    """Tell which setting is bad, and end."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"Settings: {error}", err=True)
        raise typer.Exit(2) from None


def _run_server(settings: Settings, *, with_worker: bool) -> None:
    import uvicorn  # noqa: PLC0415

    from server import create_app, server_options  # noqa: PLC0415

    _allow_files()
    with _told_at_start():
        app = create_app(settings, with_worker=with_worker)
    database = app.state.deployment.database
    database.on_broken = lambda: signal.raise_signal(signal.SIGINT)

    class Server(uvicorn.Server):
        """Told to stop, it is not ready any more; it stops when others had time to see that."""

        def handle_exit(self, number: int, frame: FrameType | None) -> None:
            was_ready, app.state.is_ready = app.state.is_ready, False
            if not was_ready or not settings.shutdown_delay or number == signal.SIGINT:
                super().handle_exit(number, frame)
                return
            stop = threading.Timer(settings.shutdown_delay, super().handle_exit, (number, frame))
            stop.daemon = True
            stop.start()

    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, host=settings.host, port=settings.port, **server_options(settings))
    server = Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(_NOT_STARTED)
    if database.is_broken:
        raise typer.Exit(_DISK_FAILED)


async def _work(settings: Settings) -> None:
    from server import deployment_of, opened  # noqa: PLC0415
    from worker import working  # noqa: PLC0415

    _allow_files()
    with _told_at_start():
        deployment = deployment_of(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with opened(deployment), working(deployment), _answering(deployment):
        await stopped.wait()


@asynccontextmanager
async def _answering(deployment: "Deployment") -> AsyncIterator[None]:
    """Answer on the worker's port how it is, where it has one."""
    settings = deployment.settings
    if not settings.worker_port:
        yield
        return
    import uvicorn  # noqa: PLC0415

    from server import create_worker_app, server_options  # noqa: PLC0415

    class Server(uvicorn.Server):
        """Signals are the worker's own."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    app = create_worker_app(deployment)
    options = {**server_options(settings), "loop": "none", "lifespan": "off"}
    config = uvicorn.Config(app, host=settings.host, port=settings.worker_port, **options)
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        app.state.is_ready = False
        server.should_exit = True
        await serving
