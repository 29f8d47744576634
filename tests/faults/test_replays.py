"""Faults during a replay: case 51 of the research on webhooks, with a process that is killed."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.settings import Settings
from fakes.receiver import receiving
from partners import Api
from processes import Process

STAMPS = 24
AFTER = 9
"""How many were replayed when the process is killed."""
BOUND = 8 + 2
"""What a kill may repeat: a round, and what was in flight."""
_PROGRESS = """query($id: ID!) { replay(id: $id) { status total sent failed finishedAt
    createdBy { name } types } }"""
_OF_ENDPOINT = """query($id: ID!) { node(id: $id) { ... on WebhookEndpoint {
    replays(first: 5) { nodes { id status } totalCount } } } }"""


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """A server that is killed, and audited in the end."""
    started = Process(settings, demo=True)
    try:
        started.start()
        yield started
    finally:
        started.stop()
    started.run("audit")  # fails on any finding


@pytest.mark.slow
@pytest.mark.on("sqlite")
async def test_a_replay_outlives_its_process_and_skips_nothing(
    process: Process, figure: Callable[[str], None]
) -> None:
    """Case 51: killed in the middle, it continues where it stood; live delivery goes on beside."""
    owner = process.demo["owner"]["apiKey"]
    async with Api(process.graphql, owner) as api, receiving() as partner:
        template = process.demo["cardTemplate"]["id"]
        customer = {"email": "ana@mail.example"}
        card = (await api.do("IssueCard", templateId=template, customer=customer))["card"]
        stamped = [
            await api.do("AddStamps", card={"id": card["id"]}, count=1) for _ in range(STAMPS)
        ]
        wanted = [event["id"] for one in stamped for event in one["events"]]
        wanted = [id for id in wanted if id in await _stamps(api)]
        made = await api.do("CreateWebhookEndpoint", url=partner.at("/"), types=["STAMP_ADDED"])
        endpoint = {"id": made["endpoint"]["id"]}

        asked = {**endpoint, "since": "2020-01-01T00:00:00Z"}
        replay = (await api.do("ReplayEvents", **asked))["replay"]
        again = (await api.do("ReplayEvents", **asked))["replay"]
        await partner.wait_for(AFTER)
        await asyncio.to_thread(process.kill)
        before = len(partner.all)
        await asyncio.to_thread(process.start)
        fresh = await api.do("AddStamps", card={"id": card["id"]}, count=1)
        await partner.wait_for(lambda all: {one.id for one in all} >= set(wanted), 30)
        done = await _until_done(api, replay["id"])
        listed = (await api.send(_OF_ENDPOINT, **endpoint))["data"]["node"]["replays"]

    assert (replay["total"], again["id"]) == (STAMPS, replay["id"])
    assert before < STAMPS
    assert (done["status"], done["sent"], done["failed"]) == ("DONE", STAMPS, 0)
    assert listed == {"nodes": [{"id": replay["id"], "status": "DONE"}], "totalCount": 1}
    [live] = [one for one in partner.all if "webhook-attempt-kind" not in one.headers]
    assert live.id in [event["id"] for event in fresh["events"]]
    replayed = [one for one in partner.all if one is not live]
    for one in partner.all:
        one.verified_by(made["signingSecret"])
    assert len(replayed) - STAMPS <= BOUND
    figure(f"killed after {before} of {STAMPS}, {len(replayed) - STAMPS} requests repeated")


async def _stamps(api: Api) -> set[str]:
    return {event["id"] for event in await api.journal() if event["type"] == "STAMP_ADDED"}


async def _until_done(api: Api, id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            told = (await api.send(_PROGRESS, id=id))["data"]["replay"]
            if told["status"] != "RUNNING":
                return told
            await asyncio.sleep(0.1)
