"""What a pass of Apple's kind says, as its package format has it."""

from html import escape
from typing import Any

from integrations.wallets.apple_pictures import Colour, mixed, rgb
from integrations.wallets.seam import PassFace

_WORDS = {
    "en": {
        "stamps": "STAMPS",
        "left": "NEXT · {left} MORE TO GO",
        "last": "NEXT · ONE MORE TO GO",
        "full": "Your card is full",
        "voucher": "YOUR VOUCHER",
        "vouchers": "YOUR VOUCHERS",
        "news": "News",
        "all": "Your vouchers",
        "number": "Card number",
        "card": "Your card",
        "open": "Open your card",
        "void": "This card is no longer good",
    },
    "id": {
        "stamps": "STEMPEL",
        "left": "BERIKUTNYA · {left} LAGI",
        "last": "BERIKUTNYA · SATU LAGI",
        "full": "Kartu Anda penuh",
        "voucher": "VOUCHER ANDA",
        "vouchers": "VOUCHER ANDA",
        "news": "Kabar",
        "all": "Voucher Anda",
        "number": "Nomor kartu",
        "card": "Kartu Anda",
        "open": "Buka kartu Anda",
        "void": "Kartu ini tidak berlaku lagi",
    },
}


def pass_document(
    face: PassFace, *, pass_type: str, team: str, web_service: tuple[str, str] | None
) -> dict[str, Any]:
    """`pass.json`; `web_service` is where telephones ask for what changed, and their token."""
    words = _WORDS["id" if face.language.lower().startswith("id") else "en"]
    paper, ink = rgb(face.background), rgb(face.foreground)
    document: dict[str, Any] = {
        "formatVersion": 1,
        "passTypeIdentifier": pass_type,
        "teamIdentifier": team,
        "serialNumber": face.serial,
        "organizationName": face.business,
        "description": face.title,
        "logoText": face.business,
        "backgroundColor": _css(paper),
        "foregroundColor": _css(ink),
        "labelColor": _css(mixed(ink, paper, 0.25)),
        # A card is one person's.
        "sharingProhibited": True,
        "voided": face.is_void,
        "storeCard": {
            "headerFields": [_field("stamps", words["stamps"], face.count)],
            # Stamps are drawn on the strip, where Apple would write the primary fields.
            "secondaryFields": [_next_goal(face, words)],
            "auxiliaryFields": _vouchers(face, words),
            "backFields": _back(face, words),
        },
    }
    if not face.is_void:
        document["barcodes"] = [
            {
                "format": "PKBarcodeFormatQR",
                "message": face.token,
                "messageEncoding": "iso-8859-1",
                "altText": face.number,
            }
        ]
    if web_service is not None:
        document["webServiceURL"], document["authenticationToken"] = web_service
    return document


def _next_goal(face: PassFace, words: dict[str, str]) -> dict[str, Any]:
    if face.is_void:
        return _field("next", face.title, words["void"])
    if face.next_goal is None:
        return _field("next", face.title, words["full"])
    label = words["last"] if face.left == 1 else words["left"].format(left=face.left)
    return _field("next", label, face.next_goal)


def _vouchers(face: PassFace, words: dict[str, str]) -> list[dict[str, Any]]:
    if not face.vouchers:
        return []
    more = f" +{len(face.vouchers) - 1}" if len(face.vouchers) > 1 else ""
    label = words["vouchers"] if more else words["voucher"]
    return [_field("voucher", label, f"{face.vouchers[0]}{more}")]


def _back(face: PassFace, words: dict[str, str]) -> list[dict[str, Any]]:
    # A telephone tells of what changes in a field that says how: so it stands here from the first,
    # and says the same in every language until there are any.
    news = _field("news", words["news"], face.news or "–")
    fields = [] if face.is_void else [news | {"changeMessage": "%@"}]
    if face.vouchers:
        fields.append(_field("vouchers", words["all"], "\n".join(face.vouchers)))
    fields.append(_field("number", words["number"], face.number))
    if not face.is_void:
        link = f'<a href="{escape(face.url)}">{words["open"]}</a>'
        fields.append(_field("card", words["card"], face.url) | {"attributedValue": link})
    return [*fields, _field("business", face.title, face.business)]


def _field(key: str, label: str, value: str) -> dict[str, Any]:
    return {"key": key, "label": label, "value": value}


def _css(colour: Colour) -> str:
    return "rgb({}, {}, {})".format(*colour)
