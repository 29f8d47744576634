"""The join page: whoever scans the code at the counter asks for a card, and proves an address.

Following the mailed link shows a button; pressing it makes the card. Programs that look at links
in mails press no buttons.
"""

from math import ceil
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from core.errors import RateLimited, Refused
from core.ids import is_id
from endpoints.answers import HEADERS, BadRequest, stranger
from endpoints.card_page import MONTHS, logo_of, page
from endpoints.codes import picture_answer
from endpoints.forms import birthday_of, form_of
from models import Business, CardTemplate
from resolvers.charges import address_key
from resolvers.context import Deployment
from services.cards import published
from services.joining import JoinForm, ask_to_join, join, join_page_of, request_of
from services.places import Place
from services.text import within

LANGUAGES = {"en": "English", "id": "Bahasa Indonesia"}
_WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "months": MONTHS["en"],
        "invite": "Collect stamps with your phone",
        "stamps": "{all} stamps",
        "name": "Your name",
        "optional": "optional",
        "email": "Your e-mail address",
        "birthday": "Your birthday",
        "day": "Day",
        "month": "Month",
        "year": "Year",
        "language": "Language",
        "mail": "Send me news by e-mail",
        "push": "Let my card notify me",
        "ask": "Get my card",
        "privacy": "What becomes of this",
        "own": "{business} keeps what you enter here with your card, to count your stamps, and for"
        " what you tick above. You can change your mind on the card's page at any time, and have"
        " everything deleted: ask at the counter. Nothing is kept unless you follow the link that"
        " we mail you; until then it is forgotten after a day.",
        "sent": "Look into your mail",
        "sent_why": "We sent a link to {email}. Follow it to get your card; it is good for a day.",
        "fetch": "Your card is ready",
        "fetch_why": "Press the button, and it is yours.",
        "gone": "This page is not here",
        "why": "Perhaps the link is incomplete or too old. Ask at the counter.",
        "wrong": {
            "email": "This is not an e-mail address.",
            "birthday": "There is no such day.",
            "": "This cannot be used.",
        },
    },
    "id": {
        "months": MONTHS["id"],
        "invite": "Kumpulkan stempel dengan ponsel Anda",
        "stamps": "{all} stempel",
        "name": "Nama Anda",
        "optional": "opsional",
        "email": "Alamat e-mail Anda",
        "birthday": "Tanggal lahir Anda",
        "day": "Hari",
        "month": "Bulan",
        "year": "Tahun",
        "language": "Bahasa",
        "mail": "Kirimi saya kabar lewat e-mail",
        "push": "Izinkan kartu memberi notifikasi",
        "ask": "Ambil kartu saya",
        "privacy": "Untuk apa data ini",
        "own": "{business} menyimpan isian Anda bersama kartu, untuk menghitung stempel dan untuk"
        " pilihan yang Anda centang di atas. Anda dapat berubah pikiran kapan saja di halaman"
        " kartu, atau meminta semuanya dihapus di kasir. Tidak ada yang disimpan sebelum Anda"
        " membuka tautan yang kami kirim; tanpa itu, semuanya dilupakan setelah satu hari.",
        "sent": "Periksa e-mail Anda",
        "sent_why": "Kami mengirim tautan ke {email}. Buka untuk mengambil kartu; berlaku satu"
        " hari.",
        "fetch": "Kartu Anda sudah siap",
        "fetch_why": "Tekan tombolnya, dan kartu ini milik Anda.",
        "gone": "Halaman ini tidak ada",
        "why": "Mungkin tautannya tidak lengkap atau sudah lama. Tanyakan di kasir.",
        "wrong": {
            "email": "Ini bukan alamat e-mail.",
            "birthday": "Tanggal itu tidak ada.",
            "": "Isian ini tidak dapat dipakai.",
        },
    },
}


async def show_join_page(request: Request) -> Response:
    """The page of a template: its form, and with POST what was typed into it."""
    found = await _found(request)
    if found is None:
        return _gone(request)
    template, business = found
    language = _language(request, business)
    if request.method != "POST":
        return await _form(request, template, business, language, {}, None)
    deployment: Deployment = request.app.state.deployment
    form: dict[str, str] = {}
    try:
        form = await form_of(request)
        told = JoinForm(
            email=within(form.get("email", ""), "email", most=320),
            name=form.get("name", ""),
            birthday=birthday_of(form),
            language=language,
            takes_mail="mail" in form,
            takes_push="push" in form,
        )
        client = request.client
        place = Place(client.host if client else "", request.headers.get("user-agent", ""))
        await ask_to_join(
            deployment.database,
            deployment.secrets,
            template,
            business,
            told,
            deployment.clock.now(),
            place,
        )
    except BadRequest as error:
        return PlainTextResponse(str(error), status_code=error.status, headers=HEADERS)
    except RateLimited as error:
        return _too_often(error)
    except Refused as refusal:
        place_of_it = (refusal.field or [""])[0]
        return await _form(request, template, business, language, form, place_of_it)
    shown = _told(template, business) | {"email": told.email.strip()}
    return page("joined.html", shown, language, _WORDS)


async def confirm_joining(request: Request) -> Response:
    """Behind the mailed link: a button, and with POST the card."""
    deployment: Deployment = request.app.state.deployment
    secret = request.path_params["secret"]
    try:
        async with deployment.guesses.guess([address_key(stranger(request))]) as guess:
            found = await deployment.database.read(
                None, lambda tx: request_of(tx, deployment.secrets, secret)
            )
            guess.is_miss = found is None
    except RateLimited as error:
        return _too_often(error)
    if found is None or deployment.clock.now() >= found[0].expires_at:
        return _gone(request)
    asked, template, business = found
    if request.method != "POST":
        told = _told(template, business) | {"root": "../../"}
        return page("fetch.html", told, asked.language, _WORDS, forms=True)
    card = await join(deployment.database, business, asked, deployment.clock.now())
    if card is None:
        return _gone(request)
    return RedirectResponse(f"../../c/{card.token}", status_code=303, headers=HEADERS)


async def show_join_code(request: Request) -> Response:
    """The join page's address as a QR code, to be printed for the counter."""
    found = await _found(request)
    if found is None:
        return PlainTextResponse("There is no such picture.", status_code=404, headers=HEADERS)
    deployment: Deployment = request.app.state.deployment
    url = f"{deployment.settings.url}/join/{found[0].id}"
    return await picture_answer(request, url, request.path_params["kind"])


async def _found(request: Request) -> tuple[CardTemplate, Business] | None:
    template_id = request.path_params["template"]
    if not is_id(template_id):
        return None
    deployment: Deployment = request.app.state.deployment
    return await deployment.database.read(None, lambda tx: join_page_of(tx, template_id))


async def _form(
    request: Request,
    template: CardTemplate,
    business: Business,
    language: str,
    form: dict[str, str],
    wrong: str | None,
) -> Response:
    deployment: Deployment = request.app.state.deployment
    _, promise = await deployment.database.read(business.id, lambda tx: published(tx, template.id))
    told = _told(template, business) | {
        "required": promise.required,
        "goals": [{"stamps": goal.stamps, "title": goal.title} for goal in promise.goals],
        "privacy_text": template.joining_text,
        "languages": LANGUAGES,
        "form": {
            **dict.fromkeys(("email", "name", "day", "month", "year"), ""),
            **form,
            "mail": "mail" in form,
            "push": "push" in form or not form,
        },
        "wrong": wrong,
    }
    status = 200 if wrong is None else 422
    return page("join.html", told, language, _WORDS, forms=True, status=status)


def _told(template: CardTemplate, business: Business) -> dict[str, Any]:
    return {"business": business.name, "logo": logo_of(business), "template": template.name}


def _language(request: Request, business: Business) -> str:
    asked = request.query_params.get("lang") or request.headers.get("accept-language") or ""
    language = asked or business.default_language
    return "id" if language.lower().startswith("id") else "en"


def _gone(request: Request) -> Response:
    asked = request.headers.get("accept-language", "")
    return page("no_card.html", {"logo": None}, asked, _WORDS, status=404)


def _too_often(error: RateLimited) -> Response:
    headers = {**HEADERS, "Retry-After": str(ceil(error.retry_after_ms / 1_000))}
    return PlainTextResponse(str(error), status_code=429, headers=headers)
