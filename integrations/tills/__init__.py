"""Tills: the points of sale whose sales add stamps. A new one is a file of this folder.

Such a file has `till`, its one `Till`; the file's name is its kind, in the API in capitals.
"""

import hmac
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Generic, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from integrations.http import NoAnswer, NotReached, Outgoing, Reply
from models import Business

S = TypeVar("S", bound="TillSettings")

MOST_SALES = 500
"""Sales in one call of a till."""
_MOST_ID = 200
_MOST_DIGITS = 15


class TillSettings(BaseModel):
    """What a connection must know of its till. Kept encrypted."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        str_min_length=1,
        str_max_length=2_000,
    )
    address: ClassVar[str | None] = None
    """The setting that says where the till is asked, if there is one."""
    keys: ClassVar[tuple[str, ...]] = ()
    """The settings that are shown there."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request of a till. The names of headers are in small letters."""

    method: str
    url: str
    """In full, as the till was told it."""
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A finished sale, as every till tells it once translated.

    `total` is in whole units, such as 42.50. `cards` are texts by which a card may be named.
    """

    sale_id: str
    total: Decimal | None = None
    currency: str | None = None
    closed_at: datetime | None = None
    cards: tuple[str, ...] = field(default=(), repr=False)
    phone: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    guest: str | None = None
    """The till's own name of its customer, by which more can be fetched."""


@dataclass(frozen=True, kw_only=True)
class Refund:
    """A sale was taken back, whether or not it was told before."""

    sale_id: str


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The till let us in: these settings are new."""

    settings: Mapping[str, str] = field(repr=False)


Notice = Receipt | Refund | Installed


@dataclass(frozen=True, kw_only=True)
class Redemption:
    """A till asks to redeem a voucher, or to take a redemption back."""

    id: str
    """The till's own name of this request: repeated, it is answered as it was the first time."""
    token: str | None = None
    code: str | None = None
    card: str | None = None
    undo: bool = False


class Unreadable(ValueError):
    """A call that is rightly signed, and yet not what the till may send; says what is wrong.

    `read` is what of it could be read all the same.
    """

    def __init__(self, message: str, read: Sequence[Notice] = ()) -> None:
        super().__init__(message)
        self.read = list(read)


class TillAway(Exception):
    """The till did not answer, or wants to be asked later."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("The till did not answer, or is busy.")
        self.retry_after = retry_after


class TillRefuses(Exception):
    """The till does not let us in: a person must look. Says why, without a secret."""


class NoReceipt(Exception):
    """The till has no such receipt, or it is not closed yet."""


class Till(ABC, Generic[S]):
    """What a file of this folder offers. Nothing here keeps state of a business."""

    title: ClassVar[str]
    """What it is, for people."""
    settings: type[S]
    needs_set_up: ClassVar[bool] = False
    """Whether `set_up` has something to do at the till's side."""

    @abstractmethod
    def account_of(self, settings: S, id: str) -> str:
        """What the till calls the account whose sales come in; `id` is the connection's."""

    @abstractmethod
    def verify(self, settings: S, call: Call, now: datetime) -> bool:
        """Whether a call is this till's. Never raises, whatever the call holds."""

    @abstractmethod
    def read_sales(self, settings: S, call: Call) -> list[Notice]:
        """What a verified call tells, in its order; what is of no interest is left out.

        Unreadable where it cannot be understood.
        """

    def redeem(self, settings: S, call: Call) -> Redemption | None:  # noqa: ARG002
        """What a verified call asks to redeem; None where this till does not ask."""
        return None

    def account_in(self, call: Call) -> str | None:  # noqa: ARG002
        """The account a call says it is of, still to be verified; None where it says none."""
        return None

    def is_whole(self, receipt: Receipt) -> bool:  # noqa: ARG002
        """Whether the call told all; else the receipt is fetched, and no amount is believed."""
        return True

    async def fetch_receipt(
        self,
        outgoing: Outgoing,  # noqa: ARG002
        settings: S,  # noqa: ARG002
        told: Receipt,
    ) -> Receipt:
        """The receipt as the till itself has it. TillAway, TillRefuses or NoReceipt."""
        return told

    def prepared(self, settings: S, business: Business) -> tuple[S, str | None]:  # noqa: ARG002
        """The settings with what we make ourselves, and the secret that people are to be shown."""
        return settings, None

    def changed(self, former: S, settings: S, business: Business) -> tuple[S, str | None]:  # noqa: ARG002
        """As `prepared`, for settings that take the place of former ones."""
        return self.prepared(settings, business)

    def is_ready(self, settings: S) -> bool:  # noqa: ARG002
        """Whether sales can come in with these settings, set-up aside."""
        return True

    async def set_up(self, outgoing: Outgoing, settings: S, callback_url: str) -> None:  # noqa: ARG002
        """Tell the till where to call us. TillAway or TillRefuses."""
        return

    def authorize_url(self, settings: S, redirect_url: str) -> str | None:  # noqa: ARG002
        """Where a person lets us in; None where nobody has to."""
        return None

    async def authorize(
        self,
        outgoing: Outgoing,  # noqa: ARG002
        settings: S,  # noqa: ARG002
        answer: Mapping[str, str],  # noqa: ARG002
        redirect_url: str,  # noqa: ARG002
    ) -> Installed:
        """What the till gave to the person who let us in. TillAway or TillRefuses."""
        raise TillRefuses("This till is not authorised by a page.")

    @abstractmethod
    async def test(self, outgoing: Outgoing, settings: S, callback_url: str) -> str:
        """Try the connection; says what was found. TillAway or TillRefuses."""


@cache
def tills() -> Mapping[str, Till[Any]]:
    """Every till of this folder, by its kind."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}").till for name in names}


def till_of(kind: str) -> Till[Any]:
    """The till of a kind."""
    return tills()[kind]


def _kinds() -> type[StrEnum]:
    made = StrEnum("PointOfSaleKind", {name.upper(): name for name in tills()})  # type: ignore[misc]
    lines = [f"{name.upper()}: {till.title}" for name, till in tills().items()]
    made.__doc__ = "\n".join(["What kind of till it is.", "", *lines])
    return cast("type[StrEnum]", made)


# -- What several tills need. ---------------------------------------------------------------------


def same(told: str, ours: str) -> bool:
    """Whether two texts are the same, in constant time."""
    return hmac.compare_digest(told.encode("utf-8", "replace"), ours.encode())


def json_of(call: Call) -> Any:
    """The body as JSON; Unreadable where it is none."""
    try:
        return orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise Unreadable("The body is not JSON.") from None


def read_each(told: Sequence[Any], read: Callable[[Any], Notice | None]) -> list[Notice]:
    """What each of several tells; Unreadable, with the others, where one cannot be understood."""
    if len(told) > MOST_SALES:
        raise Unreadable(f"At most {MOST_SALES} sales at once.")
    found: list[Notice] = []
    wrong = ""
    for item in told:
        try:
            notice = read(item)
        except Unreadable as error:
            wrong = wrong or str(error)
            continue
        found += [notice] if notice is not None else []
    if wrong:
        raise Unreadable(wrong, found)
    return found


def id_of(value: Any) -> str:
    """A till's name of something, told as text or number; Unreadable where it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable("A sale has no id.")
    text = str(value).strip()
    if not 1 <= len(text) <= _MOST_ID or not text.isprintable():
        raise Unreadable("A sale's id has 1 to 200 visible characters.")
    return text


def text_of(value: Any) -> str | None:
    """A short text, None where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if 1 <= len(text) <= _MOST_ID and text.isprintable() else None


def amount_of(value: Any) -> Decimal:
    """A number told as number or text; Unreadable where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable("A total is not a number.")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise Unreadable("A total is not a number.") from None
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise Unreadable("A total is not a number.")
    return number


def member(told: Any, *names: str) -> Any:
    """What lies behind these names of nested objects; None where there is nothing."""
    for name in names:
        if not isinstance(told, dict):
            return None
        told = told.get(name)
    return told


def redemption_of(call: Call) -> Redemption:
    """What a till asks to redeem: `{id, voucher or code, card?, undo?}`; else Unreadable.

    `voucher` is a voucher's token, or the address its QR code holds; `code` a redeem code.
    """
    told = json_of(call)
    token, code = text_of(member(told, "voucher")), text_of(member(told, "code"))
    undo = member(told, "undo") or False
    id = text_of(member(told, "id"))
    if id is None or len(id) > 128:
        raise Unreadable("`id` names this request: a text of 1 to 128 characters of its own.")
    if (token is None) == (code is None) or not isinstance(undo, bool):
        raise Unreadable('Give either "voucher" (its token) or "code" (its redeem code).')
    token = token and token.rstrip("/").rpartition("/")[2]
    return Redemption(id=id, token=token, code=code, card=text_of(member(told, "card")), undo=undo)


async def ask(outgoing: Outgoing, method: str, url: str, **told: Any) -> Reply:
    """Ask a till. TillAway where it does not answer, is busy or broken; TillRefuses for the URL."""
    try:
        reply = await outgoing.request(method, url, **told)
    except (NotReached, NoAnswer):
        raise TillAway from None
    except ValueError:
        raise TillRefuses("This address of the till is not allowed.") from None
    if reply.status == 429 or reply.status >= 500:
        raise TillAway(reply.retry_after)
    return reply


PointOfSaleKind = _kinds()
"""The kinds there are: one for each file of this folder."""
