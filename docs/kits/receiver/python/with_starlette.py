"""The same for Starlette (and FastAPI, which is built on it); receive.py lies beside it."""

import os

from receive import MOST_BYTES, Deliveries, is_ours, key_of
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY = key_of(os.environ["WEBHOOK_SECRET"])
DELIVERIES = Deliveries(os.environ.get("DELIVERIES", "deliveries.jsonl"))


async def receive(request: Request) -> Response:
    """Take one request."""
    body = b""
    async for part in request.stream():  # the bytes as they came, not what a parser makes of them
        body += part
        if len(body) > MOST_BYTES:
            return Response(status_code=413)
    if not is_ours(KEY, request.headers, body):
        return Response(status_code=401)
    line = await run_in_threadpool(DELIVERIES.store, request.headers, body)
    return Response(status_code=204, background=BackgroundTask(work, line) if line else None)


def work(line: str) -> None:
    """Your work goes here: it begins after the answer."""
    print(line, flush=True)


app = Starlette(routes=[Route("/", receive, methods=["POST"])])
