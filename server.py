"""The ASGI application: routes, middleware, and what lives as long as the process."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

import endpoints
from core.buckets import buckets_of
from core.clock import Clock, SystemClock
from core.secrets import Secrets
from core.settings import Settings
from core.watchdog import Watchdog
from db import database_of
from endpoints.answers import no_route
from events.stream import Stream
from execution.cost import ChargeCost
from execution.documents import CheckDocuments
from execution.doors import OurHosts, OurOrigins, our_fault
from execution.errors import PresentErrors
from execution.gate import Turnstile
from execution.protocols import fits, protocols_of
from execution.rendering import Renderer
from execution.view import GraphQLView
from integrations.channels import Channels
from integrations.http import Outgoing
from integrations.scanners import ScannerKeys
from integrations.wallets import Wallets
from resolvers.context import Deployment
from schema import make_schema
from services.guesses import Guesses
from services.pass_keeper import bring
from services.push_keys import private_push_key
from webhooks.sender import Sender
from worker import working

_schema = make_schema(CheckDocuments, ChargeCost, PresentErrors)
_THREADS = 64


def deployment_of(settings: Settings, clock: Clock | None = None) -> Deployment:
    """The parts of a process, composed; none of them is open yet."""
    database, clock = database_of(settings), clock or SystemClock()
    secrets = Secrets.from_setting(settings.secret_key, settings.data_dir)
    # One Redis may serve several deployments: each has buckets under a name of its own.
    name = secrets.digest(f"buckets {settings.database.rpartition('/')[2]}")[:16]
    buckets = buckets_of(settings.broadcast, name)
    documents, keys_url = Renderer(_schema), settings.scanner_keys_url
    outgoing = Outgoing(allow_insecure=settings.allow_insecure_webhooks)
    wallets = Wallets.of(settings, outgoing, secrets, clock)
    platforms = wallets.platforms
    documents.deployment = Deployment(
        settings=settings,
        database=database,
        stream=Stream(database, settings.broadcast),
        secrets=secrets,
        clock=clock,
        sender=Sender(clock, allow_insecure=settings.allow_insecure_webhooks),
        outgoing=outgoing,
        channels=Channels.of(
            settings,
            outgoing,
            lambda: private_push_key(database, secrets, clock.now()),
            (lambda letter: bring(database, platforms, letter, clock.now())) if platforms else None,
        ),
        documents=documents,
        buckets=buckets,
        guesses=Guesses(buckets, clock, settings.misses_per_minute),
        scanner=ScannerKeys(outgoing, keys_url, clock) if keys_url else None,
        wallets=wallets,
    )
    return documents.deployment


def create_app(
    settings: Settings, clock: Clock | None = None, *, with_worker: bool = True
) -> Starlette:
    """The application. On SQLite the worker always lives inside: there is one process."""
    deployment = deployment_of(settings, clock)
    graphql = GraphQLView(_schema, deployment)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with opened(deployment), AsyncExitStack() as stack:
            if app.state.has_worker:
                await stack.enter_async_context(working(deployment))
            app.state.is_ready = True
            yield {"going_away": asyncio.Event()}
            app.state.is_ready = False

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            *endpoints.routes(),
        ],
        middleware=_middleware(settings),
        exception_handlers={HTTPException: no_route, Exception: our_fault},
    )
    # To add a slash by a redirect is to send callers to whatever host they are said to have asked.
    app.router.redirect_slashes = False
    app.state.deployment = deployment
    app.state.is_ready = False
    app.state.has_worker = with_worker or settings.is_sqlite
    return app


def create_worker_app(deployment: Deployment) -> Starlette:
    """What a worker process answers on its port: how it is, and what it has counted."""
    app = Starlette(routes=endpoints.health_routes())
    app.router.redirect_slashes = False
    app.state.deployment = deployment
    app.state.is_ready = app.state.has_worker = True
    return app


def server_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn is to run the application, but for where it listens."""
    http, ws = protocols_of(settings) if fits() else ("httptools", "websockets-sansio")
    return {
        "loop": "uvloop",
        "http": http,
        "ws": ws,
        "timeout_keep_alive": settings.idle_seconds,
        "ws_max_size": settings.socket_message_bytes,
        "ws_max_queue": 8,
        # Frames are shared between sockets, which a compression state of their own forbids.
        "ws_per_message_deflate": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
        # For requests; the worker then has its own 17 s, as long as a webhook may take.
        "timeout_graceful_shutdown": 5,
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }


@asynccontextmanager
async def opened(deployment: Deployment) -> AsyncIterator[None]:
    """Open the parts of a process, and close them in the other order."""
    # Names of webhooks are looked up here: as many as this may be slow before others wait.
    names = ThreadPoolExecutor(_THREADS, thread_name_prefix="loop")
    asyncio.get_running_loop().set_default_executor(names)
    async with AsyncExitStack() as stack:
        watchdog = Watchdog()
        watchdog.start()
        stack.callback(watchdog.stop)
        await deployment.database.open()
        stack.push_async_callback(deployment.database.close)
        await deployment.stream.open()
        stack.push_async_callback(deployment.stream.close)
        stack.push_async_callback(deployment.buckets.close)
        await deployment.sender.open()
        stack.push_async_callback(deployment.sender.close)
        stack.push_async_callback(deployment.outgoing.close)
        stack.push_async_callback(deployment.wallets.close)
        yield


def _middleware(settings: Settings) -> list[Middleware]:
    wanted = []
    if settings.trusted_proxies:
        wanted.append(Middleware(Turnstile, most=settings.connections_per_address))
    if settings.trusted_hosts:
        wanted.append(Middleware(OurHosts, allowed_hosts=list(settings.trusted_hosts)))
    if settings.allowed_origins:
        wanted.append(
            Middleware(
                OurOrigins,
                allow_origins=list(settings.allowed_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["authorization", "content-type", "idempotency-key"],
                expose_headers=["ratelimit-policy", "ratelimit", "retry-after"],
                max_age=600,
            )
        )
    return wanted
