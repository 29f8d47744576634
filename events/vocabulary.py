"""The two vocabularies of the wire: English, and the words of the reference text.

The table is closed: thirteen event names, seven keys, six values, and nothing else is ever
translated. The Indonesian body follows from the English one alone, and back.
"""

from functools import lru_cache
from typing import Any

import orjson

from events.base import event_types
from models import Vocabulary

EVENTS = {
    "card_issued": "kartu_diterbitkan",
    "card_saved": "kartu_disimpan",
    "card_opened": "kartu_opened",
    "stamp_added": "Stamp_ditambahkan",
    "goal_reached": "target_reached",
    "reward_issued": "hadiah_diterbitkan",
    "voucher_issued": "voucher_diterbitkan",
    "voucher_redeemed": "voucher_ditebus",
    "voucher_expired": "voucher_kedaluwarsa",
    "lottery_played": "lotere_played",
    "birthday_reached": "birthday_reached",
    "inactivity_trigger": "inactivity_trigger",
    "campaign_sent": "kampanye_sent",
}
KEYS = {
    "business_id": "bisnis_id",
    "location_id": "lokasi_id",
    "customer": "pelanggan",
    "card": "kartu",
}
"""Keys of the body itself."""
CARD_KEYS = {"goal_index": "target_index"}
VOUCHER_KEYS = {"redeemed_via": "ditebus_via"}
STATUSES = {
    "redeemed": "ditebus",
    "issued": "diterbitkan",
    "expired": "kedaluwarsa",
    "active": "aktif",
}
"""Values of `voucher.status`."""
ROUTES = {"staff_scanner": "staf_pemindai"}
"""Values of `voucher.redeemed_via`."""


def type_named(word: str) -> str | None:
    """The event type of a word of either vocabulary, in any case; None for any other word."""
    wanted = word.strip().lower()
    return next(
        (name for name in event_types() if wanted in (name, EVENTS.get(name, name).lower())),
        None,
    )


@lru_cache(4096)
def payload(body: str, vocabulary: Vocabulary) -> str:
    """The text of an event in a vocabulary, from its English text: exactly what is signed."""
    return body if vocabulary is Vocabulary.EN else to_indonesian(body)


def to_indonesian(body: str) -> str:
    """The body in the words of the reference text."""
    return _translate(body, EVENTS, KEYS, CARD_KEYS, VOUCHER_KEYS, STATUSES, ROUTES)


def to_english(body: str) -> str:
    """The body in English, from the words of the reference text."""
    tables = (EVENTS, KEYS, CARD_KEYS, VOUCHER_KEYS, STATUSES, ROUTES)
    return _translate(body, *({word: key for key, word in table.items()} for table in tables))


def _translate(
    body: str,
    events: dict[str, str],
    keys: dict[str, str],
    card_keys: dict[str, str],
    voucher_keys: dict[str, str],
    statuses: dict[str, str],
    routes: dict[str, str],
) -> str:
    said = orjson.loads(body)
    told = _rename(said, keys)
    told["event"] = events.get(said["event"], said["event"])
    for key in ("card", "kartu"):
        if isinstance(told.get(key), dict):
            told[key] = _rename(told[key], card_keys)
    if isinstance(told.get("voucher"), dict):
        voucher = _rename(told["voucher"], voucher_keys)
        for key, table in (("status", statuses), ("redeemed_via", routes), ("ditebus_via", routes)):
            if key in voucher:
                voucher[key] = table.get(voucher[key], voucher[key])
        told["voucher"] = voucher
    return orjson.dumps(told).decode()


def _rename(said: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in said.items()}
