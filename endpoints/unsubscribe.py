"""The way out of mails: one click, without a login (RFC 8058).

Opening the page ends nothing, for programs follow links too; its button does, and so does the
reader's own program by a POST.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from endpoints.card_page import page
from resolvers.context import Deployment
from services.unsubscribing import business_of, unsubscribe

_WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "ask": "No more news by e-mail?",
        "ask_why": "{business} will not write to you any more. Your card stays as it is.",
        "button": "No more e-mails",
        "done": "Done",
        "done_why": "You get no more news of {business} by e-mail. Your card stays as it is.",
        "gone": "This link is not ours",
        "why": "The link is incomplete. Use the one in the latest e-mail.",
    },
    "id": {
        "ask": "Tidak mau kabar lewat e-mail lagi?",
        "ask_why": "{business} tidak akan mengirimi Anda e-mail lagi. Kartu Anda tetap ada.",
        "button": "Berhenti menerima e-mail",
        "done": "Selesai",
        "done_why": "Anda tidak lagi menerima kabar {business} lewat e-mail. Kartu Anda tetap ada.",
        "gone": "Tautan ini bukan milik kami",
        "why": "Tautan tidak lengkap. Pakai tautan di e-mail terbaru.",
    },
}


async def leave_mails(request: Request) -> Response:
    """GET asks; POST ends the consent to e-mail. A repeat is answered as the first time."""
    deployment: Deployment = request.app.state.deployment
    token, asked = request.path_params["token"], request.headers.get("accept-language", "")
    database, secrets = deployment.database, deployment.secrets
    is_done = request.method == "POST"
    if is_done:
        business = await unsubscribe(database, secrets, token, deployment.clock.now())
    else:
        business = await business_of(database, secrets, token)
    if business is None:
        return page("no_card.html", {"logo": None}, asked, _WORDS, status=404)
    told = {"logo": None, "business": business.name, "is_done": is_done}
    language = asked or business.default_language
    return page("unsubscribe.html", told, language, _WORDS, forms=True)
