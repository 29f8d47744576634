"""A file of customers read through kill -9, and a customer of it erased from every file we keep."""

import asyncio
from typing import Any

import httpx2
import pytest

from partners import Api
from processes import Process

ROWS = 2_000
PATIENCE = 60
"""Seconds that no successor takes to read the rest of the file."""
JOB = """query($id: ID!) { importJob(id: $id) {
    status progress created matched rejected } customers { totalCount } cards { totalCount }
    events(filter: {types: [CARD_ISSUED, STAMP_ADDED]}) { totalCount } }"""


async def _job(api: Api, id: str) -> Any:
    return (await api.send(JOB, id=id))["data"]


async def _until(api: Api, id: str, holds: Any) -> Any:
    for _ in range(PATIENCE * 10):
        told = await _job(api, id)
        if holds(told["importJob"]):
            return told
        await asyncio.sleep(0.1)
    raise TimeoutError(told)


@pytest.mark.slow
async def test_a_file_is_read_to_its_end_whatever_dies_on_the_way(process: Process) -> None:
    demo = process.demo
    csv = "name,email,stamps\n" + "".join(f"P{n},p{n}@import.example,2\n" for n in range(ROWS))
    async with Api(process.graphql, demo["owner"]["apiKey"]) as api:
        found = (await api.send("{ cardTemplates { nodes { id status } } }"))["data"]
        template = found["cardTemplates"]["nodes"][0]["id"]
        async with httpx2.AsyncClient() as http:
            headers = {"authorization": f"Bearer {demo['owner']['apiKey']}"}
            answer = await http.post(
                f"{process.url}/uploads", content=csv.encode(), headers=headers
            )
        before = await _job(api, "imp_nothing")
        asked = {"uploadId": answer.json()["id"], "templateId": template}
        job = (await api.do("ImportCustomers", **asked))["job"]["id"]
        for least in (10, 40):
            await _until(api, job, lambda told, least=least: told["progress"] >= least)
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start_later)
        done = await _until(api, job, lambda told: told["status"] == "DONE")

        assert done["importJob"] == {
            "status": "DONE",
            "progress": 100,
            "created": ROWS,
            "matched": 0,
            "rejected": 0,
        }
        counts = {
            name: done[name]["totalCount"] - before[name]["totalCount"]
            for name in ("customers", "cards", "events")
        }
        assert counts == {"customers": ROWS, "cards": ROWS, "events": 2 * ROWS}

        person = (await api.do("CreateCustomer", email="p77@import.example"))["customer"]["id"]
        linked = await api.do(
            "IssueCard",
            templateId=template,
            customer={"email": "p77@import.example", "phone": "+6281277007700"},
            sendLink="EMAIL",
        )
        outbox = process.data_dir / "outbox" / "email.jsonl"
        for _ in range(100):
            if outbox.exists() and b"p77@import.example" in outbox.read_bytes():
                break
            await asyncio.sleep(0.1)
        traces = _traces(process, b"p77@import.example")
        erased = await api.do("EraseCustomer", id=person)

        assert linked["card"]["customer"]["id"] == person
        assert erased["erasedId"] == person
        if process.settings.is_sqlite:
            assert {"stampwire.db", "email.jsonl"} <= traces
        assert _traces(process, b"p77@import.example") == set()
        assert _traces(process, b"+6281277007700") == set()


def _traces(process: Process, word: bytes) -> set[str]:
    """The files of the data dir in which a word stands: database, outbox, logs."""
    files = [path for path in process.data_dir.rglob("*") if path.is_file()]
    return {path.name.removesuffix("-wal") for path in files if word in path.read_bytes()}
