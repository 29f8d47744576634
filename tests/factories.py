"""One function per noun, with defaults that work; everything is made by the real services."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

from core.ids import Id
from core.secrets import Secrets, password_digest
from db import Database, Transaction
from integrations.tills import PointOfSaleKind
from models import (
    Actor,
    Business,
    Campaign,
    Card,
    CardTemplate,
    Channel,
    ClaimCode,
    Customer,
    Location,
    PointOfSale,
    Role,
    Staff,
    Voucher,
    VoucherTemplate,
)
from services.api_keys import GenerateApiKeyInput, generate_api_key
from services.businesses import CreateBusinessInput, OwnerInput, create_business, the_system
from services.campaigns import CreateCampaignInput, create_campaign
from services.card_refs import CardRef
from services.card_templates import (
    AwardInput,
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
from services.cards import AddStampsInput, IssueCardInput, StampsAdded, add_stamps, issue_card
from services.claim_codes import CreateClaimCodesInput, create_claim_codes
from services.customers import CreateCustomerInput, CustomerInput, create_customer
from services.locations import CreateLocationInput, create_location
from services.points_of_sale import (
    ConnectPointOfSaleInput,
    SettingsDocument,
    connect_point_of_sale,
)
from services.staff import CreateStaffInput, create_staff
from services.voucher_templates import CreateVoucherTemplateInput, create_voucher_template
from services.vouchers import IssueVoucherInput, issue_voucher

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""Where the fixture `clock` starts."""
PASSWORD = "correct horse battery"
"""Everybody's password."""
_number = count(1)
_SECRETS = Secrets(b"the secret key of tests, which need none of their own")


@dataclass(frozen=True)
class Cafe:
    """A business, its owner as an actor, and the owner's API key."""

    business: Business
    owner: Actor
    api_key: str
    login: str


async def a_business(
    database: Database, secrets: Secrets = _SECRETS, now: datetime = NOW, **values: Any
) -> Cafe:
    """A café in Jakarta with its owner. Give `secrets` where the API key is to open a door."""
    login = f"owner{next(_number)}@cafe.example"
    defaults = {"name": "Kopi Kenangan", "timezone": "Asia/Jakarta", "currency": "IDR"}
    told = CreateBusinessInput(
        **{**defaults, **values}, owner=OwnerInput(name="Ayu", login=login, password=PASSWORD)
    )
    made = await database.write(
        None,
        lambda tx: create_business(
            tx, the_system(now), told, now, password_digest=_digest(PASSWORD), secrets=secrets
        ),
    )
    assert made.business
    assert made.owner
    assert made.api_key_secret
    return Cafe(made.business, Actor(made.business, made.owner), made.api_key_secret, login)


async def a_location(
    database: Database, actor: Actor, now: datetime = NOW, **values: Any
) -> Location:
    """Another location."""
    told = CreateLocationInput(**{"name": "Menteng", **values})
    return await _made(database, actor, create_location, told, now, part="location")


async def a_staff(
    database: Database,
    actor: Actor,
    role: Role = Role.SCANNER,
    now: datetime = NOW,
    **values: Any,
) -> Actor:
    """Another staff login, as an actor; its location is the maker's unless told."""
    defaults = {
        "name": "Budi",
        "login": f"staff{next(_number)}@cafe.example",
        "password": PASSWORD,
        "location_id": actor.location_id,
    }
    told = CreateStaffInput(**{**defaults, **values}, role=role)
    staff: Staff = await _made(
        database,
        actor,
        create_staff,
        told,
        now,
        part="staff",
        password_digest=_digest(told.password),
    )
    return Actor(actor.business, staff)


async def an_api_key(
    database: Database, actor: Actor, staff: Staff, secrets: Secrets, now: datetime = NOW
) -> str:
    """The secret of a fresh API key for a staff login that has none."""
    told = GenerateApiKeyInput(staff_id=Id(staff.id))
    secret: str = await _made(
        database, actor, generate_api_key, told, now, part="secret", secrets=secrets
    )
    return secret


async def a_voucher_template(
    database: Database, actor: Actor, now: datetime = NOW, **values: Any
) -> VoucherTemplate:
    """A voucher template for a free coffee, without an end."""
    told = CreateVoucherTemplateInput(**{"title": "A free coffee", **values})
    return await _made(database, actor, create_voucher_template, told, now, part="voucher_template")


async def a_card_template(
    database: Database,
    actor: Actor,
    stamps_required: int = 3,
    goals: list[GoalInput] | None = None,
    now: datetime = NOW,
    **values: Any,
) -> CardTemplate:
    """A published card template, one voucher for a free coffee at its end unless told."""
    defaults = {"name": "Coffee card", "earning_rule": EarningRuleInput(per_order=True)}
    told = CreateCardTemplateInput(
        **{**defaults, **values},
        stamps_required=stamps_required,
        goals=goals or [await a_voucher_goal(database, actor, stamps_required, now)],
    )
    draft: CardTemplate = await _made(
        database, actor, create_card_template, told, now, part="card_template"
    )
    publish = PublishCardTemplateInput(id=Id(draft.id))
    return await _made(database, actor, publish_card_template, publish, now, part="card_template")


async def a_voucher_goal(
    database: Database, actor: Actor, stamps: int = 3, now: datetime = NOW
) -> GoalInput:
    """A goal at so many stamps, where a voucher of a new template waits."""
    template = await a_voucher_template(database, actor, now)
    reward = VoucherRewardInput(voucher_template_id=Id(template.id))
    return GoalInput(stamps=stamps, reward=GoalRewardInput(voucher=reward))


def an_award_goal(stamps: int = 3, title: str = "A cookie") -> GoalInput:
    """A goal at so many stamps, where a gift waits."""
    return GoalInput(stamps=stamps, reward=GoalRewardInput(award=AwardInput(title=title)))


def a_lottery_goal(stamps: int, *variants: LotteryVariantInput) -> GoalInput:
    """A goal at so many stamps, where a ticket for this lottery waits."""
    return GoalInput(
        stamps=stamps, reward=GoalRewardInput(lottery=LotteryInput(variants=list(variants)))
    )


async def a_customer(
    database: Database, actor: Actor, now: datetime = NOW, **values: Any
) -> Customer:
    """A customer with an e-mail address of her own."""
    defaults = {"name": "Siti", "email": f"siti{next(_number)}@mail.example"}
    told = CreateCustomerInput(**{**defaults, **values})
    return await _made(database, actor, create_customer, told, now, part="customer")


async def a_card(
    database: Database,
    actor: Actor,
    template_id: str | None = None,
    now: datetime = NOW,
    **customer: Any,
) -> Card:
    """A card of this template or a new one, for a new customer or the one told."""
    if template_id is None:
        template_id = (await a_card_template(database, actor, now=now)).id
    holder = customer or {"name": "Siti", "email": f"siti{next(_number)}@mail.example"}
    told = IssueCardInput(template_id=Id(template_id), customer=CustomerInput(**holder))
    return await _made(database, actor, issue_card, told, now, part="card")


async def stamps(
    database: Database, actor: Actor, card: Card, count: int = 1, now: datetime = NOW
) -> StampsAdded:
    """Stamps on a card; what adding them did."""
    told = AddStampsInput(card=CardRef(id=Id(card.id)), count=count)
    return await database.write(actor.business_id, lambda tx: add_stamps(tx, actor, told, now))


async def a_campaign(
    database: Database, actor: Actor, template_id: str, now: datetime = NOW, **values: Any
) -> Campaign:
    """A campaign by push to everybody with a card of this template, in half a year unless told."""
    defaults = {
        "notification_text": "2-for-1 today",
        "message_text": "Come and bring a friend.",
        "channels": [Channel.PUSH],
        "scheduled_at": now + timedelta(days=180),
    }
    told = CreateCampaignInput(**{**defaults, **values}, template_id=Id(template_id))
    connected = [Channel.PUSH, Channel.EMAIL]
    return await _made(
        database, actor, create_campaign, told, now, part="campaign", connected=connected
    )


async def a_voucher(
    database: Database,
    actor: Actor,
    template_id: str | None = None,
    card: Card | None = None,
    now: datetime = NOW,
) -> Voucher:
    """A voucher by hand: of this template or a new one, for this card or its bearer."""
    if template_id is None:
        template_id = (await a_voucher_template(database, actor, now)).id
    ref = None if card is None else CardRef(id=Id(card.id))
    told = IssueVoucherInput(template_id=Id(template_id), card=ref)
    return await _made(database, actor, issue_voucher, told, now, part="voucher")


async def a_claim_code(
    database: Database, actor: Actor, template_id: str, now: datetime = NOW, **values: Any
) -> ClaimCode:
    """A claim code worth a stamp of this template unless told."""
    told = CreateClaimCodesInput(**{"stamps": 1, **values}, template_id=Id(template_id))
    [code] = await _made(database, actor, create_claim_codes, told, now, part="claim_codes")
    made: ClaimCode = code
    return made


async def a_till(
    database: Database,
    actor: Actor,
    template_id: str,
    secrets: Secrets = _SECRETS,
    now: datetime = NOW,
    kind: str = "other",
    settings: dict[str, Any] | None = None,
    **values: Any,
) -> PointOfSale:
    """A till that posts signed JSON, unless told; it works where its owner does."""
    told = ConnectPointOfSaleInput(
        **{"name": "A till", "location_id": Id(actor.location_id or ""), **values},
        kind=PointOfSaleKind(kind),
        template_id=Id(template_id),
        settings=SettingsDocument(settings or {}),
    )
    made: PointOfSale = await _made(
        database, actor, connect_point_of_sale, told, now, part="point_of_sale", secrets=secrets
    )
    return made


async def _made(
    database: Database,
    actor: Actor,
    service: Callable[..., Any],
    *told: Any,
    part: str,
    **more: Any,
) -> Any:
    """The part of the outcome that was asked for."""

    async def work(tx: Transaction) -> Any:
        return await service(tx, actor, *told, **more)

    outcome = await database.write(actor.business_id, work)
    made = getattr(outcome, part)
    assert made is not None
    return made


@cache
def _digest(password: str) -> str:
    """A password's digest takes tens of milliseconds on purpose: each is made once."""
    return password_digest(password)
