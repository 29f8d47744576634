"""Health: whether the process lives, whether it can serve, and what is amiss."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from resolvers.context import Deployment
from services.health import Check, Grade, check_database, check_disk, check_workers


async def live(request: Request) -> Response:  # noqa: ARG001 -- Starlette's shape
    """Whether the process runs at all."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    """Whether it can serve (200 or 503), and what is amiss: each thing is `ok` or says why not."""
    state = request.app.state
    deployment: Deployment = state.deployment
    settings = deployment.settings
    checks = {
        "process": Check() if state.is_ready else Check(Grade.DOWN, "starting or stopping"),
        **await check_database(deployment.database),
        "doorbell": _check_doorbell(deployment),
        "disk": check_disk(settings.data_dir, holds_database=settings.is_sqlite),
        "workers": check_workers(expected=state.has_worker),
    }
    grades = {check.grade for check in checks.values()}
    worst = next(grade for grade in (Grade.DOWN, Grade.WARNING, Grade.OK) if grade in grades)
    told = {
        "ready": worst is not Grade.DOWN,
        "status": worst.value,
        **{name: check.says for name, check in checks.items()},
    }
    return JSONResponse(
        told, status_code=200 if told["ready"] else 503, headers={"cache-control": "no-store"}
    )


def _check_doorbell(deployment: Deployment) -> Check:
    if deployment.stream.healthy:
        return Check()
    # It costs only latency: every process looks at the log each second all the same.
    return Check(Grade.WARNING, "silent: events come up to a second later")
