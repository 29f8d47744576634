"""kill -9 in the middle of a campaign: it goes on, and nobody is written to twice."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from partners import Api
from processes import Process

HOLDERS = 400
AFTER = 60
"""How many messages there are in the outbox when the server is killed."""
PATIENCE = 90
"""Seconds that no successor takes to finish a campaign."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_a_campaign_survives_a_kill_and_writes_to_each_at_most_once(
    process: Process, figure: Any
) -> None:
    outbox = process.data_dir / "outbox"
    async with Api(process.graphql, process.demo["owner"]["apiKey"]) as api:
        cards = await _holders(api, process)
        campaign = await api.do(
            "CreateCampaign",
            templateId=process.demo["cardTemplate"]["id"],
            notificationText="2-for-1 today",
            messageText="Dear {name}, {left} to go.",
            channels=["PUSH", "EMAIL"],
            voucherTemplateId=process.demo["voucherTemplate"]["id"],
        )
        id = campaign["campaign"]["id"]
        before = await _kill_in_the_middle(process, outbox)
        await asyncio.to_thread(process.start_later)
        sent = await _sent(api, id)
        log = await api.journal()

    letters = Counter((line["customer_id"], line["channel"]) for line in _lines(outbox))
    assert set(letters.values()) == {1}
    for result in sent["results"]:
        there = sum(channel == result["channel"].lower() for _, channel in letters)
        assert result["accepted"] + result["failed"] + result["skipped"] == HOLDERS
        assert result["skipped"] == 0
        assert result["accepted"] <= there <= HOLDERS
    told, vouchers = _cards_of(log, "CAMPAIGN_SENT"), _cards_of(log, "VOUCHER_ISSUED")
    assert set(told.values()) == set(vouchers.values()) == {1}
    assert set(vouchers) == cards
    assert set(told) <= cards
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
    await asyncio.to_thread(process.run, "audit")  # fails on any finding
    failed = sum(result["failed"] for result in sent["results"])
    figure(f"killed after {before} messages, {failed} of {2 * HOLDERS} of unknown outcome")


async def _holders(api: Api, process: Process) -> set[str]:
    """Cards in wallets, of people who like mail."""
    template = process.demo["cardTemplate"]["id"]

    async def one(number: int) -> str:
        customer = {"email": f"c{number}@mail.example", "name": f"C{number}"}
        made = await api.do("IssueCard", templateId=template, customer=customer)
        card = made["card"]
        await api.do("ReportCardSaved", card={"id": card["id"]}, platform="APPLE")
        person = card["customer"]["id"]
        await api.do("SetConsent", customerId=person, channel="EMAIL", granted=True)
        return str(card["id"])

    made: set[str] = set()
    for start in range(0, HOLDERS, 20):
        made |= set(await asyncio.gather(*(one(n) for n in range(start, start + 20))))
    return made


async def _kill_in_the_middle(process: Process, outbox: Path) -> int:
    for _ in range(10_000):
        count = len(_lines(outbox))
        if count >= AFTER:
            process.kill()
            assert len(_lines(outbox)) < 2 * HOLDERS, "it was over before it was killed"
            return count
        await asyncio.sleep(0.001)
    raise TimeoutError("nothing was sent")


def _lines(outbox: Path) -> list[dict[str, str]]:
    """Every message in the outbox; the last line may be half written."""
    text = "".join(path.read_text() for path in sorted(outbox.glob("*.jsonl")))
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _cards_of(log: list[Any], type: str) -> Counter[str]:
    """How many events of a type each card has; their bodies are in Indonesian."""
    bodies = [json.loads(event["payload"]) for event in log if event["type"] == type]
    return Counter(body["kartu"]["id"] for body in bodies)


async def _sent(api: Api, id: str) -> Any:
    for _ in range(10 * PATIENCE):
        campaign = await api.ask("Campaign", id=id)
        if campaign["status"] == "SENT":
            return campaign
        await asyncio.sleep(0.1)
    raise TimeoutError(campaign)
