"""What Google is told of a card template and of a card, as its REST reference has them."""

from typing import Any

from integrations.wallets.seam import PassFace

_WORDS = {
    "en": {
        "stamps": "Stamps",
        "number": "Card number",
        "next": "Next",
        "left": "{left} more to go",
        "last": "One more to go",
        "full": "Your card is full",
        "again": "The next stamp begins a new card.",
        "vouchers": "Your vouchers",
        "open": "Open your card",
        "void": "This card is no longer good",
    },
    "id": {
        "stamps": "Stempel",
        "number": "Nomor kartu",
        "next": "Berikutnya",
        "left": "{left} lagi",
        "last": "Satu lagi",
        "full": "Kartu Anda penuh",
        "again": "Stempel berikutnya memulai kartu baru.",
        "vouchers": "Voucher Anda",
        "open": "Buka kartu Anda",
        "void": "Kartu ini tidak berlaku lagi",
    },
}


def class_document(
    face: PassFace, id: str, logo_url: str, callback_url: str | None
) -> dict[str, Any]:
    """What Google is told of a card template. Nothing of it is about the holder."""
    document = {
        "id": id,
        "issuerName": face.business,
        "programName": face.title,
        "programLogo": {
            "sourceUri": {"uri": logo_url},
            "contentDescription": {"defaultValue": {"language": "en", "value": face.business}},
        },
        "hexBackgroundColor": face.background,
        "accountIdLabel": _WORDS["en"]["number"],
        "localizedAccountIdLabel": {
            "defaultValue": {"language": "en", "value": _WORDS["en"]["number"]},
            "translatedValues": [{"language": "id", "value": _WORDS["id"]["number"]}],
        },
        # A card is its holder's, on all telephones of hers: so its removal is certain, too.
        "multipleDevicesAndHoldersAllowedStatus": "ONE_USER_ALL_DEVICES",
        # Google asks for this one with each change of a class.
        "reviewStatus": "UNDER_REVIEW",
    }
    return document | ({"callbackOptions": {"url": callback_url}} if callback_url else {})


def object_document(face: PassFace, id: str, class_id: str) -> dict[str, Any]:
    """What Google is told of a card, whole: what a change leaves out would stay as it was."""
    words = _WORDS["id" if face.language.lower().startswith("id") else "en"]
    modules = [_next_goal(face, words)]
    if face.vouchers and not face.is_void:
        body = "\n".join(face.vouchers)
        modules.append({"id": "vouchers", "header": words["vouchers"], "body": body})
    # Without a code it cannot be scanned: a void one shows its number alone.
    kind, value = ("TEXT_ONLY", face.number) if face.is_void else ("QR_CODE", face.token)
    link = {"id": "card", "uri": face.url, "description": words["open"]}
    document = {
        "id": id,
        "classId": class_id,
        "state": "INACTIVE" if face.is_void else "ACTIVE",
        "accountId": face.number,
        "loyaltyPoints": {
            "label": words["stamps"],
            "balance": {"string": face.count},
        },
        "secondaryLoyaltyPoints": {
            "label": words["next"],
            "balance": {"string": "–" if face.is_void else face.next_goal or words["full"]},
        },
        "barcode": {"type": kind, "value": value, "alternateText": face.number},
        "textModulesData": modules,
        "linksModuleData": {"uris": [] if face.is_void else [link]},
    }
    # Nothing that was once written to its holder stays there when she is forgotten.
    return document | ({"messages": []} if face.is_void else {})


def _next_goal(face: PassFace, words: dict[str, str]) -> dict[str, str]:
    header, body = words["full"], words["again"]
    if face.next_goal is not None:
        header = words["last"] if face.left == 1 else words["left"].format(left=face.left)
        body = face.next_goal
    if face.is_void:
        header, body = words["void"], face.business
    return {"id": "next", "header": header, "body": body}
