"""The year as it goes by: each day's visits are thought out, then happen in the order of time.

What happens between two things that time causes is one unit of work, so a year takes minutes.
Nothing is remembered of what a unit did but what a second run of it would say again; the rest is
looked up where it is needed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

from sqlalchemy import func
from sqlmodel import col, select

from core.clock import Clock
from core.ids import Id
from db import BUSINESS, Database, Transaction, param, query
from integrations.channels import Accepted, Answer, Rejected
from models import (
    Actor,
    Business,
    Campaign,
    CampaignRecipient,
    CampaignStatus,
    Card,
    Channel,
    ClaimCode,
    Customer,
    EventRow,
    LotteryTicket,
    Message,
    Operation,
    OperationKind,
    Platform,
    RedeemedVia,
    Staff,
    StampChannel,
    TicketStatus,
    Voucher,
    VoucherStatus,
)
from services import outbox
from services.agenda import Span
from services.businesses import update_business
from services.campaigns import (
    CancelCampaignInput,
    CreateCampaignInput,
    cancel_campaign,
    create_campaign,
    write_next,
)
from services.card_refs import CardRef, HolderRef
from services.card_templates import (
    PublishCardTemplateInput,
    publish_card_template,
    update_card_template,
)
from services.cards import (
    AddStampsInput,
    IssueCardInput,
    ReplaceCardInput,
    ReportCardOpenedInput,
    ReportCardSavedInput,
    add_stamps,
    issue_card,
    replace_card,
    report_card_opened,
    report_card_saved,
)
from services.claim_codes import (
    ClaimStampsInput,
    CreateClaimCodesInput,
    claim_stamps,
    create_claim_codes,
)
from services.clock import AdvanceTestClockInput, ClockAdvanced, advance_test_clock, move_clock
from services.customers import CustomerRef, SetConsentInput, set_consent
from services.due import first_due
from services.lotteries import PlayLotteryInput, play_lottery
from services.merging import MergeCustomersInput, merge_customers
from services.staff import DisableStaffInput, disable_staff
from services.undo import (
    ReverseRedemptionInput,
    VoidOperationInput,
    reverse_redemption,
    void_operation,
)
from services.vouchers import (
    CustomVoucherInput,
    IssueVoucherInput,
    RedeemVoucherInput,
    ValidityInput,
    VoucherCodeRef,
    VoucherRef,
    issue_voucher,
    redeem_voucher,
)
from services.year import shape
from services.year.cafe import BEANS, KOPI, Cafe, hire, kopi_goals
from services.year.people import Person, SeededLuck, comes_on, hour_at, picked
from services.year.shape import Mailing, Place, Shift

_USABLE = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.card_id) == param("card_id"),
        col(Voucher.status) == VoucherStatus.ACTIVE,
        col(Voucher.expires_at) > param("now"),
    )
    .order_by(col(Voucher.expires_at), col(Voucher.id))
    .limit(1)
)
_JUST_REDEEMED = query(
    select(Voucher)
    .where(
        col(Voucher.business_id) == BUSINESS,
        col(Voucher.card_id) == param("card_id"),
        col(Voucher.status) == VoucherStatus.REDEEMED,
        col(Voucher.redeemed_at) >= param("since"),
    )
    .order_by(col(Voucher.id))
    .limit(1)
)
_UNPLAYED = query(
    select(LotteryTicket)
    .where(
        col(LotteryTicket.business_id) == BUSINESS,
        col(LotteryTicket.card_id) == param("card_id"),
        col(LotteryTicket.status) == TicketStatus.PENDING,
    )
    .order_by(col(LotteryTicket.id))
)
_JUST_STAMPED = query(
    select(Operation)
    .where(
        col(Operation.business_id) == BUSINESS,
        col(Operation.card_id) == param("card_id"),
        col(Operation.kind) == OperationKind.STAMPS,
        col(Operation.voided_by_id).is_(None),
        col(Operation.staff_id) == param("staff_id"),
        col(Operation.occurred_at) >= param("since"),
    )
    .order_by(col(Operation.line).desc())
    .limit(1)
)
_UNCLAIMED = query(
    select(ClaimCode)
    .where(
        col(ClaimCode.business_id) == BUSINESS,
        col(ClaimCode.claimed_at).is_(None),
        col(ClaimCode.expires_at) > param("now"),
    )
    .order_by(col(ClaimCode.id))
    .limit(1)
)
_SENDING = query(
    select(Campaign)
    .where(col(Campaign.business_id) == BUSINESS, col(Campaign.status) == CampaignStatus.SENDING)
    .order_by(col(Campaign.id))
)
_CAMPAIGN_NAMED = query(
    select(Campaign).where(
        col(Campaign.business_id) == BUSINESS, col(Campaign.name) == param("name")
    )
)
_GIFTED = query(
    select(CampaignRecipient.customer_id)
    .where(
        col(CampaignRecipient.business_id) == BUSINESS,
        col(CampaignRecipient.campaign_id) == param("campaign_id"),
        col(CampaignRecipient.voucher_id).is_not(None),
    )
    .order_by(col(CampaignRecipient.position))
)
_EVENTS = query(
    select(EventRow.type, func.count())
    .where(col(EventRow.business_id) == BUSINESS)
    .group_by(col(EventRow.type))
)
_COUNTED = {
    "customers": query(
        select(func.count()).select_from(Customer).where(col(Customer.business_id) == BUSINESS)
    ),
    "cards": query(select(func.count()).select_from(Card).where(col(Card.business_id) == BUSINESS)),
    "operations": query(
        select(func.count()).select_from(Operation).where(col(Operation.business_id) == BUSINESS)
    ),
    "messages": query(
        select(func.count()).select_from(Message).where(col(Message.business_id) == BUSINESS)
    ),
}
_CONNECTED = (Channel.PUSH, Channel.EMAIL)
_FOR_A_WHILE = timedelta(minutes=10)

Act = Callable[[Transaction, datetime], Awaitable[object]]


@dataclass(frozen=True)
class Planned:
    """What is to happen at a moment."""

    at: datetime
    act: Act


@dataclass(frozen=True)
class MonthOver:
    """A month has gone by: how much there is by now."""

    first_day: date
    counts: dict[str, int]


@dataclass
class Story:
    """Tells the year, a day at a time."""

    database: Database
    cafe: Cafe
    people: list[Person]
    random: Random
    luck: SeededLuck
    clock: Clock
    later: dict[date, list[Planned]] = field(default_factory=dict)
    """What was decided for a day to come."""

    async def tell(self, days: int, month_over: Callable[[MonthOver], None]) -> None:
        """Let so many days go by."""
        self._decide_for_the_office(days)
        self._decide_for_people()
        for number in range(days):
            day = shape.FIRST_DAY + timedelta(days=number)
            planned = sorted(
                [*self.later.pop(day, []), *self._visits(day)], key=lambda item: item.at
            )
            await self._live(_apart(planned), self._at(day, 23))
            tomorrow = day + timedelta(days=1)
            if tomorrow.month != day.month or number == days - 1:
                month_over(MonthOver(day.replace(day=1), await self.counts()))

    async def finish(self) -> None:
        """It is a café like any other from now on."""
        now = self._now()

        async def work(tx: Transaction) -> None:
            actor = self.cafe.by(self.cafe.owner)
            await update_business(tx, actor, {"name": shape.NAME}, now)

        await self._write(work)

    async def counts(self) -> dict[str, int]:
        """How much there is of everything."""

        async def work(tx: Transaction) -> dict[str, int]:
            found = {name: await tx.one(statement) for name, statement in _COUNTED.items()}
            by_type: dict[str, int] = dict(sorted(await tx.many(_EVENTS)))
            return found | {"events": sum(by_type.values())} | by_type

        return await self.database.read(self.cafe.business.id, work)

    # -- Time -------------------------------------------------------------------------------------

    async def _live(self, planned: list[Planned], end: datetime) -> None:
        """Do what was planned, and let all happen that is due on the way, in the order of time."""
        left = list(planned)
        while True:
            due = await self._next_due(end)
            before = [item for item in left if due is None or item.at < due]
            if before:
                await self._do(before)
                left = left[len(before) :]
            elif due is not None:
                await self._move_to(due)
            else:
                break
        await self._move_to(end)

    async def _next_due(self, end: datetime) -> datetime | None:
        span = Span(self._now(), end)

        async def work(tx: Transaction) -> datetime | None:
            found = await first_due(tx, self.cafe.business, span)
            return None if found is None else found[1].at

        return await self.database.read(self.cafe.business.id, work)

    async def _do(self, planned: list[Planned]) -> None:
        state = self.luck.random.getstate()

        async def work(tx: Transaction) -> None:
            self.luck.random.setstate(state)  # should the database want it done again
            for item in planned:
                await item.act(tx, item.at)

        await self._write(work)

    async def _move_to(self, moment: datetime) -> None:
        """Move the test clock; whatever is due by then happens."""
        business, now = self.cafe.business, self._now()
        to = AdvanceTestClockInput(to=moment)
        actor = self.cafe.by(self.cafe.manager)

        async def decide(tx: Transaction) -> ClockAdvanced:
            return await advance_test_clock(tx, actor, to, now)

        outcome = await self.database.read(business.id, decide)
        moved = await move_clock(self.database, self.clock, business.id, outcome, self._send)
        if moved.business is None:
            raise AssertionError
        self.cafe.business = moved.business

    def _now(self) -> datetime:
        return self.cafe.business.time(self.clock.now())

    def _at(self, day: date, hour: int, minute: int = 0) -> datetime:
        return datetime.combine(day, time(hour, minute), self.cafe.business.zone)

    async def _write(self, work: Callable[[Transaction], Any]) -> None:
        await self.database.write(self.cafe.business.id, work)

    # -- What the office does ---------------------------------------------------------------------

    def _decide_for_the_office(self, days: int) -> None:
        """What the office will do all year."""
        for number in range(0, days, 7):
            day = shape.FIRST_DAY + timedelta(days=number)
            self._plan(self._at(day, 5, 30), self._print_codes)
        for mailing in shape.MAILINGS:
            made = mailing.day - timedelta(days=2)
            self._plan(self._at(made, 11), partial(self._make_campaign, mailing))
            if mailing.is_cancelled:
                self._plan(self._at(made, 12), partial(self._cancel_campaign, mailing))
        for place in shape.PLACES:
            for shift in place.staff:
                if shift.since > shape.FIRST_DAY:
                    self._plan(self._at(shift.since, 5), partial(self._hire, place, shift))
                if shift.until < date.max:
                    self._plan(self._at(shift.until, 22, 30), partial(self._part, shift))
        self._plan(self._at(shape.NEW_VERSION, 5), self._revise_card)

    def _decide_for_people(self) -> None:
        """What will befall some of them."""
        for person in self.people:
            if person.loses_phone is not None:
                at = self._at(person.loses_phone, 12, 30)
                self._plan(at, partial(self._replace_card, person))
            if person.twin_of is not None:
                at = self._at(person.comes + timedelta(days=8), 14)
                self._plan(at, partial(self._merge, person))

    def _plan(self, at: datetime, act: Act) -> None:
        self.later.setdefault(at.date(), []).append(Planned(at, act))

    async def _print_codes(self, tx: Transaction, now: datetime) -> None:
        told = CreateClaimCodesInput(
            template_id=Id(self.cafe.templates[KOPI]),
            count=min(100, max(2, shape.CODES_A_WEEK * len(self.people) // shape.CUSTOMERS)),
            stamps=1,
            external_ref="delivery",
            expires_at=now + timedelta(days=shape.CODES_LAST_DAYS),
        )
        for _ in shape.PLACES:
            await create_claim_codes(tx, self.cafe.by(self.cafe.manager), told, now)

    async def _make_campaign(self, mailing: Mailing, tx: Transaction, now: datetime) -> None:
        segment = mailing.segment
        if mailing.silent_days is not None:
            silent = now - timedelta(days=mailing.silent_days)
            segment = replace(segment, last_activity_before=silent)
        gift = self.cafe.gifts[mailing.gift.key] if mailing.gift else None
        told = CreateCampaignInput(
            name=mailing.name,
            template_id=Id(self.cafe.templates[KOPI]),
            notification_text=mailing.short,
            message_text=mailing.text,
            channels=list(mailing.channels),
            segment=segment,
            voucher_template_id=Id(gift) if gift else None,
            scheduled_at=self._at(mailing.day, mailing.hour),
        )
        actor = self.cafe.by(self.cafe.manager)
        await create_campaign(tx, actor, told, now, connected=_CONNECTED)

    async def _cancel_campaign(self, mailing: Mailing, tx: Transaction, now: datetime) -> None:
        campaign = await tx.one(_CAMPAIGN_NAMED, name=mailing.name)
        told = CancelCampaignInput(id=Id(campaign.id))
        await cancel_campaign(tx, self.cafe.by(self.cafe.manager), told, now)

    async def _hire(self, place: Place, shift: Shift, tx: Transaction, now: datetime) -> None:
        await hire(tx, self.cafe, place, shift, now, self.cafe.staff_digest)

    async def _part(self, shift: Shift, tx: Transaction, now: datetime) -> None:
        told = DisableStaffInput(id=Id(self.cafe.staff[shift.login].id))
        await disable_staff(tx, self.cafe.by(self.cafe.owner), told, now)

    async def _revise_card(self, tx: Transaction, now: datetime) -> None:
        id, actor = self.cafe.templates[KOPI], self.cafe.by(self.cafe.manager)
        goals = kopi_goals(self.cafe, shape.SECOND_AWARD)
        await update_card_template(tx, actor, {"id": id, "goals": goals}, now)
        await publish_card_template(tx, actor, PublishCardTemplateInput(id=Id(id)), now)

    async def _merge(self, twin: Person, tx: Transaction, now: datetime) -> None:
        original = twin.twin_of
        if original is None or not (original.customer_id and twin.customer_id):
            return
        told = MergeCustomersInput(keep_id=Id(original.customer_id), merge_id=Id(twin.customer_id))
        actor = self.cafe.by(self.cafe.manager)
        await merge_customers(tx, actor, told, now, luck=self.luck)
        twin.is_merged = True

    async def _replace_card(self, person: Person, tx: Transaction, now: datetime) -> None:
        card = self._card(person)
        if card is not None:
            staff = self._on_duty(person.place, now)
            await replace_card(tx, self.cafe.by(staff), ReplaceCardInput(card=card), now)

    # -- What campaigns say -----------------------------------------------------------------------

    async def _send(self) -> None:
        """Hand over all that campaigns have to say: to channels that exist in this story only."""

        async def work(tx: Transaction) -> list[Campaign]:
            campaigns = await tx.many(_SENDING)
            business = await tx.get(Business, tx.business)
            if business is None or not campaigns:
                return []
            actor, clock_now = Actor(business), self.clock.now()
            now = business.time(clock_now)
            for campaign in campaigns:
                # What is written is taken in the same unit: nobody else ever sees it waiting.
                await write_next(tx, actor, campaign.id, now, clock_now)
                letters = await outbox.claim_of(tx, campaign.id, clock_now)
                answers = [(letter, _answer(letter)) for letter in letters]
                await outbox.record_answers(tx, actor, answers, now, clock_now)
            return campaigns

        sent: dict[str, Campaign] = {}
        while campaigns := await self.database.write(self.cafe.business.id, work):
            sent |= {campaign.id: campaign for campaign in campaigns}
        for campaign in sent.values():
            await self._bring_back(campaign)

    async def _bring_back(self, campaign: Campaign) -> None:
        """Some of those who had stopped coming use what a win-back campaign gave them."""
        if campaign.name not in _WIN_BACKS:
            return
        day = campaign.scheduled_at.astimezone(self.cafe.business.zone).date()
        known = {person.customer_id: person for person in self.people if not person.is_merged}
        gifted = await self.database.read(
            self.cafe.business.id, lambda tx: tx.many(_GIFTED, campaign_id=campaign.id)
        )
        for customer_id in gifted:
            person = known.get(customer_id)
            if person is not None and self.random.random() < shape.RETURNS:
                person.comes = day + timedelta(days=1 + self.random.randrange(13))
                person.goes = person.comes + timedelta(days=self.random.randrange(120))

    # -- What happens at the counters -------------------------------------------------------------

    def _visits(self, day: date) -> list[Planned]:
        if day in shape.CLOSED:
            return []
        return [
            planned
            for person in self.people
            if comes_on(self.random, person, day)
            for planned in self._visit(person, day)
        ]

    def _visit(self, person: Person, day: date) -> list[Planned]:
        """Everything that one visit brings about, and when."""
        random = self.random
        place = person.place
        if random.random() < shape.ELSEWHERE:
            place = random.choice(shape.PLACES)
        second = random.randrange(3600)
        at = self._at(day, hour_at(random, place, day)) + timedelta(seconds=second)
        route = picked(random, shape.ROUTES)
        staff = partial(self._on_duty, place, kiosk=route is StampChannel.SELF_SERVICE_KIOSK)
        count = picked(random, shape.STAMPS)
        order = random.randrange(10_000, 99_999)
        errs = random.random() < shape.MISTAKE
        redeems = random.random()
        acts: list[tuple[int, Act]] = [
            (-5, partial(self._join, person, staff)),
            (-3, partial(self._redeem, person, staff, redeems)),
            (0, partial(self._stamp, person, staff, route, count, f"R-{order}")),
        ]
        if errs:
            acts.append((random.randrange(60, 300), partial(self._undo, person, staff)))
        elif random.random() < shape.PLAYS_AT_ONCE:
            acts.append((random.randrange(10, 60), partial(self._play, person, staff)))
        if person.saves is not None and day == person.comes:
            acts.append((random.randrange(30, 200), partial(self._save, person)))
        if random.random() < shape.OPENS_CARD:
            acts.append((-random.randrange(10, 600), partial(self._open, person)))
        if random.random() < shape.REGRET:
            acts.append((random.randrange(120, 420), partial(self._reverse, person)))
        if random.random() < person.kind.buys_beans:
            price = random.choice(shape.BEAN_PRICES)
            acts.append((2, partial(self._stamp_beans, person, staff, price, f"R-{order}")))
        if random.random() < shape.APOLOGY:
            acts.append((400, partial(self._apologise, person, staff)))
        if random.random() < shape.CLAIMS_RECEIPT:
            acts.append((random.randrange(3600, 9000), partial(self._claim, person, place)))
        latest = self._at(day, 22, 50)
        return [Planned(min(at + timedelta(seconds=later), latest), act) for later, act in acts]

    def _on_duty(self, place: Place, now: datetime, *, kiosk: bool = False) -> Staff:
        """Whose shift it is; or the kiosk."""
        local = now.astimezone(self.cafe.business.zone)
        for shift in place.staff:
            is_kiosk = shift.name.endswith("kiosk")
            is_there = shift.begins <= local.hour < shift.ends
            if is_kiosk == kiosk and is_there and shift.since <= local.date() <= shift.until:
                return self.cafe.staff[shift.login]
        return self.cafe.manager

    def _card(self, person: Person, key: str = KOPI) -> CardRef | None:
        """The card of somebody; whoever was merged holds the other one's."""
        id = person.cards.get(key)
        return None if id is None else CardRef(id=Id(id))

    async def _join(self, person: Person, staff: "OnDuty", tx: Transaction, now: datetime) -> None:
        if KOPI in person.cards:
            return
        actor = self.cafe.by(staff(now))
        told = IssueCardInput(template_id=Id(self.cafe.templates[KOPI]), customer=person.told)
        via = StampChannel.SCANNER_MANUAL
        made = await issue_card(tx, actor, told, now, via=via, luck=self.luck)
        if made.card is None:
            raise AssertionError
        person.customer_id, person.cards[KOPI] = made.card.customer_id, made.card.id
        for name, granted in person.allows.items():
            said = SetConsentInput(
                customer_id=Id(made.card.customer_id), channel=Channel[name], granted=granted
            )
            await set_consent(tx, actor, said, now)

    async def _stamp(
        self,
        person: Person,
        staff: "OnDuty",
        route: StampChannel,
        count: int,
        receipt: str,
        tx: Transaction,
        now: datetime,
    ) -> None:
        card = self._card(person)
        if card is not None:
            label = receipt if route is StampChannel.POS else None
            told = AddStampsInput(card=card, count=count, channel=route, external_ref=label)
            await add_stamps(tx, self.cafe.by(staff(now)), told, now, luck=self.luck)

    async def _stamp_beans(
        self,
        person: Person,
        staff: "OnDuty",
        price: int,
        receipt: str,
        tx: Transaction,
        now: datetime,
    ) -> None:
        """The till knows the customer; the card is issued with the first bag."""
        if person.customer_id is None:
            return
        holder = HolderRef(
            template_id=Id(self.cafe.templates[BEANS]),
            customer=CustomerRef(id=Id(person.customer_id)),
        )
        told = AddStampsInput(
            card=CardRef(holder=holder),
            amount=Decimal(price),
            channel=StampChannel.POS,
            external_ref=receipt,
            issue_if_missing=True,
        )
        done = await add_stamps(tx, self.cafe.by(staff(now)), told, now, luck=self.luck)
        if done.card is not None:
            person.cards[BEANS] = done.card.id

    async def _redeem(
        self, person: Person, staff: "OnDuty", mood: float, tx: Transaction, now: datetime
    ) -> None:
        """Whoever has a voucher may remember it, and surely does on its last days."""
        for key in (KOPI, BEANS):
            card = self._card(person, key)
            voucher = await tx.maybe(_USABLE, card_id=card.id, now=now) if card else None
            if card is None or voucher is None or voucher.expires_at is None:
                continue
            is_ending = voucher.expires_at - now < timedelta(days=shape.LAST_DAYS)
            if mood >= (shape.REDEEMS_LAST_DAYS if is_ending else shape.REDEEMS):
                continue
            ref = VoucherRef(id=Id(voucher.id))
            if voucher.redeem_code is not None:
                code = VoucherCodeRef(redeem_code=voucher.redeem_code, card=card)
                ref = VoucherRef(code=code)
            told = RedeemVoucherInput(voucher=ref, via=RedeemedVia.STAFF_SCANNER)
            await redeem_voucher(tx, self.cafe.by(staff(now)), told, now)
            return

    async def _play(self, person: Person, staff: "OnDuty", tx: Transaction, now: datetime) -> None:
        card = self._card(person)
        if card is None:
            return
        for ticket in await tx.many(_UNPLAYED, card_id=card.id):
            following: LotteryTicket | None = ticket
            while following is not None:
                told = PlayLotteryInput(ticket_id=Id(following.id))
                actor = self.cafe.by(staff(now))
                played = await play_lottery(tx, actor, told, now, luck=self.luck)
                following = played.next_ticket

    async def _undo(self, person: Person, staff: "OnDuty", tx: Transaction, now: datetime) -> None:
        """The stamps of this visit were meant for somebody else."""
        card, who = self._card(person), staff(now)
        line = None
        if card is not None:
            since = now - _FOR_A_WHILE
            line = await tx.maybe(_JUST_STAMPED, card_id=card.id, staff_id=who.id, since=since)
        if line is not None:
            told = VoidOperationInput(id=Id(line.id), reason="Wrong card")
            await void_operation(tx, self.cafe.by(who), told, now)

    async def _reverse(self, person: Person, tx: Transaction, now: datetime) -> None:
        """The voucher of this visit could not be honoured."""
        card = self._card(person)
        if card is None:
            return
        since = now - _FOR_A_WHILE
        voucher = await tx.maybe(_JUST_REDEEMED, card_id=card.id, since=since)
        if voucher is not None:
            told = ReverseRedemptionInput(
                voucher=VoucherRef(id=Id(voucher.id)), reason="The machine broke"
            )
            await reverse_redemption(tx, self.cafe.by(self.cafe.manager), told, now)

    async def _save(self, person: Person, tx: Transaction, now: datetime) -> None:
        card = self._card(person)
        if card is not None and person.saves is not None:
            told = ReportCardSavedInput(card=card, platform=Platform[person.saves])
            await report_card_saved(tx, Actor(self.cafe.business), told, now)

    async def _open(self, person: Person, tx: Transaction, now: datetime) -> None:
        card = self._card(person)
        if card is not None:
            platform = Platform[person.saves] if person.saves else Platform.WEB
            told = ReportCardOpenedInput(card=card, platform=platform)
            await report_card_opened(tx, Actor(self.cafe.business), told, now)

    async def _apologise(
        self, person: Person, staff: "OnDuty", tx: Transaction, now: datetime
    ) -> None:
        card = self._card(person)
        if card is not None:
            gift = CustomVoucherInput(
                title="A coffee, with our apologies",
                validity=ValidityInput(days=shape.APOLOGY_DAYS),
            )
            told = IssueVoucherInput(custom=gift, card=card)
            await issue_voucher(tx, self.cafe.by(staff(now)), told, now)

    async def _claim(self, person: Person, place: Place, tx: Transaction, now: datetime) -> None:
        """A code from a delivery bag, if there is one left."""
        card = self._card(person)
        code = await tx.maybe(_UNCLAIMED, now=now) if card else None
        if card is not None and code is not None:
            told = ClaimStampsInput(code=code.code, card=card)
            actor = self.cafe.by(self._on_duty(place, now, kiosk=True))
            await claim_stamps(tx, actor, told, now, luck=self.luck)


OnDuty = Callable[[datetime], Staff]
"""Who serves, by the moment."""
_WIN_BACKS = {mailing.name for mailing in shape.MAILINGS if mailing.silent_days is not None}


def _apart(planned: list[Planned]) -> list[Planned]:
    """The same in the same order, no two of them at one moment."""
    apart: list[Planned] = []
    for item in planned:
        at = item.at
        if apart and at <= apart[-1].at:
            at = apart[-1].at + timedelta(seconds=1)
        apart.append(Planned(at, item.act))
    return apart


def _answer(letter: Message) -> Answer:
    """What the channel says: most addresses take what is sent to them."""
    address = letter.address or ""
    if letter.channel is Channel.EMAIL and crc32(address.encode()) % shape.BOUNCES == 0:
        return Rejected("address unknown")
    return Accepted()
