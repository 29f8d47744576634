"""Joining: a page where anybody may ask for a card, once the owner has opened it.

Nothing is made until the link that was mailed is followed: whoever types somebody else's address
gets neither that person's card nor a gift, and is not told whether the address is known.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from annotated_doc import Doc
from sqlalchemy import func
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from core.secrets import Secrets, new_join_secret
from db import BUSINESS, Database, Query, Transaction, among, param, query
from models import (
    Actor,
    Birthday,
    Business,
    Card,
    CardTemplate,
    Channel,
    JoinRequest,
    TemplateStatus,
)
from models.base import UtcTimestamp
from services import throttles
from services.card_templates import CardTemplateOutcome
from services.cards import IssueCardInput, issue_card
from services.customers import (
    CustomerInput,
    SetConsentInput,
    email_address,
    set_consent,
)
from services.operation import MANAGERS, Input, operation
from services.places import Place
from services.text import language_of, long_text, short_text
from services.throttles import Tries

REQUEST_LASTS = timedelta(hours=24)
MOST_OF_ADDRESS = 10
"""So many askings from one network address, then it must wait."""
MOST_LIVE = 3
"""Mails to one e-mail address at a time; who asks for more is answered as ever."""
_MOST_TEXT = 2_000

_LOCKED = query(
    select(CardTemplate)
    .where(col(CardTemplate.business_id) == BUSINESS, col(CardTemplate.id) == param("id"))
    .with_for_update()
)
_LIVE: Query[int] = query(
    select(func.count())
    .select_from(JoinRequest)
    .where(
        col(JoinRequest.business_id) == BUSINESS,
        col(JoinRequest.email) == param("email"),
        col(JoinRequest.expires_at) > param("now", UtcTimestamp()),
    )
)
_LOCKED_REQUEST = query(
    select(JoinRequest)
    .where(col(JoinRequest.business_id) == BUSINESS, col(JoinRequest.id) == param("id"))
    .with_for_update()
)
# Who opens a page is of no business yet: these run in the name of the system.
_TEMPLATE: Query[tuple[CardTemplate, Business]] = query(
    select(CardTemplate, Business)
    .join(Business, col(Business.id) == col(CardTemplate.business_id))
    .where(col(CardTemplate.id) == param("id"), col(CardTemplate.joining_open).is_(True))
)
_BY_SECRET: Query[tuple[JoinRequest, CardTemplate, Business]] = query(
    select(JoinRequest, CardTemplate, Business)
    .join(CardTemplate, col(CardTemplate.id) == col(JoinRequest.template_id))
    .join(Business, col(Business.id) == col(JoinRequest.business_id))
    .where(among(col(JoinRequest.digest), "digests"))
)


@dataclass(kw_only=True)
class SetJoinPageInput(Input):
    """Whether anybody may ask for such a card on its join page."""

    template_id: Annotated[Id, Doc("The card template; cards are issued once it is published.")]
    is_open: Annotated[bool, Doc("Whether the page is there.")]
    privacy_text: Annotated[
        str | None,
        Doc("What it tells of privacy beside our own words, at most 2 000 characters."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class JoinForm:
    """What somebody told on a join page."""

    email: str
    name: str = ""
    birthday: str = ""
    language: str
    takes_mail: bool
    takes_push: bool


@operation(*MANAGERS)
async def set_join_page(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    input: SetJoinPageInput,
    now: datetime,  # noqa: ARG001 -- and when
) -> CardTemplateOutcome:
    """Open or close the page where anybody may ask for a card of this template.

    A card is issued to whoever follows the link that is mailed to the address given there.
    """
    template = await tx.maybe(_LOCKED, id=input.template_id)
    if template is None:
        raise NotFound("card template", "input", "templateId")
    text = long_text(input.privacy_text, "input", "privacyText", most=_MOST_TEXT)
    template = await tx.change(template, joining_open=input.is_open, joining_text=text)
    return CardTemplateOutcome(card_template=template)


async def join_page_of(tx: Transaction, template_id: str) -> tuple[CardTemplate, Business] | None:
    """The template of an open join page, and whose it is; as the system."""
    found = await tx.maybe(_TEMPLATE, id=template_id)
    return found if found and found[0].status is TemplateStatus.PUBLISHED else None


async def ask_to_join(
    database: Database,
    secrets: Secrets,
    template: CardTemplate,
    business: Business,
    form: JoinForm,
    now: datetime,
    place: Place,
) -> None:
    """Keep what was told, for a day; the join post mails the link.

    Not where this address has had its mails: the page says the same. Invalid for what cannot be
    kept, RateLimited for a network address that asks often. `now` is real time.
    """
    email = email_address(form.email, "email")
    if email is None:
        raise Invalid("An e-mail address is needed.", "email")
    name = short_text(form.name, "name") if form.name.strip() else None
    birthday = _birthday(form.birthday)
    language = language_of(form.language, "language")
    tries = Tries("join", place.source, MOST_OF_ADDRESS)
    await throttles.begin(database, secrets, [tries], now)
    secret = new_join_secret()

    async def work(tx: Transaction) -> None:
        if await tx.one(_LIVE, email=email, now=now) >= MOST_LIVE:
            return
        id = new_id("jr")
        await tx.add(
            JoinRequest(
                id=id,
                digest=secrets.digest(secret),
                business_id=business.id,
                template_id=template.id,
                email=email,
                name=name,
                birthday=birthday,
                language=language,
                takes_mail=form.takes_mail,
                takes_push=form.takes_push,
                created_at=now,
                expires_at=now + REQUEST_LASTS,
                sealed_secret=secrets.encrypt(secret, purpose_of_link(id)),
                mail_after=now,
            )
        )

    await database.write(business.id, work)


def purpose_of_link(id: str) -> str:
    """What the secret in a link is encrypted for."""
    return f"join link {id}"


async def request_of(
    tx: Transaction, secrets: Secrets, secret: str
) -> tuple[JoinRequest, CardTemplate, Business] | None:
    """The request this secret belongs to; as the system."""
    return await tx.maybe(_BY_SECRET, digests=secrets.digests(secret))


async def join(
    database: Database, business: Business, request: JoinRequest, now: datetime
) -> Card | None:
    """Issue the card that was asked for, the address being proven; a repeat gives the same card.

    None where the request is too old, the page was closed, or the card is there no more. `now` is
    real time.
    """
    programme_now = business.time(now)
    actor = Actor(business)

    async def work(tx: Transaction) -> Card | None:
        current = await tx.maybe(_LOCKED_REQUEST, id=request.id)
        if current is None or now >= current.expires_at:
            return None
        if current.card_id is not None:
            return await _still_there(tx, current.card_id)
        if await join_page_of(tx, current.template_id) is None:
            return None
        told = CustomerInput(
            email=current.email,
            name=current.name,
            birthday=current.birthday,
            language=current.language,
        )
        asked = IssueCardInput(template_id=Id(current.template_id), customer=told)
        card = (await issue_card(tx, actor, asked, programme_now)).card
        if card is None:
            return None
        await tx.change(current, card_id=card.id)
        # A yes is recorded, and a refusal of what would go without a yes; silence takes nothing
        # back that was said elsewhere.
        if current.takes_mail:
            await _consent(tx, actor, card, Channel.EMAIL, programme_now, granted=True)
        if not current.takes_push:
            await _consent(tx, actor, card, Channel.PUSH, programme_now, granted=False)
        return card

    try:
        return await database.write(business.id, work)
    except Refused as refusal:
        if refusal.code in (Code.NOT_FOUND, Code.TEMPLATE_NOT_PUBLISHED):
            return None
        raise


async def _still_there(tx: Transaction, card_id: str) -> Card | None:
    """The card, or the one it was joined to."""
    card = await tx.get(Card, card_id)
    if card is not None and card.merged_into is not None:
        card = await tx.get(Card, card.merged_into)
    return card if card is not None and card.deleted_at is None else None


async def _consent(
    tx: Transaction, actor: Actor, card: Card, channel: Channel, now: datetime, *, granted: bool
) -> None:
    said = SetConsentInput(customer_id=Id(card.customer_id), channel=channel, granted=granted)
    await set_consent(tx, actor, said, now)


def _birthday(text: str) -> str | None:
    if not text:
        return None
    try:
        return str(Birthday.parse(text))
    except ValueError:
        raise Invalid("There is no such day.", "birthday") from None
