"""Query: everything that can be read."""

from datetime import date
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

import models
import resolvers.campaigns
import resolvers.cards
import resolvers.channels
import resolvers.charges
import resolvers.customers
import resolvers.imports
import resolvers.nodes
import resolvers.points_of_sale
import resolvers.privacy
import resolvers.replays
import resolvers.staff
import resolvers.templates
import resolvers.vouchers
from core.ids import Id
from events import event_types
from events.log import sample_body
from events.vocabulary import payload
from models import Vocabulary
from schema.base import Info, Node, connection, listed, plain, resolved
from schema.businesses import Location
from schema.campaigns import Campaign, CampaignDryRun
from schema.cards import Card, CardTemplate, Change, ExpectedEvent, ExpectedReward
from schema.channels import Channel
from schema.claim_codes import ClaimCode
from schema.customers import Customer
from schema.deliveries import deliveries
from schema.errors import user_errors
from schema.events import Event, EventSample, EventType, VocabularyArgument
from schema.imports import ImportJob
from schema.inputs import register, register_enum
from schema.notices import Notice
from schema.overview import Overview, resolve_overview
from schema.points_of_sale import PointOfSale, Sale
from schema.rate_limit import RateLimit
from schema.replays import WebhookReplay
from schema.staff import ApiKey, Staff, StaffVelocity, Viewer
from schema.vouchers import Voucher, VoucherTemplate
from schema.watching import RefusedCall
from schema.webhook_dry_run import webhook_dry_run
from schema.webhook_endpoints import WebhookEndpoint
from services import listings, pages
from services.access_tokens import filter_within
from services.campaigns import CreateCampaignInput
from services.card_refs import CardRef
from services.cards import PreviewStampsInput
from services.overview import Period
from services.sale_refs import SaleRef
from services.template_documents import Document
from services.vouchers import VoucherRef

for _input in (
    CardRef,
    SaleRef,
    VoucherRef,
    PreviewStampsInput,
    CreateCampaignInput,
    listings.StaffFilter,
    listings.CustomerFilter,
    listings.CardFilter,
    listings.VoucherFilter,
    listings.TemplateFilter,
    listings.EventFilter,
):
    register(_input)
register_enum(listings.EventOrder)


@strawberry.type(description="What adding stamps would do; nothing was written.")
class StampsPreview:
    """From the same code that would do it."""

    after: int | None = strawberry.field(description="Stamps on the card after it.")
    cycle_after: int | None = strawberry.field(description="The card's cycle after it.")
    expected_rewards: list[ExpectedReward] = strawberry.field(
        description="The rewards that would be handed out."
    )
    expected_events: list[ExpectedEvent] = strawberry.field(
        description="The events that would fire, in their order."
    )
    user_errors = user_errors("Why it would be refused; empty if it would not.")


@strawberry.type(description="Whether a voucher could be redeemed now; nothing was written.")
class RedeemCheck:
    """From the same rules that would decide it."""

    voucher: Voucher | None = strawberry.field(description="The voucher.")
    user_errors = user_errors("Why it would be refused; empty if it would not.")


def _argument(kind: Any, description: str) -> Any:
    return Annotated[kind, strawberry.argument(description=description)]


def _by_id(row: type[models.Row], kind: Any, description: str) -> Any:
    async def resolve(root: Any, info: Info, id: str) -> Any:  # noqa: ARG001
        return await info.context.read(lambda tx: tx.get(row, id))

    return resolved(resolve, kind | None, description, id=_argument(Id, "The global id."))


def _viewer(root: Any, info: Info) -> Viewer:  # noqa: ARG001
    actor = info.context.actor
    return Viewer(actor=actor.staff, business=actor.business, api_key=actor.api_key)  # type: ignore[arg-type]


async def _events(
    root: Any,  # noqa: ARG001
    info: Info,
    filter: Any = strawberry.UNSET,
    first: Any = strawberry.UNSET,
    after: Any = strawberry.UNSET,
    last: Any = strawberry.UNSET,
    before: Any = strawberry.UNSET,
    order: Any = listings.EventOrder.NEWEST_FIRST,
) -> Any:
    newest = order is listings.EventOrder.NEWEST_FIRST
    args = pages.PageArgs(*(plain(item) for item in (first, after, last, before)))
    conditions = filter_within(info.context.actor, plain(filter)).conditions()
    return await info.context.read_within(
        lambda tx: listings.log_page(tx, args, newest_first=newest, **conditions)
    )


def _sample(
    root: Any,  # noqa: ARG001
    info: Info,
    type: Any,
    vocabulary: Vocabulary = Vocabulary.EN,
) -> EventSample:
    context = info.context
    body = sample_body(event_types()[type.value], context.actor.business_id, context.now)
    text = payload(body, vocabulary)
    return EventSample.of(text)


async def _can_redeem(root: Any, info: Info, voucher: Any) -> Any:  # noqa: ARG001
    return await resolvers.vouchers.can_redeem(info.context, voucher)


_can_redeem.is_once = True  # type: ignore[attr-defined] # codes that are guessed at are counted


@strawberry.type(description="Everything that can be read. What is missing or foreign is null.")
class Query:
    """The roots."""

    viewer = resolved(_viewer, Viewer, "Who is calling.")
    node = resolved(
        lambda root, info, id: resolvers.nodes.node(info.context, id),  # noqa: ARG005
        Node | None,
        "Whatever a global id names.",
        id=_argument(Id, "The global id; garbage gives null."),
    )
    rate_limit = resolved(
        lambda root, info: resolvers.charges.rate_limit(info.context),  # noqa: ARG005
        RateLimit,
        "What the caller may spend, and what this operation costs.",
    )
    locations = listed(listings.LOCATIONS, Location, "Location", "The locations, oldest first.")
    staff = listed(
        listings.STAFF,
        Staff,
        "Staff",
        "The staff logins, oldest first.",
        filter=listings.StaffFilter,
    )
    staff_velocity = resolved(
        lambda root, info, minutes=60: resolvers.staff.staff_velocity(  # noqa: ARG005
            info.context, minutes
        ),
        list[StaffVelocity],
        "How fast each staff login gave stamps of late, the most stamps first. "
        "Roles: OWNER, MANAGER.",
        minutes=_argument(int, "How far to look back, 1–1440 minutes."),
    )
    api_keys = listed(listings.API_KEYS, ApiKey, "ApiKey", "The API keys, oldest first.")
    card_templates = listed(
        listings.CARD_TEMPLATES,
        CardTemplate,
        "CardTemplate",
        "The card templates, oldest first.",
        filter=listings.TemplateFilter,
    )
    card_template_changes = resolved(
        lambda root, info, id: resolvers.templates.card_template_changes(  # noqa: ARG005
            info.context, id
        ),
        list[Change] | None,
        "What publishing a card template now would change, field by field. Roles: OWNER, MANAGER.",
        id=_argument(Id, "The global id."),
    )
    export_card_template = resolved(
        lambda root, info, id: resolvers.templates.export_card_template(  # noqa: ARG005
            info.context, id
        ),
        Document | None,
        "A card template as a document for `importCardTemplate`, here or elsewhere: what is "
        "published, or the draft before the first time. Roles: OWNER, MANAGER.",
        id=_argument(Id, "The global id."),
    )
    voucher_templates = listed(
        listings.VOUCHER_TEMPLATES,
        VoucherTemplate,
        "VoucherTemplate",
        "The voucher templates, oldest first.",
    )
    customers = listed(
        listings.CUSTOMERS,
        Customer,
        "Customer",
        "The customers, newest first.",
        filter=listings.CustomerFilter,
    )
    customer = resolved(
        lambda root, info, id: resolvers.customers.customer(info.context, id),  # noqa: ARG005
        Customer | None,
        "A customer; the id of one that was merged leads to the one that was kept.",
        id=_argument(Id, "The global id."),
    )
    export_customer = resolved(
        lambda root, info, id: resolvers.privacy.export_customer(info.context, id),  # noqa: ARG005
        JSON | None,
        "Everything that is held about a customer, table by table. Roles: OWNER.",
        id=_argument(Id, "The global id."),
    )
    import_job = resolved(
        lambda root, info, id: resolvers.imports.import_job(info.context, id),  # noqa: ARG005
        ImportJob | None,
        "An import of customers, and how far it has come. Roles: OWNER, MANAGER.",
        id=_argument(Id, "The global id."),
    )
    import_jobs = listed(
        listings.IMPORT_JOBS,
        ImportJob,
        "ImportJob",
        "The imports of customers, newest first. Roles: OWNER, MANAGER.",
        always=lambda _, context: listings.import_jobs_of(context.actor),
    )
    cards = listed(
        listings.CARDS, Card, "Card", "The cards, newest first.", filter=listings.CardFilter
    )
    card = resolved(
        lambda root, info, ref: resolvers.cards.card(info.context, ref),  # noqa: ARG005
        Card | None,
        "A card.",
        ref=_argument(CardRef, "Which card."),
    )
    vouchers = listed(
        listings.VOUCHERS,
        Voucher,
        "Voucher",
        "The vouchers, newest first.",
        filter=listings.VoucherFilter,
    )
    claim_codes = listed(
        listings.CLAIM_CODES, ClaimCode, "ClaimCode", "The claim codes, newest first."
    )
    voucher = _by_id(models.Voucher, Voucher, "A voucher.")
    preview_stamps = resolved(
        lambda root, info, input: resolvers.cards.preview_stamps(info.context, input),  # noqa: ARG005
        StampsPreview,
        "What adding stamps would do; nothing is written.",
        input=_argument(PreviewStampsInput, "The stamps to try out."),
    )
    can_redeem = resolved(
        _can_redeem,
        RedeemCheck,
        "Whether a voucher could be redeemed now; nothing is written.",
        voucher=_argument(VoucherRef, "Which voucher."),
    )
    events = resolved(
        _events,
        connection(Event, "Event"),
        "The log: the journal backwards, or forwards from a cursor.",
        filter=_argument(listings.EventFilter | None, "Only events that match."),
        first=_argument(int | None, "How many items, 1–100; 20 if absent."),
        after=_argument(str | None, "Only events beyond this cursor, in the order asked."),
        last=_argument(int | None, "How many items, counted from the end."),
        before=_argument(str | None, "Only events before this cursor, in the order asked."),
        order=_argument(listings.EventOrder, "Which end comes first."),
    )
    webhook_endpoints = listed(
        listings.WEBHOOK_ENDPOINTS,
        WebhookEndpoint,
        "WebhookEndpoint",
        "The webhook endpoints, oldest first; a scanner sees those it made.",
        always=lambda _, context: listings.endpoints_of(context.actor),
    )
    deliveries = deliveries
    webhook_dry_run = webhook_dry_run
    replay = resolved(
        lambda root, info, id: resolvers.replays.replay(info.context, id),  # noqa: ARG005
        WebhookReplay | None,
        "A part of the log that an endpoint is sent once more, and how far it has come.",
        id=_argument(Id, "The global id."),
    )
    campaigns = listed(
        listings.CAMPAIGNS,
        Campaign,
        "Campaign",
        "The campaigns, newest first.",
        always=lambda _, context: listings.campaigns_of(context.actor),
    )
    campaign = resolved(
        lambda root, info, id: resolvers.campaigns.campaign(info.context, id),  # noqa: ARG005
        Campaign | None,
        "A campaign.",
        id=_argument(Id, "The global id."),
    )
    campaign_dry_run = resolved(
        lambda root, info, input: resolvers.campaigns.campaign_dry_run(info.context, input),  # noqa: ARG005
        CampaignDryRun,
        "What a campaign would do if it were sent now; nothing is written.",
        input=_argument(CreateCampaignInput, "The campaign to try out."),
    )
    notices = listed(
        listings.NOTICES,
        Notice,
        "Notice",
        "What the owner should know, newest first. Roles: OWNER, MANAGER.",
        always=lambda _, context: listings.notices_of(context.actor),
    )
    refused_calls = listed(
        listings.REFUSED_CALLS,
        RefusedCall,
        "RefusedCall",
        "Which staff tried what they were refused, the latest hour first. Roles: OWNER, MANAGER.",
        always=lambda _, context: listings.refused_calls_of(context.actor),
    )
    points_of_sale = listed(
        listings.POINTS_OF_SALE,
        PointOfSale,
        "PointOfSale",
        "The tills that are connected, oldest first. Roles: OWNER, MANAGER.",
        always=lambda _, context: listings.points_of_sale_of(context.actor),
    )
    sale = resolved(
        lambda root, info, ref: resolvers.points_of_sale.sale(info.context, ref),  # noqa: ARG005
        Sale | None,
        "A sale of a till; null where none was told.",
        ref=_argument(SaleRef, "Which sale."),
    )
    channels = resolved(
        lambda root, info: resolvers.channels.connected(info.context),  # noqa: ARG005
        list[Channel],
        "The ways to reach customers: the deployment's own, then the providers that the business "
        "connected. Roles: OWNER, MANAGER.",
    )
    overview = resolved(
        resolve_overview,
        Overview,
        "The dashboard's start page; a scanner sees its own location.",
        period=_argument(Period | None, "How long a period."),
        date=_argument(date | None, "A day in the period, of the business; absent: today."),
        location_id=_argument(Id | None, "Only what was done at this location."),
        template_id=_argument(Id | None, "Only cards of this template."),
    )
    event_sample = resolved(
        _sample,
        EventSample,
        "An example of an event, as a webhook would carry it.",
        type=_argument(EventType, "The type."),
        vocabulary=VocabularyArgument,
    )
