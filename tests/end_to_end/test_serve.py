"""A server told to stop: its listeners are told to come back, and it ends in time."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import websockets

from partners import BEGINNING, Api, closing_code, operations
from processes import Process

pytestmark = pytest.mark.slow
ENDS_WITHIN = 10.0


async def test_a_server_told_to_stop_lets_its_listeners_go(
    process: Process, figure: Callable[[str], None]
) -> None:
    key = process.demo["owner"]["apiKey"]
    asked = {"query": operations()["Events"], "variables": {"after": BEGINNING}}
    async with (
        Api(process.graphql, key) as api,
        websockets.connect(
            process.socket, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
        ) as socket,
        httpx2.AsyncClient(timeout=30) as client,
    ):
        init = {"Authorization": f"Bearer {key}"}
        await socket.send(json.dumps({"type": "connection_init", "payload": init}))
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": asked}))
        headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
        async with client.stream("POST", process.graphql, json=asked, headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            customer = {"email": "ana@mail.example"}
            template = process.demo["cardTemplate"]["id"]
            await api.do("IssueCard", templateId=template, customer=customer)
            async with asyncio.timeout(10):
                assert await _heard_over(socket) == "CARD_ISSUED"
                assert await _heard_over_sse(lines) == "CARD_ISSUED"

            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(process.stop))
            closed_with = await closing_code(socket, ENDS_WITHIN)
            code = await stopping
            took = time.monotonic() - began

    figure(f"stopped after {took:.2f} s")
    assert closed_with == 1012
    assert code in (0, -15)
    assert took < ENDS_WITHIN


async def _heard_over(socket: Any) -> str:
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == "next":
            type: str = message["payload"]["data"]["events"]["type"]
            return type


async def _heard_over_sse(lines: Any) -> str:
    async for line in lines:
        if line.startswith("data:") and "CARD_ISSUED" in line:
            return "CARD_ISSUED"
    raise AssertionError("the stream ended")
