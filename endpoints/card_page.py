"""The card's page: what its holder sees behind the join URL, and tells of herself there."""

import re
import secrets
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from core.errors import Refused
from core.ids import Id
from db import Transaction
from endpoints.answers import HEADERS, BadRequest
from endpoints.codes import picture_of
from endpoints.forms import birthday_of, form_of
from models import Actor, Business, Card, RedemptionMode, Voucher
from resolvers.context import Deployment
from services.card_refs import CardRef
from services.cards import ReportCardOpenedInput, report_card_opened
from services.contacts import messenger_links
from services.holders import HolderForm, tell
from services.push_keys import public_push_key
from services.tokens import CardFace, card_by_token, face_of

log = structlog.get_logger("stampwire.card_page")

_OF_APPLE = re.compile(r"iPhone|iPad|Macintosh")
_PREVIEWER = re.compile(
    r"(?<!cu)bot\b|crawl|spider|preview|facebookexternalhit|whatsapp/|viber", re.IGNORECASE
)
"""Programs that fetch a link to show what is behind it. (Cubot makes telephones.)"""
_LOGO = re.compile(r"(https://[a-z0-9.-]+(?::\d+)?)(?:[/?#]|$)", re.IGNORECASE)
LANGUAGES = {"en": "English", "id": "Bahasa Indonesia"}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "id": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember",
}
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
        "months": MONTHS["en"],
        "wallet": "Keep it in your wallet",
        "apple": "Add to Apple Wallet",
        "google": "Add to Google Wallet",
        "news": "News from us",
        "push_on": "Notify me on this device",
        "push_off": "Do not notify me on this device any more",
        "bound": "connected",
        "about": "About you",
        "birthday": "Your birthday",
        "known": "we know it; enter it again to change it",
        "optional": "optional",
        "day": "Day",
        "month": "Month",
        "year": "Year",
        "language": "Language",
        "mail": "Send me news by e-mail",
        "push": "Let my card notify me",
        "save": "Save",
        "saved": "Saved.",
        "wrong": {"birthday": "There is no such day."},
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
        "months": MONTHS["id"],
        "wallet": "Simpan di dompet ponsel",
        "apple": "Tambahkan ke Apple Wallet",
        "google": "Tambahkan ke Google Wallet",
        "news": "Kabar dari kami",
        "push_on": "Beri tahu saya di perangkat ini",
        "push_off": "Jangan beri tahu lagi di perangkat ini",
        "bound": "terhubung",
        "about": "Tentang Anda",
        "birthday": "Tanggal lahir Anda",
        "known": "sudah tersimpan; isi lagi untuk mengubahnya",
        "optional": "opsional",
        "day": "Hari",
        "month": "Bulan",
        "year": "Tahun",
        "language": "Bahasa",
        "mail": "Kirimi saya kabar lewat e-mail",
        "push": "Izinkan kartu memberi notifikasi",
        "save": "Simpan",
        "saved": "Tersimpan.",
        "wrong": {"birthday": "Tanggal itu tidak ada."},
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
    opened = BackgroundTask(_report, deployment, business, card) if _is_opened(request) else None
    return await _shown(request, business, card, {}, background=opened)


async def change_card(request: Request) -> Response:
    """What the holder tells of herself on the page: birthday, language, what may be sent.

    Whoever has the card's address may tell it, as at the counter; nothing known is shown.
    """
    deployment: Deployment = request.app.state.deployment
    database, token = deployment.database, request.path_params["token"]
    found = await database.read(None, lambda tx: card_by_token(tx, token))
    if found is None:
        return _gone(request)
    card, business = found
    try:
        form = await form_of(request)
    except BadRequest as error:
        return PlainTextResponse(str(error), status_code=error.status, headers=HEADERS)
    now = business.time(deployment.clock.now())
    try:
        told = HolderForm(
            birthday=birthday_of(form),
            language=form.get("language", ""),
            takes_mail="mail" in form,
            takes_push="push" in form,
        )
        await database.write(business.id, lambda tx: tell(tx, business, card, told, now))
    except Refused as refusal:
        return await _shown(request, business, card, form, wrong=(refusal.field or [""])[-1])
    return RedirectResponse(f"{token}?saved", status_code=303, headers=HEADERS)


async def _shown(
    request: Request,
    business: Business,
    card: Card,
    form: dict[str, str],
    *,
    wrong: str | None = None,
    background: BackgroundTask | None = None,
) -> Response:
    deployment: Deployment = request.app.state.deployment
    now = business.time(deployment.clock.now())
    face = await deployment.database.read(business.id, lambda tx: face_of(tx, business, card, now))
    links = await deployment.database.read(
        business.id, lambda tx: messenger_links(tx, card, now, secrets=deployment.secrets)
    )
    told = _told(face, now) | {
        "messengers": links,
        "push_key": await _push_key(deployment),
        "wallets": _wallets(request, card),
        "form": {**dict.fromkeys(("day", "month", "year"), ""), **form},
        "wrong": wrong,
        "is_saved": "saved" in request.query_params,
        "languages": LANGUAGES,
    }
    status = 200 if wrong is None else 422
    language = face.customer.language
    return page("card.html", told, language, acts=True, background=background, status=status)


def _gone(request: Request) -> Response:
    language = request.headers.get("accept-language", "")
    return page("no_card.html", {"logo": None}, language, status=404)


def page(
    template: str,
    told: dict[str, Any],
    language: str,
    words: dict[str, dict[str, Any]] | None = None,
    *,
    forms: bool = False,
    acts: bool = False,
    background: BackgroundTask | None = None,
    status: int = 200,
) -> Response:
    """A page for customers, in one of the languages of its words (the card's, unless told).

    It may load pictures; with `forms` send a form to us, and one that `acts` may also run a script
    of ours.
    """
    language = "id" if language.lower().startswith("id") else "en"
    nonce = secrets.token_urlsafe(16)
    html = (
        _templates()
        .get_template(template)
        .render(
            {"root": "../"} | told,
            words=(words or _WORDS)[language],
            language=language,
            nonce=nonce,
        )
    )
    logo = _LOGO.match(told["logo"] or "")
    pictures = f"'self' {logo[1]}" if logo else "'self'"
    target = "'self'" if forms or acts else "'none'"
    scripts = "script-src 'self'; connect-src 'self'; worker-src 'self'; " if acts else ""
    headers = {
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
        "Content-Security-Policy": f"default-src 'none'; img-src {pictures}; "
        f"{scripts}style-src 'nonce-{nonce}'; base-uri 'none'; form-action {target}; "
        "frame-ancestors 'none'",
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
        "knows_birthday": face.customer.birthday is not None,
        "consents": {consent.channel.value: consent.granted for consent in face.consents},
        "has_mail": face.customer.email is not None,
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
        "has_barcode": (voucher.redeem_code or "").isascii() and bool(at_till),
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


def _wallets(request: Request, card: Card) -> list[tuple[str, str]]:
    """The wallets that take the card, and where: first the one of the telephone that asks."""
    wallets = request.app.state.deployment.wallets
    found = []
    if wallets.apple is not None:
        found.append(("apple", f"{card.token}/card.pkpass"))
    if wallets.google is not None:
        found.append(("google", f"{card.token}/google"))
    is_apples = _OF_APPLE.search(request.headers.get("user-agent", ""))
    return found if is_apples else found[::-1]


async def _push_key(deployment: Deployment) -> str | None:
    """The key for the browser's notifications; the first page of a deployment makes it."""
    try:
        now = deployment.clock.now()
        return await public_push_key(deployment.database, deployment.secrets, now)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the customer sees the card
        log.warning("no key for notifications", error=type(error).__name__)
        return None


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
