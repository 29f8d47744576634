"""The café of the year: opened with its places, staff, cards and gifts; and thrown away."""

import secrets as random
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import delete
from sqlmodel import SQLModel

from core.errors import NotFound
from core.ids import Id
from core.secrets import Secrets
from db import BUSINESS, Command, Database, Transaction, command
from models import Actor, Business, Mode, Role, Staff
from services.api_keys import GenerateApiKeyInput, generate_api_key
from services.businesses import CreateBusinessInput, OwnerInput, create_business, the_system
from services.card_templates import (
    AmountRuleInput,
    AwardInput,
    BirthdayRuleInput,
    CreateCardTemplateInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    LotteryInput,
    LotteryVariantInput,
    PublishCardTemplateInput,
    VoucherRewardInput,
    create_card_template,
    publish_card_template,
)
from services.demo import Login, Named, Starter
from services.locations import CreateLocationInput, create_location, update_location
from services.operator import staff_of_login
from services.passwords import digest_password
from services.staff import CreateStaffInput, create_staff
from services.voucher_templates import CreateVoucherTemplateInput, create_voucher_template
from services.vouchers import ValidityInput
from services.year import shape
from services.year.shape import Place, Shift

T = TypeVar("T")
KOPI, BEANS = "kopi", "beans"
"""The keys of the two card templates: one counts orders, the other amounts."""


@dataclass(kw_only=True)
class Cafe:
    """The café as the story knows it."""

    business: Business
    """As it was when its clock was last moved."""
    owner: Staff
    manager: Staff
    staff_digest: str
    locations: dict[str, str] = field(default_factory=dict)
    """The ids of the locations, by name."""
    staff: dict[str, Staff] = field(default_factory=dict)
    """Who works at a counter, by login."""
    gifts: dict[str, str] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    """The ids of voucher and card templates, by key."""
    starter: Starter

    def by(self, staff: Staff) -> Actor:
        """A staff login as the actor of a call."""
        return Actor(self.business, staff)


async def former_cafe(tx: Transaction) -> Business | None:
    """The café of an earlier call, finished or not. Runs in the name of the system."""
    try:
        _, actor = await staff_of_login(tx, shape.LOGIN)
    except NotFound:
        return None
    return actor.business


async def throw_away(tx: Transaction) -> None:
    """Delete this business and all it has: what is left of a story that was cut off."""
    for statement in _THROW_AWAY:
        await tx.run(statement)


async def open_cafe(
    database: Database, secrets: Secrets, begin: datetime, real_now: datetime
) -> Cafe:
    """Make the café, its clock at the beginning of its year."""
    owner = OwnerInput(name="Ibu Tiga", login=shape.LOGIN, password=random.token_urlsafe(12))
    scanner = random.token_urlsafe(12)
    owner_digest = await digest_password(owner.password)
    scanner_digest = await digest_password(scanner)
    # Nobody signs in as the others, unless the owner gives them passwords.
    staff_digest = await digest_password(random.token_urlsafe(32))
    asked = CreateBusinessInput(
        name=shape.IN_THE_MAKING,
        timezone=shape.TIMEZONE,
        currency=shape.CURRENCY,
        default_language=shape.LANGUAGE,
        mode=Mode.TEST,
        owner=owner,
    )

    async def work(tx: Transaction) -> Cafe:
        made = await create_business(
            tx, the_system(begin), asked, begin, password_digest=owner_digest, secrets=secrets
        )
        if made.business is None or made.owner is None:
            raise AssertionError
        offset = int((begin - real_now).total_seconds())
        business = await tx.change(made.business, clock_offset=offset)
        login = Login(owner.login, owner.password, str(made.api_key_secret))
        cafe = Cafe(
            business=business,
            owner=made.owner,
            manager=made.owner,
            staff_digest=staff_digest,
            starter=Starter(Named(business.id), login, login, Named(""), Named("")),
        )
        await _places(tx, cafe, begin)
        first = shape.PLACES[0].staff[0]
        for place in shape.PLACES:
            for shift in place.staff:
                if shift.since <= shape.FIRST_DAY:
                    digest = scanner_digest if shift is first else staff_digest
                    await hire(tx, cafe, place, shift, begin, digest)
        await _office(tx, cafe, begin)
        for gift in shape.GIFTS:
            cafe.gifts[gift.key] = await _gift(tx, cafe, gift, begin)
        for key, template in ((KOPI, _kopi(cafe)), (BEANS, _beans(cafe))):
            cafe.templates[key] = await _publish(tx, cafe, template, begin)
        shown = await generate_api_key(
            tx,
            cafe.by(cafe.owner),
            GenerateApiKeyInput(staff_id=Id(cafe.staff[first.login].id)),
            begin,
            secrets=secrets,
        )
        cafe.starter = replace(
            cafe.starter,
            scanner=Login(first.login, scanner, str(shown.secret)),
            cardTemplate=Named(cafe.templates[KOPI]),
            voucherTemplate=Named(cafe.gifts[shape.COFFEE.key]),
        )
        return cafe

    return await database.write(None, work)


async def hire(
    tx: Transaction, cafe: Cafe, place: Place, shift: Shift, now: datetime, digest: str
) -> None:
    """Somebody begins to work at a place."""
    told = CreateStaffInput(
        name=shift.name,
        login=shift.login,
        password=random.token_urlsafe(12),  # it is the digest that counts
        role=Role.SCANNER,
        location_id=Id(cafe.locations[place.name]),
        mode=shift.mode,
    )
    made = await create_staff(tx, cafe.by(cafe.owner), told, now, password_digest=digest)
    cafe.staff[shift.login] = _made(made.staff)


def kopi_goals(cafe: Cafe, award: str) -> list[GoalInput]:
    """The goals of the coffee card."""
    lottery = LotteryInput(
        title="Wheel of fortune",
        variants=[
            LotteryVariantInput(
                type=item.type,
                probability=item.chance,
                name=item.name,
                greeting=item.greeting,
                stock=item.stock,
                voucher_template_id=Id(cafe.gifts[item.gift.key]) if item.gift else None,
            )
            for item in shape.LOTTERY
        ],
    )
    return [
        GoalInput(stamps=shape.COOKIE_AT, reward=GoalRewardInput(award=AwardInput(title=award))),
        GoalInput(stamps=shape.LOTTERY_AT, reward=GoalRewardInput(lottery=lottery)),
        _voucher_goal(cafe, shape.KOPI_STAMPS, shape.COFFEE),
    ]


async def _places(tx: Transaction, cafe: Cafe, now: datetime) -> None:
    """The business was born with a location: it becomes the first of the three."""
    born = cafe.owner.location_id
    for place in shape.PLACES:
        told: dict[str, Any] = {
            "name": place.name,
            "address": place.address,
            "latitude": place.latitude,
            "longitude": place.longitude,
        }
        actor, location = cafe.by(cafe.owner), None
        if not cafe.locations:
            location = (await update_location(tx, actor, {"id": born, **told}, now)).location
        else:
            location = (await create_location(tx, actor, CreateLocationInput(**told), now)).location
        cafe.locations[place.name] = _made(location).id


async def _office(tx: Transaction, cafe: Cafe, now: datetime) -> None:
    for name, login, role in shape.OFFICE:
        told = CreateStaffInput(
            name=name,
            login=login,
            password=random.token_urlsafe(12),
            role=role,
            location_id=Id(cafe.owner.location_id or ""),
        )
        made = await create_staff(
            tx, cafe.by(cafe.owner), told, now, password_digest=cafe.staff_digest
        )
        cafe.manager = _made(made.staff)


async def _gift(tx: Transaction, cafe: Cafe, gift: shape.Gift, now: datetime) -> str:
    told = CreateVoucherTemplateInput(
        title=gift.title, redeem_code=gift.code, validity=ValidityInput(days=gift.days)
    )
    made = await create_voucher_template(tx, cafe.by(cafe.manager), told, now)
    return _made(made.voucher_template).id


def _kopi(cafe: Cafe) -> CreateCardTemplateInput:
    return CreateCardTemplateInput(
        name="Kopi card",
        stamps_required=shape.KOPI_STAMPS,
        earning_rule=EarningRuleInput(per_order=True),
        goals=kopi_goals(cafe, shape.FIRST_AWARD),
        birthday=BirthdayRuleInput(
            days_before=shape.BIRTHDAY_DAYS_BEFORE,
            voucher_template_id=Id(cafe.gifts[shape.CAKE.key]),
        ),
        inactivity_days=shape.KOPI_QUIET_DAYS,
    )


def _beans(cafe: Cafe) -> CreateCardTemplateInput:
    return CreateCardTemplateInput(
        name="Bean card",
        stamps_required=shape.BEANS_STAMPS,
        earning_rule=EarningRuleInput(
            by_amount=AmountRuleInput(amount_per_stamp=Decimal(shape.BEANS_PER_STAMP))
        ),
        goals=[_voucher_goal(cafe, shape.BEANS_STAMPS, shape.BEANS)],
        inactivity_days=shape.BEANS_QUIET_DAYS,
    )


def _voucher_goal(cafe: Cafe, stamps: int, gift: shape.Gift) -> GoalInput:
    reward = VoucherRewardInput(voucher_template_id=Id(cafe.gifts[gift.key]))
    return GoalInput(stamps=stamps, reward=GoalRewardInput(voucher=reward))


async def _publish(
    tx: Transaction, cafe: Cafe, template: CreateCardTemplateInput, now: datetime
) -> str:
    actor = cafe.by(cafe.manager)
    draft = _made((await create_card_template(tx, actor, template, now)).card_template)
    await publish_card_template(tx, actor, PublishCardTemplateInput(id=Id(draft.id)), now)
    return draft.id


def _made(row: T | None) -> T:
    if row is None:
        raise AssertionError
    return row


def _throwing_away() -> list[Command]:
    """Every table, those first that refer to others."""
    tables: list[Any] = list(reversed(SQLModel.metadata.sorted_tables))
    statements = [
        command(delete(table).where(table.c.business_id == BUSINESS))
        for table in tables
        if "business_id" in table.c
    ]
    table: Any = Business.__table__  # type: ignore[attr-defined]
    return [*statements, command(delete(table).where(table.c.id == BUSINESS))]


_THROW_AWAY = _throwing_away()
