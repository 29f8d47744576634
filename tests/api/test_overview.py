"""The dashboard over the wire: the start page in one call, the pulse as it beats, the journal."""

import time
from datetime import timedelta
from typing import Any

import pytest

from core.ids import Id
from factories import a_card, a_card_template, a_location, a_voucher, an_award_goal, stamps
from models import Role
from services.vouchers import RedeemVoucherInput, VoucherRef, redeem_voucher

OVERVIEW = """query($period: Period, $date: Date, $location: ID, $template: ID) {
    overview(period: $period, date: $date, locationId: $location, templateId: $template) {
        firstDay lastDay newCards { value previous } stampOperations { value }
        staff { staff { id name } stamps lastActivityAt } usage { cardOperations staffSeats }
        stampHistogram { template { name } buckets { stamps customers } } series { date } } }"""
PULSE = """subscription { pulse {
    stampOperationsToday newCardsToday vouchersRedeemedToday openVouchers } }"""
JOURNAL = """query($search: String) { events(filter: {search: $search}, first: 50) {
    nodes { type card { id } } totalCount } }"""


def beat(stamped: int, cards: int, redeemed: int, still_open: int) -> dict[str, Any]:
    return {
        "pulse": {
            "stampOperationsToday": stamped,
            "newCardsToday": cards,
            "vouchersRedeemedToday": redeemed,
            "openVouchers": still_open,
        }
    }


async def test_the_start_page_is_one_call(house: Any) -> None:
    template = await a_card_template(house.database, house.actor, 2)
    card = await a_card(house.database, house.actor, template.id)
    await stamps(house.database, house.actor, card, 2)

    told = (await house.owner.do(OVERVIEW, {"period": "WEEK"}))["overview"]
    nulls = await house.owner.do(OVERVIEW, dict.fromkeys(("period", "date", "location")))

    assert (told["firstDay"], told["lastDay"]) == ("2026-03-02", "2026-03-08")
    assert told["newCards"] == {"value": 1, "previous": None}
    assert told["staff"] == [
        {
            "staff": {"id": house.actor.staff_id, "name": "Ayu"},
            "stamps": 2,
            "lastActivityAt": "2026-03-02T12:00:00Z",
        }
    ]
    assert told["usage"] == {"cardOperations": 2, "staffSeats": 1}
    assert told["stampHistogram"][0]["buckets"][2] == {"stamps": 2, "customers": 1}
    assert nulls["overview"]["firstDay"] == "2026-03-01"


async def test_a_scanner_is_shown_its_own_location(house: Any) -> None:
    there = await a_location(house.database, house.actor)
    _, scanner = await house.hire(Role.SCANNER, location_id=Id(there.id))
    _, manager = await house.hire(Role.MANAGER)
    await a_card(house.database, house.actor)

    asked = {"location": house.actor.location_id}
    seen = (await scanner.do(OVERVIEW, asked))["overview"]
    all_of_it = (await manager.do(OVERVIEW))["overview"]

    assert seen["newCards"]["value"] == 0
    assert all_of_it["newCards"]["value"] == 1
    assert all_of_it["usage"]["staffSeats"] == 3


@pytest.mark.parametrize(
    "asked",
    [{"location": "loc_01jwsample0000000000000000"}, {"template": "x"}, {"date": "0001-01-01"}],
)
async def test_what_is_not_there_is_said(house: Any, asked: dict[str, str]) -> None:
    answer = await house.owner.call(OVERVIEW, asked)

    assert answer.code == "BAD_USER_INPUT"


async def test_anothers_location_and_template_have_no_figures(house: Any, open_house: Any) -> None:
    other = await open_house(name="Teh")
    template = await a_card_template(other.database, other.actor)

    for asked in ({"location": other.actor.location_id}, {"template": template.id}):
        assert (await house.owner.call(OVERVIEW, asked)).code == "BAD_USER_INPUT"


async def test_the_pulse_beats_with_every_change(house: Any, clock: Any) -> None:
    template = await a_card_template(house.database, house.actor, 3)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(PULSE)
        first = await told.next()
        card = await a_card(house.database, house.actor, template.id)
        second = await told.next()
        full = await stamps(house.database, house.actor, card, 3)
        third = await told.next()
        ref = VoucherRef(id=Id(full.rewards[0].voucher_id or ""))
        await house.database.write(
            house.actor.business_id,
            lambda tx: redeem_voucher(
                tx, house.actor, RedeemVoucherInput(voucher=ref), clock.now()
            ),
        )
        fourth = await told.next()
        # The next day begins at 17:00 UTC.
        clock.advance(timedelta(hours=5))
        await a_voucher(house.database, house.actor, now=clock.now())
        fifth = await told.next()

    assert first == beat(0, 0, 0, 0)
    assert second == beat(0, 1, 0, 0)
    assert third == beat(1, 1, 0, 1)
    assert fourth == beat(1, 1, 1, 0)
    assert fifth == beat(0, 0, 0, 1)


async def test_the_pulse_of_a_rush_is_told_a_few_times_a_second(house: Any) -> None:
    template = await a_card_template(house.database, house.actor, 50, [an_award_goal(50)])
    card = await a_card(house.database, house.actor, template.id)
    async with house.owner.socket() as socket:
        told = await socket.subscribe(PULSE)
        await told.next()
        began = time.monotonic()
        for _ in range(40):
            await stamps(house.database, house.actor, card, 1)
        beats = [await told.next()]
        while beats[-1] != beat(40, 1, 0, 0):
            beats.append(await told.next())
        took = time.monotonic() - began
        assert await told.is_silent(0.6)

    assert len(beats) <= 2 + took / 0.4


async def test_a_scanners_pulse_is_that_of_its_location(house: Any) -> None:
    there = await a_location(house.database, house.actor)
    actor, scanner = await house.hire(Role.SCANNER, location_id=Id(there.id))
    template = await a_card_template(house.database, house.actor)
    await a_card(house.database, house.actor, template.id)
    await a_voucher(house.database, house.actor)
    async with scanner.socket() as socket:
        told = await socket.subscribe(PULSE)
        first = await told.next()
        await a_card(house.database, house.actor, template.id)
        silent = await told.is_silent(0.6)
        await a_card(house.database, actor, template.id)
        second = await told.next()

    assert first == beat(0, 0, 0, 0)
    assert silent
    assert second == beat(0, 1, 0, 0)


async def test_the_journal_is_searched_by_person_and_card_number(house: Any) -> None:
    template = await a_card_template(house.database, house.actor)
    budi = await a_card(
        house.database,
        house.actor,
        template.id,
        name="Budi 100%",
        email="budi@mail.example",
        phone="+6281234567890",
    )
    await stamps(house.database, house.actor, budi, 1)
    siti = await a_card(house.database, house.actor, template.id, email="siti@mail.example")

    async def found(text: str) -> list[str]:
        told = (await house.owner.do(JOURNAL, {"search": text}))["events"]
        assert told["totalCount"] == len(told["nodes"])
        return [f"{node['type']} {node['card']['id']}" for node in told["nodes"]]

    of_budi = [f"STAMP_ADDED {budi.id}", f"CARD_ISSUED {budi.id}"]
    of_siti = [f"CARD_ISSUED {siti.id}"]
    assert await found("bUdI") == of_budi
    assert await found("0%") == of_budi
    assert await found("+62812") == of_budi
    assert await found(budi.number) == of_budi
    assert await found("siti@") == of_siti
    assert await found("@mail.") == of_siti + of_budi
    assert await found("  ") == of_siti + of_budi
    for nothing in ("_udi", "b%i", "nobody", "\\", "'"):
        assert await found(nothing) == []
