"""kill -9 between storing a sale and stamping it: what the till was told is stored, stamps once."""

import asyncio
from typing import Any

import httpx2
import pytest

from fakes import poster
from fakes.tills import standing_in
from partners import Api
from patience import until
from processes import Process

PHONE = "+6281234567890"
SALE = """query($ref: SaleRef!) { sale(ref: $ref) { status problem operation { id }
    card { id stamps } } }"""


@pytest.mark.on("sqlite")
async def test_a_sale_that_was_stored_is_stamped_once_after_a_kill(process: Process) -> None:
    account = poster.Poster()
    account.sell("7", "20000", PHONE)
    demo = process.demo
    template = demo["cardTemplate"]["id"]
    async with standing_in(account.app) as url, Api(
        process.graphql, demo["owner"]["apiKey"]
    ) as api, httpx2.AsyncClient(timeout=30) as till:  # fmt: skip
        card = (await api.do("IssueCard", templateId=template, customer={"phone": PHONE}))["card"]
        place = (await api.ask("Locations"))["nodes"][0]
        connected = await api.do(
            "ConnectPointOfSale",
            kind="POSTER",
            name="Dago till",
            locationId=place["id"],
            templateId=template,
            settings={
                "account": poster.ACCOUNT,
                "applicationSecret": poster.SECRET,
                "accessToken": poster.TOKEN,
                "apiUrl": url,
            },
        )
        point = connected["pointOfSale"]
        ref = {"ref": {"pointOfSaleId": point["id"], "saleId": "7"}}

        async def sale() -> Any:
            return (await api.send(SALE, **ref))["data"]["sale"]

        # The till holds back its receipt: the sale is in a worker's hands, and stamped by nobody.
        account.speaks.clear()
        taken = await till.post(point["callbackUrl"], content=poster.webhook(7))
        await until(lambda: bool(account.asked))
        before = await sale()
        await asyncio.to_thread(process.kill)
        account.speaks.set()
        await asyncio.to_thread(process.start)

        async def is_settled() -> bool:
            return bool((await sale())["status"] == "STAMPED")

        await until(is_settled)
        repeated = await till.post(point["callbackUrl"], content=poster.webhook(7))
        after = await sale()
        log = await api.journal()

    assert (taken.status_code, repeated.status_code) == (200, 200)
    assert (before["status"], before["operation"]) == ("WAITING", None)
    assert after["card"]["id"] == card["id"]
    assert account.asked.count("dash.getTransaction") == 2
    stamped = [event["type"] for event in log].count("STAMP_ADDED")
    assert stamped == after["card"]["stamps"] > 0
    await asyncio.to_thread(process.run, "audit")  # fails on any finding
