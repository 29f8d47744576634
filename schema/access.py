"""What access tokens may read: decided for every type here, and held to wherever a field resolves.

A token that reaches one card is what the phone of its holder carries: the card, how far it is,
its vouchers; nothing of staff, and of the customer the name alone. A token that reaches events
tells what webhooks tell, and of what an event leads to (as it is now) what needs no name: the
card's progress, titles, places; never what opens a door, such as the token of a card or voucher.
What is not named here is denied, and so is every mutation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, is_object_type

from core.errors import Forbidden
from models import Reach
from services.operation import NOT_BY_TOKEN


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Decision:
    """The fields of a type that tokens of each reach may read, and those that none may."""

    card: str = ""
    events: str = ""
    nobody: str = ""

    def fields(self, reach: Reach) -> frozenset[str]:
        """What tokens of this reach may read."""
        return _words(self.card if reach is Reach.CARD else self.events)

    @property
    def every(self) -> frozenset[str]:
        """All fields that somebody decided about."""
        return _words(f"{self.card} {self.events} {self.nobody}")


_PAGE = "edges nodes pageInfo totalCount"
_PAGE_INFO = "hasNextPage hasPreviousPage startCursor endCursor"

DECISIONS: dict[str, Decision] = {
    "Query": Decision(
        card="card rateLimit",
        events="events eventSample rateLimit",
        nobody="""apiKeys campaign campaignDryRun campaigns canRedeem cardTemplateChanges
            cardTemplates cards channels claimCodes customer customers deliveries
            exportCardTemplate exportCustomer importJob importJobs locations node notices overview
            pointsOfSale previewStamps refusedCalls replay sale staff staffVelocity viewer voucher
            voucherTemplates vouchers webhookDryRun webhookEndpoints""",
    ),
    "Subscription": Decision(card="card", events="events", nobody="pulse"),
    "Card": Decision(
        card="""id number status stamps cycle token walletPassId createdAt lastStampAt template
            customer vouchers stampsRequired progress nextGoal platforms joinUrl
            appleWalletUrl googleWalletUrl""",
        events="id number status stamps cycle template stampsRequired progress nextGoal",
        nobody="history",
    ),
    "CardTemplate": Decision(
        card="id name stampsRequired earningRule amountPerStamp design goals",
        events="id name stampsRequired",
        nobody="version status createdAt publishedAt archivedAt overflow inactivityDays joinPage",
    ),
    "Goal": Decision(card="position stamps rewardType title description imageUrl voucherTemplate"),
    "NextGoal": Decision(
        card="position stamps remaining rewardType title",
        events="position stamps remaining rewardType title",
    ),
    "Money": Decision(card="amount currency", events="amount currency"),
    "Customer": Decision(
        card="id name language",
        events="id language",
        nobody="email phone birthday createdAt lastActivityAt cards consents",
    ),
    "Voucher": Decision(
        card="""id type title description imageUrl status redeemCode redeemCodeFormats
            redemptionMode token source validFrom expiresAt issuedAt redeemedAt redeemedVia
            voidedAt goalIndex card template codes""",
        events="id type title description imageUrl status source expiresAt issuedAt goalIndex",
        nobody="redeemedBy",
    ),
    "VoucherCode": Decision(card="format url"),
    "VoucherConnection": Decision(card=_PAGE),
    "VoucherEdge": Decision(card="cursor node"),
    "VoucherTemplate": Decision(
        # Not the code that its vouchers share: on a goal ahead it is not won yet.
        card="id title description imageUrl validity validityNumber validityDate redemptionMode",
        nobody="redeemCode generatesCode status createdAt archivedAt",
    ),
    "RateLimit": Decision(
        card="limit remaining restoreRate resetAt cost",
        events="limit remaining restoreRate resetAt cost",
    ),
    "PageInfo": Decision(card=_PAGE_INFO, events=_PAGE_INFO),
    "EventConnection": Decision(events=_PAGE),
    "EventEdge": Decision(events="cursor node"),
    "EventSample": Decision(events="payload data"),
    "Event": Decision(
        # What a type has beside these are facts of the moment, which its payload tells too, and
        # what those lead to.
        events="""id type sequence cursor occurredAt location customer card goalIndex payload
            data""",
        nobody="actor",
    ),
    "CampaignFacts": Decision(events="id name channels voucherId"),
    "LotteryResult": Decision(events="type name greeting"),
    "Location": Decision(
        events="id name timezone", nobody="address latitude longitude isActive createdAt archivedAt"
    ),
    "Operation": Decision(
        events="id kind count occurredAt",
        nobody="""before after cycleBefore cycleAfter channel externalRef card location actor
            amount voided""",
    ),
    "Reward": Decision(
        events="id type source title issuedAt goalIndex", nobody="cycle voidedAt card voucher"
    ),
    "LotteryTicket": Decision(
        events="id status playedAt goalIndex",
        nobody="commitment chain createdAt seed card result roll odds",
    ),
}
"""The types of which tokens may read something; every field of theirs is decided about."""

NOTHING = _words(
    """ApiKey Business Campaign CampaignDryRun CampaignSample Change Channel ChannelCount
    ChannelResult ClaimCode Consent CustomerFigures DayFigures Delivery DeliveryProblem
    ExpectedEvent ExpectedReward Figure ImportJob ImportRow JoinPage LotteryOdds MessengerCount
    Mutation Notice Overview PointOfSale Pulse RedeemCheck RefusedCall RewardFigures Sale
    Segment Session SessionShown Staff StaffFigures StaffVelocity StampBucket StampHistogram
    StampVerdict StampsPreview System Upload Usage Viewer Voiding WebhookAttempt WebhookDryRun
    WebhookEndpoint WebhookHealth WebhookLag WebhookReplay"""
)
"""The types of which tokens read nothing at all."""


def decision_of(kind: GraphQLObjectType) -> Decision | None:
    """What was decided about a type; None where nobody has decided."""
    name = kind.name
    if any(face.name == "Event" for face in kind.interfaces):
        shared = DECISIONS["Event"]
        own = " ".join(set(kind.fields) - shared.every)
        return Decision(events=f"{shared.events} {own}", nobody=shared.nobody)
    if name in DECISIONS:
        return DECISIONS[name]
    node = name.removesuffix("Connection").removesuffix("Edge")
    is_refusal = any(face.name == "UserError" for face in kind.interfaces)
    if name in NOTHING or name.endswith("Payload") or is_refusal:
        return Decision(nobody=" ".join(kind.fields))
    if node != name and (node in DECISIONS or node in NOTHING):
        return Decision(nobody=" ".join(kind.fields))
    return None


def guard(schema: GraphQLSchema) -> None:
    """Hold access tokens to what they may read, at each field of each type, however it is reached.

    Aliases, fragments and interfaces make no difference: what resolves is a field of an object.
    """
    for kind in schema.type_map.values():
        if not is_object_type(kind) or kind.name.startswith("__"):
            continue
        decision = decision_of(kind) or Decision()
        for name, field in kind.fields.items():
            allowed = frozenset(reach for reach in Reach if name in decision.fields(reach))
            if allowed != frozenset(Reach):
                _guard_field(field, allowed)


def _guard_field(field: GraphQLField, allowed: frozenset[Reach]) -> None:
    if field.resolve is not None:
        field.resolve = _guarded(field.resolve, allowed)
    if field.subscribe is not None:
        field.subscribe = _guarded(field.subscribe, allowed)


def _guarded(resolve: Callable[..., Any], allowed: frozenset[Reach]) -> Callable[..., Any]:
    def held(root: Any, info: Any, **arguments: Any) -> Any:
        caller = info.context.caller
        if caller is not None and caller.token is not None and caller.token.reach not in allowed:
            raise Forbidden(NOT_BY_TOKEN)
        return resolve(root, info, **arguments)

    return held
