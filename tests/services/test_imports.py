"""Imports: rows become customers, each once, whatever breaks in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from core.clock import ManualClock
from core.errors import BadUserInput, Forbidden, Refused
from core.ids import Id
from db import BUSINESS, Database, param, query
from events.log import events_after
from factories import Cafe, a_business, a_card, a_card_template, a_customer, a_staff, an_award_goal
from models import (
    Card,
    CardTemplate,
    Customer,
    ImportJob,
    ImportRow,
    JobStatus,
    Operation,
    Reward,
    Role,
    StampChannel,
    UploadChunk,
    replay,
)
from services import imports
from services.card_refs import CardRef, find_card
from services.card_templates import ArchiveCardTemplateInput, archive_card_template
from services.cards import AddStampsInput, promise_of, stamp_card
from services.importer import Importer
from services.imports import ImportCustomersInput, import_customers, report_of
from services.pages import PageArgs
from services.sheets import MOST_CHARS, MOST_ROWS, Unreadable, rows_of
from services.undo import VoidOperationInput, void_operation
from services.uploads import store_file

_REPORT = query(
    select(ImportRow)
    .where(col(ImportRow.business_id) == BUSINESS, col(ImportRow.job_id) == param("job_id"))
    .order_by(col(ImportRow.row))
)
_ALL = {
    kind: query(select(kind).where(col(kind.business_id) == BUSINESS))
    for kind in (Customer, Card, Operation, Reward, UploadChunk)
}


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    return await a_business(database, now=clock.now())


@pytest.fixture
async def template(database: Database, cafe: Cafe) -> CardTemplate:
    """A card of six stamps: a cookie at three, a cake at six."""
    goals = [an_award_goal(3), an_award_goal(6, "A cake")]
    return await a_card_template(database, cafe.owner, 6, goals)


@pytest.fixture
def importer(database: Database, clock: ManualClock) -> Importer:
    return Importer(database, clock)


async def begin(database: Database, cafe: Cafe, clock: ManualClock, **told: Any) -> ImportJob:
    asked = ImportCustomersInput(**told)
    outcome = await database.write(
        cafe.business.id, lambda tx: import_customers(tx, cafe.owner, asked, clock.now())
    )
    assert outcome.job
    return outcome.job


async def job_of(database: Database, job: ImportJob) -> ImportJob:
    found = await database.read(job.business_id, lambda tx: tx.get(ImportJob, job.id))
    assert found
    return found


async def report(database: Database, job: ImportJob) -> list[tuple[int, str, str | None]]:
    rows = await database.read(job.business_id, lambda tx: tx.many(_REPORT, job_id=job.id))
    return [(row.row, row.status.name, row.message) for row in rows]


async def everything(database: Database, cafe: Cafe, kind: Any) -> list[Any]:
    return await database.read(cafe.business.id, lambda tx: tx.many(_ALL[kind]))


async def events(database: Database, cafe: Cafe) -> list[str]:
    rows = await database.read(cafe.business.id, lambda tx: events_after(tx, 0, 1_000))
    return [row.type for row in rows]


async def _pieces(data: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_each_row_has_an_outcome_of_its_own(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer
) -> None:
    known = await a_customer(database, cafe.owner, email="siti@mail.example", name="Siti")
    csv = (
        "name,email,phone,birthday,stamps\n"
        "Ana,ana@mail.example,+6281234567890,1990-02-28,\n"
        "Somebody,SITI@mail.example,+6281234567891,,\n"
        ",not an address,,,\n"
        "\n"
        ",,+6281234567890,--13-40,\n"
        "Ana again,ana@mail.example,,,0\n"
        "Nobody,,,,\n"
        "Two people,ana@mail.example,+6281234567891,,\n"
        "Stamps,stamps@mail.example,,,3\n"
        "=1+1,formula@mail.example,,,\n"
        "x,a@mail.example,,,,,too many\n"
        "Umlaut,müller@mail.example,,,-1\n"
    )
    job = await begin(database, cafe, clock, csv=csv)

    assert await importer.sweep() == 1

    done = await job_of(database, job)
    assert (done.status, done.progress, done.total, done.done) == (JobStatus.DONE, 100, 12, 12)
    assert (done.created, done.matched, done.rejected) == (1, 2, 8)
    assert await report(database, job) == [
        (2, "CREATED", None),
        (3, "MATCHED", None),
        (4, "REJECTED", "email: This is not an e-mail address."),
        (6, "REJECTED", "birthday: A birthday is written 1990-02-28 or --02-28."),
        (7, "MATCHED", None),
        (8, "REJECTED", "A customer needs an e-mail address or a phone number."),
        (9, "REJECTED", "This e-mail and this phone belong to two customers."),
        (10, "REJECTED", "stamps: Stamps need a card template."),
        (11, "REJECTED", "name: This looks like a formula."),
        (12, "REJECTED", "The row has more cells than the header."),
        (13, "REJECTED", "stamps: Stamps are a whole number."),
    ]
    people = {person.email: person for person in await everything(database, cafe, Customer)}
    assert set(people) == {"ana@mail.example", "siti@mail.example"}
    assert people["ana@mail.example"].birthday == "1990-02-28"
    siti = people["siti@mail.example"]
    assert (siti.id, siti.name, siti.phone) == (known.id, "Siti", "+6281234567891")
    assert await everything(database, cafe, UploadChunk) == []
    assert await importer.sweep() == 0


async def test_starting_stamps_are_placed_and_their_goals_not_paid(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, template: CardTemplate
) -> None:
    held = await a_card(database, cafe.owner, template.id, email="old@mail.example")
    csv = "email;stamps\na@mail.example;4\nb@mail.example;60\nc@mail.example;\nold@mail.example;5\n"
    before = len(await events(database, cafe))
    job = await begin(database, cafe, clock, csv=csv, template_id=Id(template.id))

    await importer.sweep()

    cards = {card.customer_id: card for card in await everything(database, cafe, Card)}
    people = {item.email: item.id for item in await everything(database, cafe, Customer)}
    stamps = {email[0]: cards[id].stamps for email, id in people.items()}
    assert stamps == {"a": 4, "b": 6, "c": 0, "o": 0}
    assert [row[1:] for row in await report(database, job)] == [
        ("CREATED", None),
        ("CREATED", "The card is full with 6 stamps."),
        ("CREATED", None),
        ("MATCHED", "The card was there before; its stamps stay as they are."),
    ]
    assert await everything(database, cafe, Reward) == []
    new = (await events(database, cafe))[before:]
    assert new == ["card_issued", "stamp_added"] * 2 + ["card_issued"]
    lines = await everything(database, cafe, Operation)
    assert {(line.channel, line.line, line.staff_id) for line in lines} == {
        (StampChannel.IMPORT, 1, cafe.owner.staff_id)
    }
    assert held.id == cards[people["old@mail.example"]].id


async def test_the_next_stamps_pay_what_lies_beyond_and_the_ledger_replays(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, template: CardTemplate
) -> None:
    csv = "email,stamps\na@mail.example,4\n"
    await begin(database, cafe, clock, csv=csv, template_id=Id(template.id))
    await importer.sweep()
    [card] = await everything(database, cafe, Card)

    async def add(tx: Any) -> Any:
        found, holder = await find_card(tx, CardRef(id=card.id), lock=True)
        asked = AddStampsInput(card=CardRef(id=card.id), count=2)
        done = await stamp_card(tx, cafe.owner, found, holder, asked, clock.now())
        return done, await promise_of(tx, card.version_id)

    done, promise = await database.write(cafe.business.id, add)

    lines = sorted(await everything(database, cafe, Operation), key=lambda line: line.line)
    stands = replay(lines, {promise.version.id: promise})
    assert [reward.title for reward in done.rewards] == ["A cake"]
    assert (stands.stamps, stands.cycle) == (6, 1)
    assert [goal.title for _, goal in stands.reached] == ["A cake"]

    undo = VoidOperationInput(id=Id(lines[0].id))
    undone = await database.write(
        cafe.business.id, lambda tx: void_operation(tx, cafe.owner, undo, clock.now())
    )
    assert undone.card
    assert (undone.card.stamps, [reward.title for reward in undone.rewards]) == (2, ["A cake"])


async def test_nobody_else_adds_stamps_by_import(
    database: Database, cafe: Cafe, clock: ManualClock, template: CardTemplate
) -> None:
    card = await a_card(database, cafe.owner, template.id)

    async def add(tx: Any) -> Any:
        found, holder = await find_card(tx, CardRef(id=Id(card.id)), lock=True)
        asked = AddStampsInput(card=CardRef(id=Id(card.id)), count=2, channel=StampChannel.IMPORT)
        return await stamp_card(tx, cafe.owner, found, holder, asked, clock.now())

    with pytest.raises(Refused, match="Only an import"):
        await database.write(cafe.business.id, add)


async def test_a_dry_run_tells_the_same_and_changes_nothing(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, template: CardTemplate
) -> None:
    csv = b"email,stamps\n" + b"".join(b"p%d@mail.example,2\n" % n for n in range(120)) + b"x,\n"
    upload = await store_file(database, cafe.owner, _pieces(csv), "text/csv", clock.now())
    told = {"upload_id": Id(upload.id), "template_id": Id(template.id)}
    before = await events(database, cafe)

    dry = await begin(database, cafe, clock, **told, dry_run=True)
    await importer.sweep()

    tried = await job_of(database, dry)
    assert (tried.status, tried.created, tried.rejected) == (JobStatus.DONE, 120, 1)
    assert await everything(database, cafe, Customer) == []
    assert await events(database, cafe) == before

    real = await begin(database, cafe, clock, **told)
    await importer.sweep()
    done = await job_of(database, real)
    assert await report(database, real) == await report(database, dry)
    assert (done.created, done.matched, done.rejected) == (120, 0, 1)
    assert len(await everything(database, cafe, Card)) == 120
    with pytest.raises(Refused) as gone:
        await begin(database, cafe, clock, **told)
    assert gone.value.field == ["input", "uploadId"]


async def test_reading_a_file_twice_changes_nothing(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, template: CardTemplate
) -> None:
    told = {"csv": "email,stamps\na@mail.example,4\n", "template_id": Id(template.id)}
    await begin(database, cafe, clock, **told)
    await importer.sweep()
    kinds = (Customer, Card, Operation)
    before = [await everything(database, cafe, kind) for kind in kinds]

    again = await begin(database, cafe, clock, **told)
    await importer.sweep()

    assert [
        await everything(database, cafe, kind) for kind in (Customer, Card, Operation)
    ] == before
    assert (await job_of(database, again)).matched == 1


async def test_whoever_dies_leaves_the_rest_to_the_next_and_no_row_is_done_twice(
    database: Database, cafe: Cafe, clock: ManualClock, template: CardTemplate, monkeypatch: Any
) -> None:
    csv = "email,stamps\n" + "".join(f"p{n}@mail.example,1\n" for n in range(95))
    job = await begin(database, cafe, clock, csv=csv, template_id=Id(template.id))
    dying, left = Importer(database, clock, batch=10), [4]
    really = imports.import_rows

    async def dies(*told: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionError
        return await really(*told)

    monkeypatch.setattr("services.importer.import_rows", dies)
    await dying.sweep()
    monkeypatch.undo()
    half = await job_of(database, job)
    early = await Importer(database, clock).sweep()
    clock.advance(imports.LEASE + timedelta(seconds=1))
    late = await Importer(database, clock, batch=10).sweep()

    done = await job_of(database, job)
    assert (half.status, half.done, half.progress) == (JobStatus.RUNNING, 40, 42)
    assert (early, late) == (0, 1)
    assert (done.status, done.done, done.created) == (JobStatus.DONE, 95, 95)
    assert len(await everything(database, cafe, Card)) == 95
    assert len(await everything(database, cafe, Operation)) == 95
    assert [row for row, *_ in await report(database, job)] == list(range(2, 97))


async def test_whoever_lost_the_lease_stores_nothing_more(
    database: Database, cafe: Cafe, clock: ManualClock, monkeypatch: Any
) -> None:
    csv = "email\n" + "".join(f"p{n}@mail.example\n" for n in range(40))
    job = await begin(database, cafe, clock, csv=csv)
    slow, quick = Importer(database, clock, batch=10), Importer(database, clock, batch=10)
    really, seen = slow._do_at_once, []

    async def sleeps(*told: Any) -> None:
        if not seen:
            seen.append(1)
            clock.advance(imports.LEASE + timedelta(seconds=1))
            await quick.sweep()
        await really(*told)

    monkeypatch.setattr(slow, "_do_at_once", sleeps)
    await slow.sweep()

    done = await job_of(database, job)
    assert (done.status, done.created) == (JobStatus.DONE, 40)
    assert len(await everything(database, cafe, Customer)) == 40


async def test_a_row_that_breaks_us_is_rejected_and_the_others_go_on(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, monkeypatch: Any
) -> None:
    csv = "email\na@mail.example\nboom@mail.example\nb@mail.example\n"
    job = await begin(database, cafe, clock, csv=csv)
    really = imports.upsert_customer

    async def breaks(tx: Any, actor: Any, told: Any, *more: Any) -> Any:
        if told.email.startswith("boom"):
            raise AttributeError(told.email)
        return await really(tx, actor, told, *more)

    monkeypatch.setattr(imports, "upsert_customer", breaks)
    await importer.sweep()

    assert await report(database, job) == [
        (2, "CREATED", None),
        (3, "REJECTED", "This row could not be read."),
        (4, "CREATED", None),
    ]
    assert (await job_of(database, job)).status is JobStatus.DONE


async def test_a_job_whose_template_was_archived_ends(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, template: CardTemplate
) -> None:
    told = {"csv": "email\na@mail.example\n", "template_id": Id(template.id)}
    job = await begin(database, cafe, clock, **told)
    archive = ArchiveCardTemplateInput(id=Id(template.id))
    await database.write(
        cafe.business.id, lambda tx: archive_card_template(tx, cafe.owner, archive, clock.now())
    )

    await importer.sweep()

    done = await job_of(database, job)
    assert (done.status, done.message) == (JobStatus.FAILED, "This card template is archived.")
    with pytest.raises(Refused):
        await begin(database, cafe, clock, **told)


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("", "The file is empty."),
        ("\n", "The first row names the columns, of name, email, phone, birthday, stamps, once"),
        ("Ana,ana@mail.example\n", "The first row names the columns"),
        ("email,email\n", "The first row names the columns"),
        ("name,stamps\nAna,3\n", "A file of customers has a column email or phone."),
        ("email\n" + "x" * (MOST_CHARS + 1), "A row is longer than 65536 characters"),
    ],
)
async def test_what_is_no_sheet_of_customers_fails_and_tells_nothing_of_it(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer, csv: str, message: str
) -> None:
    upload = await store_file(database, cafe.owner, _pieces(csv.encode()), "text/csv", clock.now())
    job = await begin(database, cafe, clock, upload_id=Id(upload.id))

    await importer.sweep()

    done = await job_of(database, job)
    assert done.status is JobStatus.FAILED
    assert (done.message or "").startswith(message)
    assert await everything(database, cafe, Customer) == []
    assert await everything(database, cafe, UploadChunk) == []


async def test_only_ones_own_files_can_be_read(
    database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    other = await a_business(database)
    upload = await store_file(database, other.owner, _pieces(b"email\n"), "text/csv", clock.now())
    picture = await store_file(
        database, cafe.owner, _pieces(b"\x89PNG"), "image/png", clock.now(), is_public=True
    )
    unfinished = picture.with_values(id="up_00000000000000000000000000", completed_at=None)
    await database.write(cafe.business.id, lambda tx: tx.add(unfinished))
    fields = []
    for told in (
        {"upload_id": Id(upload.id)},
        {"upload_id": Id(picture.id)},
        {"upload_id": Id(unfinished.id)},
        {},
        {"csv": "email\n", "upload_id": Id(upload.id)},
        {"csv": "email\n\x00"},
        {"csv": "e" * 50_001},
        {"csv": "email\n", "template_id": Id("tpl_00000000000000000000000000")},
    ):
        with pytest.raises(Refused) as refused:
            await begin(database, cafe, clock, **told)
        fields.append((refused.value.code.name, (refused.value.field or [])[-1]))

    assert fields == [
        ("NOT_FOUND", "uploadId"),
        ("INVALID", "uploadId"),
        ("NOT_FOUND", "uploadId"),
        ("INVALID", "input"),
        ("INVALID", "input"),
        ("INVALID", "csv"),
        ("TEXT_TOO_LONG", "csv"),
        ("NOT_FOUND", "templateId"),
    ]


async def test_scanners_import_nothing(database: Database, cafe: Cafe, clock: ManualClock) -> None:
    scanner = await a_staff(database, cafe.owner, Role.SCANNER)
    asked = ImportCustomersInput(csv="email\n")

    with pytest.raises(Forbidden):
        await database.write(
            cafe.business.id, lambda tx: import_customers(tx, scanner, asked, clock.now())
        )


async def test_the_report_is_read_page_by_page(
    database: Database, cafe: Cafe, clock: ManualClock, importer: Importer
) -> None:
    csv = "email\n" + "".join(f"p{n}@mail.example\n" for n in range(7))
    job = await begin(database, cafe, clock, csv=csv)
    await importer.sweep()
    rows, after = [], None
    while True:
        args = PageArgs(first=3, after=after)
        page = await _page(database, job, args)
        rows += [row.row for row in page.rows]
        after = page.cursors()[-1]
        if not page.has_next:
            break

    assert rows == list(range(2, 9))
    assert await database.read(cafe.business.id, page.count) == 7
    for cursor in ("", "x", "aW1yOi0x", "é"):
        with pytest.raises(BadUserInput):
            await _page(database, job, PageArgs(after=cursor))


async def _page(database: Database, job: ImportJob, args: PageArgs) -> Any:
    return await database.read(job.business_id, lambda tx: report_of(tx, job, args))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
async def test_a_sheet_reads_the_same_however_its_bytes_come(size: int) -> None:
    text = (
        '\ufeffNAME , Email;x,phone\r\n"Ana ""A"", B.",ä@b.c,\r\n'
        '"two\r\nlines",c@d.e,+1\r\n\r\nlast,f@g.h'
    ).replace(";x", "")

    rows = [row async for row in rows_of(_pieces(text.encode(), size))]

    assert [(row.number, dict(row.cells)) for row in rows] == [
        (2, {"name": 'Ana "A", B.', "email": "ä@b.c", "phone": ""}),
        (3, {"name": "two\nlines", "email": "c@d.e", "phone": "+1"}),
        (4, {}),
        (5, {"name": "last", "email": "f@g.h"}),
    ]
    assert [row.is_blank for row in rows] == [False, False, True, False]


@pytest.mark.parametrize(
    "body",
    [
        b"email\n" + b"x" * (20 * 2**20),
        b'email\n"' + b"a@b.c\n" * 200_000,
        b"email\n" + b'"' * 1_000_000,
        b"x" * 1_000_000,
        b"email\n" + b"\n" * (MOST_ROWS + 2),
        b"email" + b",name" * 100_000 + b"\n",
    ],
)
async def test_hostile_sheets_end_quickly(body: bytes) -> None:
    with pytest.raises(Unreadable):
        _ = [row async for row in rows_of(_pieces(body, 2**18))]


async def test_others_have_their_turn_while_a_sheet_is_read() -> None:
    """Short rows without end: at one go they once held the loop for half a second."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    rows = [row async for row in rows_of(_pieces(b"email\n" + b"a\n" * 90_000, 2**18))]
    task.cancel()

    assert len(rows) == 90_000
    assert turns >= 20


async def test_jobs_of_several_businesses_are_done_side_by_side(
    database: Database, clock: ManualClock, importer: Importer
) -> None:
    cafes = [await a_business(database) for _ in range(3)]
    jobs = [
        await begin(database, cafe, clock, csv=f"email\np{number}@mail.example\n")
        for number, cafe in enumerate(cafes)
    ]

    assert await importer.sweep() == 3

    assert [(await job_of(database, job)).status for job in jobs] == [JobStatus.DONE] * 3
    people = [await everything(database, cafe, Customer) for cafe in cafes]
    assert [[person.email for person in found] for found in people] == [
        [f"p{number}@mail.example"] for number in range(3)
    ]
