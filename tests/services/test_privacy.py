"""Privacy: all that is held is told, and all that is personal is gone after an erasure."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel, col, select

from core.clock import ManualClock
from core.errors import Forbidden, Refused
from core.ids import Id, new_id
from core.settings import Settings
from db import BUSINESS, Database, Query, query
from factories import (
    Cafe,
    a_business,
    a_card,
    a_card_template,
    a_customer,
    a_staff,
    a_voucher,
    a_voucher_template,
    an_award_goal,
)
from models import (
    Attempt,
    AttemptStatus,
    Campaign,
    CampaignRecipient,
    CampaignStatus,
    Card,
    Channel,
    Customer,
    DailyFigure,
    EventRow,
    ImportJob,
    JobStatus,
    LogHead,
    Message,
    MessageStatus,
    Operation,
    Rendering,
    Reward,
    Role,
    Row,
    Upload,
    UploadChunk,
    Voucher,
    WebhookEndpoint,
)
from models.businesses import Vocabulary
from services.card_refs import CardRef
from services.cards import AddStampsInput, IssueCardInput, add_stamps, issue_card
from services.customers import (
    CustomerInput,
    SetConsentInput,
    set_consent,
    update_customer,
)
from services.importer import Importer
from services.imports import ImportCustomersInput, import_customers
from services.merging import MergeCustomersInput, merge_customers
from services.privacy import (
    HELD,
    HOLDS_NOTHING,
    EraseCustomerInput,
    erase_customer,
    export_customer,
)
from services.undo import VoidOperationInput, void_operation
from services.uploads import store_file
from services.vouchers import (
    CustomVoucherInput,
    IssueVoucherInput,
    RedeemVoucherInput,
    VoucherRef,
    issue_voucher,
    redeem_voucher,
)

MARKS = [
    "Siti Nurhaliza",
    "siti.nurhaliza@mail.example",
    "+628123456789",
    "For Siti only",
    "SITI-IS-30",
    "Siti's receipt",
    "Siti was unlucky",
    "Halo Siti",
    "echo of Siti",
    "Old Siti",
]
"""What only one person's data says, wherever it stands."""
PERSONAL = {
    "name", "email", "phone", "address", "text", "subject", "body", "data", "message", "reason",
    "external_ref", "response_head", "birth_day", "birthday", "language",
}  # fmt: skip
"""Names of columns that may hold what a person is called, said, or where she lives."""


@pytest.fixture
async def cafe(database: Database, clock: ManualClock) -> Cafe:
    return await a_business(database, now=clock.now())


def of(kind: type[Row]) -> Query[Any]:
    table: Any = kind
    return query(select(table).where(col(table.business_id) == BUSINESS))


async def rows(database: Database, cafe: Cafe, kind: type[Row]) -> list[Any]:
    return await database.read(cafe.business.id, lambda tx: tx.many(of(kind)))


class Story:
    """One person who left traces everywhere, and a neighbour who did the same."""

    def __init__(self, database: Database, cafe: Cafe, clock: ManualClock) -> None:
        self.database, self.cafe, self.clock = database, cafe, clock

    async def do(self, service: Any, told: Any) -> Any:
        return await self.database.write(
            self.cafe.business.id,
            lambda tx: service(tx, self.cafe.owner, told, self.clock.now()),
        )

    async def person(self, template_id: str, words: list[str], endpoint_id: str) -> Customer:
        """Somebody of whom something is written in every place that we have."""
        name, email, phone, title, code, label, reason, text, echo, old = words
        owner, now = self.cafe.owner, self.clock.now()
        holder = {"name": name, "email": email, "phone": phone, "birthday": "1987-06-05"}
        card = await a_card(self.database, owner, template_id, now, **holder)
        ref = CardRef(id=Id(card.id))
        stamped = await self.do(add_stamps, AddStampsInput(card=ref, count=4, external_ref=label))
        wrong = await self.do(add_stamps, AddStampsInput(card=ref, count=1, external_ref=label))
        await self.do(void_operation, VoidOperationInput(id=Id(wrong.operation.id), reason=reason))
        own = CustomVoucherInput(title=title, description=title, redeem_code=code)
        await self.do(issue_voucher, IssueVoucherInput(custom=own, card=ref))
        spent = (await self.do(issue_voucher, IssueVoucherInput(custom=own, card=ref))).voucher
        await self.do(redeem_voucher, RedeemVoucherInput(voucher=VoucherRef(id=Id(spent.id))))
        shared = await a_voucher_template(self.database, owner, now, redeem_code="FREECOFFEE")
        await a_voucher(self.database, owner, shared.id, card, now)
        said = SetConsentInput(
            customer_id=Id(card.customer_id), channel=Channel.EMAIL, granted=True
        )
        await self.do(set_consent, said)
        former = await a_customer(self.database, owner, now, name=old, email=f"x{email}")
        await self.do(
            merge_customers,
            MergeCustomersInput(keep_id=Id(card.customer_id), merge_id=Id(former.id)),
        )
        assert stamped.rewards
        events = await rows(self.database, self.cafe, EventRow)
        mine = next(row for row in events if row.card_id == card.id)
        campaign = self.a_campaign(template_id)
        await self.add(
            campaign,
            self.a_recipient(campaign, card),
            self.a_message(card, email, text, MessageStatus.ACCEPTED),
            self.a_message(card, email, text, MessageStatus.QUEUED, campaign.id),
            self.an_attempt(endpoint_id, mine, echo),
            Rendering(
                endpoint_id=endpoint_id,
                sequence=mine.sequence,
                business_id=mine.business_id,
                body=f'{{"customer": "{name}"}}',
            ),
        )
        csv = f"name,email\n{name},{email}\n".encode()
        await store_file(self.database, owner, _one(csv), "text/csv", now)
        customer = await self.database.read(
            self.cafe.business.id, lambda tx: tx.get(Customer, card.customer_id)
        )
        assert customer
        return customer

    async def add(self, *made: Row) -> None:
        await self.database.write(self.cafe.business.id, lambda tx: tx.add(*made))

    def a_campaign(self, template_id: str) -> Campaign:
        return Campaign(
            id=new_id("cmp"),
            business_id=self.cafe.business.id,
            name="Rainy week",
            template_id=template_id,
            notification_text="Rain",
            message_text="Halo {name}",
            channels=["email"],
            status=CampaignStatus.SENDING,
            scheduled_at=self.clock.now(),
            created_at=self.clock.now(),
        )

    def a_recipient(self, campaign: Campaign, card: Card) -> CampaignRecipient:
        return CampaignRecipient(
            campaign_id=campaign.id,
            card_id=card.id,
            business_id=card.business_id,
            customer_id=card.customer_id,
            position=1,
        )

    def a_message(
        self,
        card: Card,
        address: str,
        text: str,
        status: MessageStatus,
        campaign_id: str | None = None,
    ) -> Message:
        return Message(
            id=new_id("msg"),
            business_id=card.business_id,
            campaign_id=campaign_id,
            customer_id=card.customer_id,
            card_id=card.id,
            channel=Channel.EMAIL,
            address=address,
            subject=text,
            text=text,
            url=f"/c/{card.token}",
            status=status,
            not_before=self.clock.now(),
            created_at=self.clock.now(),
        )

    def an_attempt(self, endpoint_id: str, event: EventRow, echo: str) -> Attempt:
        return Attempt(
            id=new_id("att"),
            business_id=event.business_id,
            endpoint_id=endpoint_id,
            event_id=event.id,
            sequence=event.sequence,
            status=AttemptStatus.FAILED,
            started_at=self.clock.now(),
            response_status=500,
            response_head=echo,
        )

    async def erase(self, customer: Customer) -> str | None:
        erased = await self.do(erase_customer, EraseCustomerInput(id=Id(customer.id)))
        await self.database.forget()
        found: str | None = erased.erased_id
        return found


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def story(database: Database, cafe: Cafe, clock: ManualClock) -> Story:
    return Story(database, cafe, clock)


@pytest.fixture
async def endpoint(story: Story) -> WebhookEndpoint:
    made = WebhookEndpoint(
        id=new_id("we"),
        business_id=story.cafe.business.id,
        url="https://partner.example/hooks",
        vocabulary=Vocabulary.EN,
        cursor_sequence=0,
        created_at=story.clock.now(),
        next_attempt_at=story.clock.now(),
        lease_until=story.clock.now(),
    )
    await story.add(made)
    return made


@pytest.fixture
async def siti(story: Story, endpoint: WebhookEndpoint) -> Customer:
    goals = [an_award_goal(3), an_award_goal(6, "A cake")]
    template = await a_card_template(story.database, story.cafe.owner, 6, goals)
    return await story.person(template.id, MARKS, endpoint.id)


@pytest.fixture
async def budi(story: Story, endpoint: WebhookEndpoint, siti: Customer) -> Customer:
    """The neighbour, of whom the same is written in other words."""
    [card] = await rows(story.database, story.cafe, Card)
    words = [mark.replace("Siti", "Budi").replace("siti", "budi") for mark in MARKS]
    words[2], words[4] = "+628987654321", "BUDI-IS-40"
    return await story.person(card.template_id, words, endpoint.id)


async def everything(story: Story) -> dict[str, list[dict[str, Any]]]:
    """All rows of the café, by table, as text."""
    found = {}
    for kind in Row.__subclasses__():
        if "business_id" in kind.model_fields:
            found[str(kind.__tablename__)] = [
                row.__dict__ for row in await rows(story.database, story.cafe, kind)
            ]
    return found


def _found_in(held: Any, marks: list[str]) -> set[tuple[str, str]]:
    return {
        (table, mark)
        for table, items in held.items()
        for mark in marks
        for item in items
        if mark in str(item)
    }


def test_every_table_that_may_hold_a_person_is_told_or_said_to_hold_nothing() -> None:
    tables = SQLModel.metadata.tables
    suspicious = {
        name
        for name, table in tables.items()
        if any(
            column.name in PERSONAL
            or column.name.endswith(("customer_id", "card_id", "voucher_id"))
            for column in table.columns
        )
    }

    assert set(tables) == set(HELD) | set(HOLDS_NOTHING)
    assert set(HELD) & set(HOLDS_NOTHING) == set()
    assert suspicious - set(HELD) <= {
        "business", "campaign", "card_template", "import_job", "location", "lottery_variant",
        "notice", "point_of_sale", "staff", "upload_chunk", "webhook_endpoint", "api_key",
        "session",
        "deployment_key",
    }  # fmt: skip


async def test_all_that_is_held_is_told(story: Story, siti: Customer, budi: Customer) -> None:
    async def work(tx: Any) -> Any:
        return await export_customer(tx, story.cafe.owner, siti.id, story.clock.now())

    told = await story.database.read(story.cafe.business.id, work)

    text = json.dumps(told, ensure_ascii=False)
    assert told["customerId"] == siti.id
    filled = {name for name, items in told["held"].items() if items}
    assert filled == {
        "attempt", "campaign_recipient", "card", "consent", "customer", "event", "message",
        "operation", "rendering", "reward", "voucher",
    }  # fmt: skip
    # The record that was merged into hers holds nothing personal any more.
    assert [mark for mark in MARKS if mark not in text] == ["Old Siti"]
    assert "Budi" not in text
    assert budi.id not in text
    assert told["held"]["event"][0]["body"]["event"] == "card_issued"


async def test_only_owners_export_and_erase(story: Story, siti: Customer) -> None:
    manager = await a_staff(story.database, story.cafe.owner, Role.MANAGER)
    asked = EraseCustomerInput(id=Id(siti.id))
    business = story.cafe.business.id

    with pytest.raises(Forbidden):
        await story.database.write(
            business, lambda tx: erase_customer(tx, manager, asked, story.clock.now())
        )
    with pytest.raises(Forbidden):
        await story.database.read(
            business, lambda tx: export_customer(tx, manager, siti.id, story.clock.now())
        )
    other = await a_business(story.database)
    assert (
        await story.database.read(
            other.business.id,
            lambda tx: export_customer(tx, other.owner, siti.id, story.clock.now()),
        )
        is None
    )
    with pytest.raises(Refused, match="There is no such customer"):
        await story.database.write(
            other.business.id, lambda tx: erase_customer(tx, other.owner, asked, story.clock.now())
        )


async def test_nothing_personal_is_left_and_nobody_else_is_touched(
    story: Story, siti: Customer, budi: Customer
) -> None:
    before = await everything(story)
    theirs = [mark.replace("Siti", "Budi").replace("siti", "budi") for mark in MARKS[:2]]

    assert await story.erase(siti) == siti.id

    after = await everything(story)
    assert len(_found_in(before, MARKS)) > 10
    assert _found_in(after, MARKS) == set()
    assert _found_in(after, theirs) == {
        item for item in _found_in(before, theirs) if item[0] != "upload_chunk"
    }
    person = next(item for item in after["customer"] if item["id"] == siti.id)
    assert (person["birth_year"], person["birth_month"], person["birth_day"]) == (None,) * 3
    assert person["erased_at"] == story.clock.now()
    assert person["erased_by_id"] == story.cafe.owner.staff_id


@pytest.mark.on("sqlite")
async def test_a_search_of_the_database_files_finds_no_trace(
    story: Story, siti: Customer, budi: Customer, settings: Settings
) -> None:
    path = Path(settings.database.removeprefix("sqlite:///"))

    def search(word: str) -> bool:
        files = [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-journal")]
        return any(word.encode() in file.read_bytes() for file in files if file.exists())

    before = [mark for mark in MARKS if search(mark)]
    await story.erase(siti)
    after = [mark for mark in [*MARKS, "siti.nurhaliza", "1987-06-05"] if search(mark)]

    assert before == MARKS
    assert after == []
    assert search("Budi Nurhaliza")


async def test_the_ledger_and_the_figures_stay(
    story: Story, siti: Customer, budi: Customer
) -> None:
    kept = ("reward", "lottery_ticket", "idempotency", "log_head")
    texts = {"external_ref", "reason", "body", "redeem_code", "title", "description", "token"}
    before = await everything(story)

    await story.erase(siti)

    after = await everything(story)
    for name in kept:
        assert after[name] == before[name], name
    for name in ("operation", "event", "voucher"):
        assert [_without(item, texts) for item in after[name]] == [
            _without(item, texts) for item in before[name]
        ], name
    gone = {"deleted_cards", "last_at"}
    sums = [
        {
            name: sum(item[name] for item in held["daily_figure"])
            for name in DailyFigure.model_fields
            if isinstance(held["daily_figure"][0][name], int) and name not in gone
        }
        for held in (before, after)
    ]
    assert sums[0] == sums[1]
    assert [len(after[name]) for name in ("customer", "card", "voucher", "event")] == [
        len(before[name]) for name in ("customer", "card", "voucher", "event")
    ]
    bodies = [json.loads(item["body"]) for item in after["event"]]
    assert [body["sequence"] for body in bodies] == [item["sequence"] for item in before["event"]]


def _without(item: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


async def test_what_opened_the_card_opens_nothing_any_more(story: Story, siti: Customer) -> None:
    [card] = await rows(story.database, story.cafe, Card)
    vouchers = {row.id: row for row in await rows(story.database, story.cafe, Voucher)}

    await story.erase(siti)

    [gone] = await rows(story.database, story.cafe, Card)
    after = {row.id: row for row in await rows(story.database, story.cafe, Voucher)}
    assert (gone.deleted_at, gone.deleted_by_id) == (
        story.clock.now(),
        story.cafe.owner.staff_id,
    )
    assert gone.token != card.token
    assert gone.wallet_pass_id != card.wallet_pass_id
    assert all(after[id].token != voucher.token for id, voucher in vouchers.items())
    assert {(row.status.name, row.redeem_code) for row in after.values()} == {
        ("ACTIVE", None),
        ("REDEEMED", None),
    }
    assert {row.status for row in after.values()} == {row.status for row in vouchers.values()}
    for told in (
        AddStampsInput(card=CardRef(number=card.number), count=1),
        AddStampsInput(card=CardRef(token=card.token), count=1),
    ):
        with pytest.raises(Refused):
            await story.do(add_stamps, told)


async def test_messages_that_wait_are_skipped_and_their_campaign_goes_on(
    story: Story, siti: Customer
) -> None:
    await story.erase(siti)

    messages = await rows(story.database, story.cafe, Message)
    [recipient] = await rows(story.database, story.cafe, CampaignRecipient)
    assert {(item.status, item.address, item.text, item.url) for item in messages} == {
        (MessageStatus.ACCEPTED, None, "", None),
        (MessageStatus.SKIPPED, None, "", None),
    }
    assert recipient.done_at is not None


async def test_a_second_erasure_is_harmless(story: Story, siti: Customer, budi: Customer) -> None:
    await story.erase(siti)
    before = await everything(story)
    story.clock.advance(timedelta(hours=1))

    assert await story.erase(siti) == siti.id

    assert await everything(story) == before


async def test_whoever_comes_back_is_somebody_new(story: Story, siti: Customer) -> None:
    await story.erase(siti)
    [card] = await rows(story.database, story.cafe, Card)
    told = IssueCardInput(
        template_id=Id(card.template_id),
        customer=CustomerInput(email=siti.email, phone=siti.phone, name=siti.name),
    )

    issued = await story.do(issue_card, told)

    assert (issued.created, issued.customer_created) == (True, True)
    assert issued.card.customer_id != siti.id


async def test_nothing_is_written_to_an_erased_customer(story: Story, siti: Customer) -> None:
    await story.erase(siti)

    for service, told in (
        (update_customer, {"id": siti.id, "name": "Siti"}),
        (
            set_consent,
            SetConsentInput(customer_id=Id(siti.id), channel=Channel.EMAIL, granted=True),
        ),
    ):
        with pytest.raises(Refused, match="There is no such customer"):
            await story.do(service, told)


async def test_an_erasure_by_a_merged_id_erases_both_records(story: Story, siti: Customer) -> None:
    merged = next(
        row for row in await rows(story.database, story.cafe, Customer) if row.merged_into
    )

    assert await story.erase(merged) == siti.id

    people = await rows(story.database, story.cafe, Customer)
    assert all(person.erased_at is not None for person in people)


async def test_files_that_wait_are_thrown_away_and_their_imports_fail(
    story: Story, siti: Customer
) -> None:
    csv = f"name,email\nSiti Nurhaliza,{siti.email}\n"
    job = (await story.do(import_customers, ImportCustomersInput(csv=csv))).job

    await story.erase(siti)
    await Importer(story.database, story.clock).sweep()

    [after] = await rows(story.database, story.cafe, ImportJob)
    assert (after.id, after.status) == (job.id, JobStatus.FAILED)
    assert after.message == "The file was thrown away when a customer was erased."
    assert await rows(story.database, story.cafe, UploadChunk) == []
    assert not any(item.is_usable for item in await rows(story.database, story.cafe, Upload))
    people = await rows(story.database, story.cafe, Customer)
    assert not any(person.email for person in people)


async def test_an_upload_of_another_business_stays(story: Story, siti: Customer) -> None:
    other = await a_business(story.database)
    upload = await store_file(
        story.database, other.owner, _one(b"email\n"), "text/csv", story.clock.now()
    )

    await story.erase(siti)

    found = await story.database.read(other.business.id, lambda tx: tx.get(Upload, upload.id))
    assert found
    assert found.is_usable


async def test_the_log_reaches_as_far_as_before(story: Story, siti: Customer) -> None:
    before = await rows(story.database, story.cafe, LogHead)
    numbers = [row.sequence for row in await rows(story.database, story.cafe, EventRow)]

    await story.erase(siti)

    assert await rows(story.database, story.cafe, LogHead) == before
    assert [row.sequence for row in await rows(story.database, story.cafe, EventRow)] == numbers
    assert len(await rows(story.database, story.cafe, Operation)) > 5
    assert len(await rows(story.database, story.cafe, Reward)) == 1
