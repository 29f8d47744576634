"""Time on the running server: its worker does what is due, and clients hear of it."""

from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.ids import new_id
from models import Mode, Notice, NoticeKind, Role

ISSUE = """mutation { issueVoucher(input: {custom: {title: "Sorry!", validity: {days: 1}}})
    { voucher { id } } }"""
ADVANCE = """mutation($input: AdvanceTestClockInput!) { advanceTestClock(input: $input)
    { business { id now } movedFrom movedTo eventCount after events { type occurredAt sequence }
      userErrors { code field } } }"""
NOTICES = "{ notices(first: 5) { totalCount nodes { id kind message subjectId createdAt } } }"
NODE = "query($id: ID!) { node(id: $id) { __typename id } }"


@pytest.fixture
async def tester(open_house: Any) -> Any:
    """A TEST business on the running server."""
    return await open_house(mode=Mode.TEST)


async def test_a_voucher_expires_live_when_its_time_has_come(
    house: Any, clock: ManualClock
) -> None:
    voucher = (await house.owner.do(ISSUE))["issueVoucher"]["voucher"]
    async with house.owner.socket() as socket:
        told = await socket.subscribe(
            "subscription { events(filter: {types: [VOUCHER_EXPIRED]}) "
            "{ type occurredAt ... on VoucherExpired { voucher { id status } } } }"
        )
        await house.until_followed(1)

        clock.advance(timedelta(days=2))

        [event] = (await told.next()).values()
    assert event == {
        "type": "VOUCHER_EXPIRED",
        "occurredAt": "2026-03-03T17:00:00Z",
        "voucher": {"id": voucher["id"], "status": "EXPIRED"},
    }


async def test_what_follows_in_the_same_document_happens_at_the_new_time(tester: Any) -> None:
    document = """mutation {
        advanceTestClock(input: {days: 10, hours: 1}) { business { now } }
        issueVoucher(input: {custom: {title: "Late"}}) { events { occurredAt } } }"""

    done = await tester.owner.do(document)

    assert done["advanceTestClock"]["business"]["now"] == "2026-03-12T13:00:00Z"
    assert done["issueVoucher"]["events"] == [{"occurredAt": "2026-03-12T13:00:00Z"}]


async def test_the_cursor_of_the_answer_leads_to_all_that_happened(tester: Any) -> None:
    await tester.owner.do(ISSUE)

    [moved] = (await tester.owner.do(ADVANCE, {"input": {"days": 3}})).values()
    [page] = (
        await tester.owner.do(
            "query($after: String) { events(after: $after, order: OLDEST_FIRST) "
            "{ nodes { type occurredAt sequence } } }",
            {"after": moved["after"]},
        )
    ).values()

    assert (moved["movedFrom"], moved["movedTo"]) == (
        "2026-03-02T12:00:00Z",
        "2026-03-05T12:00:00Z",
    )
    assert page["nodes"] == moved["events"]
    assert [event["type"] for event in moved["events"]] == ["VOUCHER_EXPIRED"]


async def test_a_key_makes_the_clock_move_once(tester: Any) -> None:
    asked = {"input": {"days": 3, "idempotencyKey": "three-days"}}

    first, again = [await tester.owner.do(ADVANCE, asked) for _ in range(2)]
    other = await tester.owner.do(ADVANCE, {"input": {"days": 4, "idempotencyKey": "three-days"}})

    assert first == again
    [refused] = other["advanceTestClock"]["userErrors"]
    assert refused["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_notices_are_for_who_runs_the_business(house: Any, clock: ManualClock) -> None:
    notice = Notice(
        id=new_id("ntc"),
        business_id=house.actor.business_id,
        kind=NoticeKind.ENDPOINT_FAILING,
        subject_id="we_1",
        step="for an hour",
        message="The webhook endpoint Till has failed for an hour.",
        created_at=clock.now(),
    )
    await house.database.write(house.actor.business_id, lambda tx: tx.add(notice))
    _, manager = await house.hire(Role.MANAGER)
    _, scanner = await house.hire(Role.SCANNER)

    shown = [await client.do(NOTICES) for client in (house.owner, manager)]
    denied = await scanner.call(NOTICES)
    nodes = [await client.do(NODE, {"id": notice.id}) for client in (house.owner, scanner)]

    assert shown[0] == shown[1]
    listed = shown[0]["notices"]
    assert [item["kind"] for item in listed["nodes"][:2]] == ["API_KEY_CHANGED"] * 2
    assert listed["totalCount"] == 3
    assert listed["nodes"][2:] == [
        {
            "id": notice.id,
            "kind": "ENDPOINT_FAILING",
            "message": "The webhook endpoint Till has failed for an hour.",
            "subjectId": "we_1",
            "createdAt": "2026-03-02T12:00:00Z",
        }
    ]
    assert denied.code == "FORBIDDEN"
    assert nodes == [{"node": {"__typename": "Notice", "id": notice.id}}, {"node": None}]
