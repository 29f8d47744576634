"""The card's page: what its holder sees behind the join URL. Plain HTML, no script."""

import re
import secrets
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core.ids import Id
from db import Transaction
from endpoints.codes import picture_of
from models import Actor, Business, Card, RedemptionMode, Voucher
from resolvers.context import Deployment
from services.card_refs import CardRef
from services.cards import ReportCardOpenedInput, report_card_opened
from services.tokens import CardFace, card_by_token, face_of

log = structlog.get_logger("stampwire.card_page")

_PREVIEWER = re.compile(
    r"(?<!cu)bot\b|crawl|spider|preview|facebookexternalhit|whatsapp/|viber", re.IGNORECASE
)
"""Programs that fetch a link to show what is behind it. (Cubot makes telephones.)"""
_LOGO = re.compile(r"(https://[a-z0-9.-]+(?::\d+)?)(?:[/?#]|$)", re.IGNORECASE)
_WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "stamps": "{have} of {all} stamps",
        "next": "{left} more to go",
        "last": "One more to go",
        "full": "Your card is full",
        "again": "The next stamp begins a new card.",
        "show": "Show this to collect stamps",
        "vouchers": "Your vouchers",
        "staff": "Show it to the staff",
        "till": "Show it at the till",
        "until": "Valid until {day}",
        "from": "Valid from {day}",
        "gone": "This card is not here",
        "why": "The link is incomplete, or the card was deleted. Ask where you got it.",
        "months": "January February March April May June July August September October November"
        " December",
    },
    "id": {
        "stamps": "{have} dari {all} stempel",
        "next": "{left} lagi",
        "last": "Satu lagi",
        "full": "Kartu Anda penuh",
        "again": "Stempel berikutnya memulai kartu baru.",
        "show": "Tunjukkan ini untuk mengumpulkan stempel",
        "vouchers": "Voucher Anda",
        "staff": "Tunjukkan kepada staf",
        "till": "Tunjukkan di kasir",
        "until": "Berlaku sampai {day}",
        "from": "Berlaku mulai {day}",
        "gone": "Kartu ini tidak ada",
        "why": "Tautan tidak lengkap, atau kartu telah dihapus. Tanyakan di tempat Anda"
        " mendapatkannya.",
        "months": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November"
        " Desember",
    },
}


async def show_card(request: Request) -> Response:
    """The page of the card with this token. Opening it in a browser reports the card opened."""
    deployment: Deployment = request.app.state.deployment
    database, token = deployment.database, request.path_params["token"]
    found = await database.read(None, lambda tx: card_by_token(tx, token))
    if found is None:
        return _gone(request)
    card, business = found
    now = business.time(deployment.clock.now())
    face = await database.read(business.id, lambda tx: face_of(tx, business, card, now))
    opened = BackgroundTask(_report, deployment, business, card) if _is_opened(request) else None
    return page("card.html", _told(face, now), face.customer.language, background=opened)


def _gone(request: Request) -> Response:
    language = request.headers.get("accept-language", "")
    return page("no_card.html", {"logo": None}, language, status=404)


def page(
    template: str,
    told: dict[str, Any],
    language: str,
    words: dict[str, dict[str, Any]] | None = None,
    *,
    background: BackgroundTask | None = None,
    status: int = 200,
) -> Response:
    """A page for customers, in one of the languages of its words (the card's, unless told)."""
    language = "id" if language.lower().startswith("id") else "en"
    nonce = secrets.token_urlsafe(16)
    html = (
        _templates()
        .get_template(template)
        .render(told, words=(words or _WORDS)[language], language=language, nonce=nonce)
    )
    logo = _LOGO.match(told["logo"] or "")
    pictures = f"'self' {logo[1]}" if logo else "'self'"
    headers = {
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
        "Content-Security-Policy": f"default-src 'none'; img-src {pictures}; "
        f"style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    }
    return HTMLResponse(html, status_code=status, headers=headers, background=background)


def _told(face: CardFace, now: datetime) -> dict[str, Any]:
    business, card, promise = face.business, face.card, face.promise
    return {
        "business": business.name,
        "logo": logo_of(business),
        "template": face.template.name,
        "number": card.number,
        "stamps": card.stamps,
        "required": promise.required,
        "goals": {goal.stamps: goal.title for goal in promise.goals},
        "next_goal": face.next_goal,
        "qr_code": picture_of(card.token, "svg").decode(),
        "vouchers": [_voucher_told(voucher, business, now) for voucher in face.vouchers],
    }


def logo_of(business: Business) -> str | None:
    """The business's logo, where a page may show it."""
    logo = business.logo_url or ""
    return logo if _LOGO.match(logo) else None


def _voucher_told(voucher: Voucher, business: Business, now: datetime) -> dict[str, Any]:
    """A voucher as its ticket shows it: staff scan its token, a till reads its code."""
    at_till = voucher.redemption_mode is RedemptionMode.REDEEM_CODE and voucher.redeem_code
    starts, ends = voucher.valid_from, voucher.expires_at
    return {
        "title": voucher.title,
        "description": voucher.description,
        "code": voucher.redeem_code,
        "token": voucher.token,
        "format": "qr" if at_till else "token",
        "how": "till" if at_till else "staff",
        "starts": _day(starts, business) if starts and starts > now else None,
        "ends": _day(ends - timedelta(microseconds=1), business) if ends else None,
    }


def _day(moment: datetime, business: Business) -> date:
    return moment.astimezone(business.zone).date()


def _in_words(day: date, words: dict[str, Any]) -> str:
    return f"{day.day} {words['months'].split()[day.month - 1]} {day.year}"


def _is_opened(request: Request) -> bool:
    """Whether a person looks at it, not a program that peeks at the link."""
    asked = request.headers
    purpose = f"{asked.get('purpose', '')}{asked.get('sec-purpose', '')}{asked.get('x-moz', '')}"
    return (
        request.method == "GET"
        and "text/html" in asked.get("accept", "")
        and not purpose
        and not _PREVIEWER.search(asked.get("user-agent", ""))
    )


async def _report(deployment: Deployment, business: Business, card: Card) -> None:
    """Report the card opened, in the name of the system; the page is already on its way."""
    now = business.time(deployment.clock.now())
    told = ReportCardOpenedInput(card=CardRef(id=Id(card.id)))

    async def report(tx: Transaction) -> None:
        await report_card_opened(tx, Actor(business), told, now)

    try:
        await deployment.database.write(business.id, report)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the customer has the page
        log.warning("opening not reported", card=card.id, error=type(error).__name__)


@cache
def _templates() -> Any:
    import jinja2  # noqa: PLC0415 -- the first page loads it, not every start

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["in_words"] = _in_words
    return environment
