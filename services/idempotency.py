"""Idempotency: what a key did the first time, it is answered to have done ever after."""

import dataclasses
import json
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sqlmodel import col, select

from core.errors import (
    ClaimCodeUsed,
    Code,
    LimitReached,
    Locked,
    Refused,
    TicketAlreadyPlayed,
    VoucherAlreadyRedeemed,
    VoucherHasExpired,
)
from core.ids import prefix_of
from core.secrets import Secrets
from db import BUSINESS, Transaction, param, query
from events.log import events_by_ids
from models import Actor, IdempotencyRecord, Row, row_class_of
from services.operation import Outcome, Shown

O = TypeVar("O", bound=Outcome)  # noqa: E741 -- an outcome

_RECORD = query(
    select(IdempotencyRecord).where(
        col(IdempotencyRecord.business_id) == BUSINESS,
        col(IdempotencyRecord.actor_id) == param("actor_id"),
        col(IdempotencyRecord.mutation) == param("mutation"),
        col(IdempotencyRecord.key) == param("key"),
    )
)
# The operator's calls belong to no business yet: this runs in the name of the system.
_RECORD_OF_OPERATOR = query(
    select(IdempotencyRecord).where(
        col(IdempotencyRecord.actor_id) == "operator",
        col(IdempotencyRecord.mutation) == param("mutation"),
        col(IdempotencyRecord.key) == param("key"),
    )
)


def fingerprint(input: Any, secrets: Secrets) -> str:
    """A keyed digest of what was asked, the key itself left out: an input may hold a password."""
    return secrets.digest(json.dumps(_plain(input), sort_keys=True, ensure_ascii=False))


async def claim(
    tx: Transaction, actor: Actor, mutation: str, key: str, print_: str, now: datetime
) -> tuple[IdempotencyRecord, bool]:
    """Take a key for this call, or find who took it before; says whether it is new.

    A concurrent call with the same key waits up to 2 s for the first to end. Refused if the
    earlier call asked for something else.
    """
    fresh = IdempotencyRecord(
        business_id=actor.business_id,
        actor_id=actor.id,
        mutation=mutation,
        key=key,
        fingerprint=print_,
        created_at=now,
    )
    try:
        if await tx.add_if_new(fresh):
            return fresh, True
    except Locked:
        raise Refused(
            Code.IDEMPOTENCY_KEY_IN_PROGRESS,
            "A call with this idempotency key is still under way.",
            "input",
            "idempotencyKey",
        ) from None
    record = await tx.one(_RECORD, actor_id=actor.id, mutation=mutation, key=key)
    _check_same(record, print_)
    return record, False


async def earlier_of_operator(
    tx: Transaction, mutation: str, key: str, print_: str
) -> IdempotencyRecord | None:
    """The record of an earlier call of the operator, from then on in the business it made.

    Runs in the name of the system. Refused if that call asked for something else.
    """
    record = await tx.maybe(_RECORD_OF_OPERATOR, mutation=mutation, key=key)
    if record is not None:
        _check_same(record, print_)
        tx.business = record.business_id
    return record


async def keep_of_operator(
    tx: Transaction, mutation: str, key: str, print_: str, now: datetime, outcome: Outcome
) -> None:
    """Store what came of a call of the operator, in the business it made."""
    await tx.add(
        IdempotencyRecord(
            business_id=tx.business or "",
            actor_id="operator",
            mutation=mutation,
            key=key,
            fingerprint=print_,
            outcome=_stored(outcome),
            created_at=now,
        )
    )


async def keep(tx: Transaction, record: IdempotencyRecord, outcome: Outcome) -> None:
    """Store what came of a claimed call: ids and refusals, never a secret or personal data."""
    await tx.change(record, outcome=_stored(outcome))


async def replay(tx: Transaction, record: IdempotencyRecord, kind: type[O]) -> O:
    """The outcome of an earlier call, its objects read afresh."""
    stored, hints = record.outcome or {}, get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, item in stored.items():
        if name == "user_errors":
            values[name] = [_refusal(error) for error in item]
        elif name == "events":
            values[name] = await events_by_ids(tx, item)
        elif "row" in item:
            values[name] = await _row(tx, item["row"])
        elif "rows" in item:
            rows = [await _row(tx, id) for id in item["rows"]]
            values[name] = [row for row in rows if row is not None]
        elif "shown" in item:
            values.setdefault("user_errors", []).append(
                Refused(
                    Code.SECRET_ALREADY_SHOWN,
                    "The secret was shown when this was done first, and is not kept.",
                )
            )
        else:
            values[name] = _typed(item["value"], hints[name])
    return kind(**values)


def _typed(value: Any, hint: Any) -> Any:
    """A value that was stored as JSON, as its field's annotation has it."""
    if value is None:
        return None
    parts = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is list:
        return [_typed(item, parts[0]) for item in value]
    if parts:
        return _typed(value, parts[0])
    if hint is datetime:
        return datetime.fromisoformat(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        inner = get_type_hints(hint)
        return hint(**{name: _typed(part, inner[name]) for name, part in value.items()})
    return value


def _check_same(record: IdempotencyRecord, print_: str) -> None:
    if record.fingerprint != print_:
        raise Refused(
            Code.IDEMPOTENCY_KEY_REUSED,
            "This idempotency key was used for another input.",
            "input",
            "idempotencyKey",
        )


def _stored(outcome: Outcome) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    for item in dataclasses.fields(outcome):
        value = getattr(outcome, item.name)
        if item.name == "user_errors":
            stored[item.name] = [_plain_refusal(error) for error in value]
        elif item.name == "events":
            stored[item.name] = [row.id for row in value]
        elif isinstance(value, Row):
            stored[item.name] = {"row": value.__dict__["id"]}
        elif isinstance(value, list) and value and isinstance(value[0], Row):
            stored[item.name] = {"rows": [row.__dict__["id"] for row in value]}
        elif isinstance(value, Shown):
            stored[item.name] = {"shown": True}
        elif value is not None:
            stored[item.name] = {"value": _plain(value)}
    return stored


async def _row(tx: Transaction, id: str) -> Row | None:
    cls = row_class_of(prefix_of(id))
    return None if cls is None else await tx.get(cls, id)


def _plain_refusal(error: Refused) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "facts": error.facts(),
    }


def _refusal(stored: dict[str, Any]) -> Refused:
    code, facts, where = Code(stored["code"]), stored["facts"], stored["field"] or []
    moments = {
        name: datetime.fromisoformat(value)
        for name, value in facts.items()
        if name.endswith("_at") and value
    }
    if code is Code.VOUCHER_ALREADY_REDEEMED:
        return VoucherAlreadyRedeemed(moments["redeemed_at"], facts["redeemed_by_id"])
    if code is Code.VOUCHER_EXPIRED:
        return VoucherHasExpired(moments["expired_at"])
    if code is Code.TICKET_ALREADY_PLAYED:
        return TicketAlreadyPlayed(facts["ticket_id"], moments["played_at"])
    if code is Code.CLAIM_CODE_USED:
        return ClaimCodeUsed(moments["claimed_at"])
    if code is Code.LIMIT_REACHED:
        return LimitReached(stored["message"], *where, retry_at=moments.get("retry_at"))
    return Refused(code, stored["message"], *where)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.name != "idempotency_key"
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if key != "idempotency_key"}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
