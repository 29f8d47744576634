"""Partial updates: inputs whose fields may be absent, null, or given. Only GraphQL knows this."""

from typing import Annotated

from annotated_doc import Doc
from strawberry import Maybe

from core.ids import Id
from events.base import event_type_enum
from models import Ordering, Overflow, RedemptionMode, Role, ScannerMode, Vocabulary
from schema.inputs import partial
from schema.scalars import TimeZone
from services.card_templates import (
    BirthdayRuleInput,
    Design,
    EarningRuleInput,
    GoalInput,
    LimitsInput,
)
from services.points_of_sale import SettingsDocument
from services.vouchers import ValidityInput
from services.webhook_endpoints import HeaderInput

EventType = event_type_enum()
Key = Annotated[
    str | None,
    Doc(
        "Makes a repeat harmless: the same key with the same input is answered as the first "
        "call was, for 7 days. 1–128 characters."
    ),
]


@partial
class UpdateBusinessInput:
    """The settings of the business to change."""

    name: Annotated[Maybe[str], Doc("What customers read.")]
    logo_url: Annotated[Maybe[str | None], Doc("The logo's address; null for none.")]
    timezone: Annotated[Maybe[TimeZone], Doc("The timezone in which it has its days.")]
    default_language: Annotated[Maybe[str], Doc("The language of customers who name none.")]
    currency: Annotated[
        Maybe[str], Doc("Its currency (ISO 4217); only before the first operation.")
    ]
    vocabulary: Annotated[Maybe[Vocabulary], Doc("The words of webhook bodies.")]
    event_retention_days: Annotated[
        Maybe[int | None], Doc("How long events are kept, at least 30 days; null for ever.")
    ]
    idempotency_key: Key = None


@partial
class UpdateLocationInput:
    """The fields of a location to change."""

    id: Annotated[Id, Doc("The location's id.")]
    name: Annotated[Maybe[str], Doc("What people call it.")]
    address: Annotated[Maybe[str | None], Doc("Where it is.")]
    latitude: Annotated[Maybe[float | None], Doc("Degrees north.")]
    longitude: Annotated[Maybe[float | None], Doc("Degrees east.")]
    timezone: Annotated[Maybe[TimeZone | None], Doc("Its own timezone; null for the business's.")]
    idempotency_key: Key = None


@partial
class UpdateStaffInput:
    """The fields of a staff login to change."""

    id: Annotated[Id, Doc("The staff login's id.")]
    name: Annotated[Maybe[str], Doc("What people call it.")]
    login: Annotated[Maybe[str], Doc("What it signs in with; unique everywhere.")]
    role: Annotated[Maybe[Role], Doc("What it may do.")]
    location_id: Annotated[Maybe[Id | None], Doc("Where it works; null for nowhere.")]
    mode: Annotated[Maybe[ScannerMode], Doc("How the scanning point works.")]
    idempotency_key: Key = None


@partial
class UpdateCustomerInput:
    """The fields of a customer to change; null empties one."""

    id: Annotated[Id, Doc("The customer's id.")]
    name: Annotated[Maybe[str | None], Doc("The name.")]
    email: Annotated[Maybe[str | None], Doc("The e-mail address.")]
    phone: Annotated[Maybe[str | None], Doc("The phone number, international (E.164).")]
    birthday: Annotated[
        Maybe[str | None], Doc("`1990-02-28`, or `--02-28` where the year is not known.")
    ]
    language: Annotated[Maybe[str | None], Doc("The language tag.")]
    idempotency_key: Key = None


@partial
class UpdateVoucherTemplateInput:
    """The fields of a voucher template to change; vouchers issued before stay as they are."""

    id: Annotated[Id, Doc("The voucher template's id.")]
    title: Annotated[Maybe[str], Doc("What the customer reads.")]
    description: Annotated[Maybe[str | None], Doc("More about it.")]
    image_url: Annotated[Maybe[str | None], Doc("A picture's address.")]
    redeem_code: Annotated[Maybe[str | None], Doc("The code its vouchers share; null for none.")]
    generates_code: Annotated[Maybe[bool], Doc("Whether each voucher gets a code of its own.")]
    validity: Annotated[Maybe[ValidityInput | None], Doc("How long they last; null for ever.")]
    redemption_mode: Annotated[Maybe[RedemptionMode], Doc("How they are redeemed.")]
    idempotency_key: Key = None


@partial
class UpdateCardTemplateInput:
    """The fields of a card template to change; rules wait as a draft until they are published."""

    id: Annotated[Id, Doc("The card template's id.")]
    name: Annotated[Maybe[str], Doc("What customers read.")]
    stamps_required: Annotated[Maybe[int], Doc("Stamps of a full card, 1–50.")]
    earning_rule: Annotated[Maybe[EarningRuleInput], Doc("What earns a stamp.")]
    overflow: Annotated[Maybe[Overflow], Doc("What becomes of stamps beyond a full card.")]
    goals: Annotated[Maybe[list[GoalInput]], Doc("All goals, 1–10; the last at a full card.")]
    birthday: Annotated[Maybe[BirthdayRuleInput | None], Doc("The birthday rule; null for none.")]
    inactivity_days: Annotated[
        Maybe[int | None], Doc("Days without activity that count as quiet; null for off.")
    ]
    limits: Annotated[Maybe[LimitsInput | None], Doc("How fast a card may fill; null for none.")]
    auto_play: Annotated[Maybe[bool], Doc("Play lottery tickets as soon as they are won.")]
    design: Annotated[Maybe[Design | None], Doc("The look: a document of the designer's own.")]
    idempotency_key: Key = None


@partial
class UpdatePointOfSaleInput:
    """The fields of a point of sale to change."""

    id: Annotated[Id, Doc("The point of sale's id.")]
    name: Annotated[Maybe[str], Doc("What people call it, at most 200 characters.")]
    location_id: Annotated[Maybe[Id], Doc("Where its sales happen.")]
    template_id: Annotated[
        Maybe[Id], Doc("The published card template whose cards it stamps from now on.")
    ]
    settings: Annotated[
        Maybe[SettingsDocument],
        Doc("Only the settings that change; null takes one away, those left out stay as they are."),
    ]
    idempotency_key: Key = None


@partial
class UpdateWebhookEndpointInput:
    """The fields of a webhook endpoint to change."""

    id: Annotated[Id, Doc("The endpoint's id.")]
    url: Annotated[Maybe[str], Doc("Where requests go: https, a public address.")]
    name: Annotated[Maybe[str | None], Doc("What people call it.")]
    types: Annotated[
        Maybe[list[EventType] | None],  # type: ignore[valid-type]
        Doc("The event types it is due; null for the thirteen."),
    ]
    vocabulary: Annotated[Maybe[Vocabulary], Doc("The words of the bodies.")]
    ordering: Annotated[Maybe[Ordering], Doc("In which order it is served.")]
    headers: Annotated[
        Maybe[list[HeaderInput] | None],
        Doc(
            "Headers of your own on every request; null for none. Those there are do not follow to "
            "another host: give them anew with its URL."
        ),
    ]
    document: Annotated[
        Maybe[str | None],
        Doc("A GraphQL subscription of `events` that shapes the body; null for the standard body."),
    ]
    max_in_flight: Annotated[
        Maybe[int | None], Doc("How many requests may be under way at once, 1 to 16; null: 4.")
    ]
    max_per_second: Annotated[
        Maybe[float | None],
        Doc("How many requests may begin in a second, 0.1 to 1000; null: as fast as it answers."),
    ]
    idempotency_key: Key = None
