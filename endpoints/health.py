"""Health: whether the process lives, and whether it can serve."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from resolvers.context import Deployment
from services.health import check_database


async def live(request: Request) -> Response:  # noqa: ARG001 -- Starlette's shape
    """Whether the process runs at all."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    """Whether it can serve, and what is wrong where it cannot."""
    deployment: Deployment = request.app.state.deployment
    database = await check_database(deployment.database)
    is_ready = database == "ok" and request.app.state.is_ready
    told = {
        "ready": is_ready,
        "database": database,
        # A silent doorbell only costs latency: the log is looked at every second all the same.
        "doorbell": "ok" if deployment.stream.healthy else "silent",
    }
    return JSONResponse(told, status_code=200 if is_ready else 503)
