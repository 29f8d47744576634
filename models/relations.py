"""How the nouns hang together: each relation once, for loaders and for SQL alike."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlmodel import col

from models.api_keys import ApiKey
from models.base import Row
from models.card_templates import CardTemplate, CardTemplateVersion, Goal
from models.cards import Card, CardPlatform, Operation, Reward
from models.claim_codes import ClaimCode
from models.customers import Consent, Customer
from models.imports import Upload
from models.locations import Location
from models.lotteries import LotteryTicket
from models.points_of_sale import PointOfSale
from models.staff import Session, Staff
from models.vouchers import Voucher, VoucherTemplate
from models.webhooks import Attempt, Replay, WebhookEndpoint

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class ToOne(Generic[R]):
    """A row found by a key that another row holds."""

    target: type[R]
    key: str = "id"


@dataclass(frozen=True)
class ToMany(Generic[R]):
    """The rows that hold another row's id, in their order."""

    target: type[R]
    key: str
    order: tuple[Any, ...]


LOCATION = ToOne(Location)
STAFF = ToOne(Staff)
CUSTOMER = ToOne(Customer)
CARD = ToOne(Card)
CARD_TEMPLATE = ToOne(CardTemplate)
CARD_TEMPLATE_VERSION = ToOne(CardTemplateVersion)
VOUCHER_TEMPLATE = ToOne(VoucherTemplate)
VOUCHER = ToOne(Voucher)
REWARD = ToOne(Reward)
OPERATION = ToOne(Operation)
LOTTERY_TICKET = ToOne(LotteryTicket)
WEBHOOK_ENDPOINT = ToOne(WebhookEndpoint)
UPLOAD = ToOne(Upload)
POINT_OF_SALE = ToOne(PointOfSale)
CLAIM_CODE = ToOne(ClaimCode)

KEY_OF_STAFF = ToOne(ApiKey, key="staff_id")
SESSIONS_OF_STAFF = ToMany(
    Session, "staff_id", (col(Session.ended_at).is_not(None), col(Session.id).desc())
)
VERSIONS_OF_TEMPLATE = ToMany(
    CardTemplateVersion, "template_id", (col(CardTemplateVersion.version).desc(),)
)
GOALS_OF_VERSION = ToMany(Goal, "version_id", (col(Goal.position),))
CARDS_OF_CUSTOMER = ToMany(Card, "customer_id", (col(Card.id).desc(),))
PLATFORMS_OF_CARD = ToMany(CardPlatform, "card_id", (col(CardPlatform.saved_at),))
VOUCHERS_OF_CARD = ToMany(Voucher, "card_id", (col(Voucher.id).desc(),))
CONSENTS_OF_CUSTOMER = ToMany(Consent, "customer_id", (col(Consent.channel),))
REPLAYS_OF_ENDPOINT = ToMany(Replay, "endpoint_id", (col(Replay.id).desc(),))
ATTEMPTS_OF_ENDPOINT = ToMany(Attempt, "endpoint_id", (col(Attempt.sequence), col(Attempt.number)))
