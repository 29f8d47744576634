"""errors.md: every code that an answer can carry."""

import inspect
from collections.abc import Iterator
from enum import StrEnum

from core import errors
from docs.generate.shared import NOTE, said, table

_BESIDE = {
    errors.RateLimited.code: "`retryAfterMs`",
    errors.CursorExpired.code: "`oldestCursor`",
}
"""What denials carry beside their code."""
REQUEST_CODES = {
    "GRAPHQL_PARSE_FAILED": "The document is not GraphQL.",
    "GRAPHQL_VALIDATION_FAILED": "The document does not fit the schema.",
    "OPERATION_RESOLUTION_FAILURE": "No operation of this name, or several and none was chosen.",
    "BAD_REQUEST": "The request itself is wrong: its media type, size or JSON.",
    "INTERNAL_SERVER_ERROR": "Our fault. `requestId` is in our log; please tell it to us.",
}
"""The top-level codes that no class of core/errors.py has: execution/ gives them."""


def the_errors() -> str:
    """Every code that an answer can carry."""
    parts = [
        NOTE,
        "# Errors",
        (
            "Stampwire says no in two places. A **refusal** is an expected no of the programme's "
            "rules: it stands in the payload's `userErrors`, nothing was changed, and asking again "
            "gives the same answer until something changes. An **error at top level** (`errors` "
            "with `extensions.code`) means that the call was not understood, not allowed, came too "
            "fast, or failed by our fault. Codes are part of the public API; messages are for "
            "people and may change."
        ),
        "## Refusals: `userErrors[].code`",
        table(
            ("Code", "Meaning", "Type with more data"),
            [
                (f"`{name}`", meaning, _typed().get(name, ""))
                for name, meaning in _value_docs(errors.Code).items()
            ],
        ),
        (
            "Every refusal has `code`, `field` (the path of the input it concerns, or null) and "
            "`message`. Those with a type of their own carry more: "
            "`... on LimitReached { retryAt }`. All others are `Refusal`."
        ),
        "## At top level: `errors[].extensions.code`",
        table(("Code", "Meaning", "Beside it"), list(_top_level())),
    ]
    return "\n\n".join(parts) + "\n"


def _typed() -> dict[str, str]:
    """The GraphQL type of each code that has one with fields of its own."""
    return {
        "LIMIT_REACHED": "`LimitReached`",
        "VOUCHER_ALREADY_REDEEMED": "`VoucherAlreadyRedeemed`",
        "VOUCHER_EXPIRED": "`VoucherHasExpired`",
    }


def _value_docs(kind: type[StrEnum]) -> dict[str, str]:
    lines = (inspect.getdoc(kind) or "").splitlines()
    said = dict(line.split(": ", 1) for line in lines if ": " in line)
    return {name: said[name][0].upper() + said[name][1:] for name in kind.__members__}


def _top_level() -> Iterator[tuple[str, ...]]:
    denials = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.Denied) and kind is not errors.Denied
    ]
    for code in dict.fromkeys(kind.code for kind in denials):
        meanings = [said(kind) for kind in denials if kind.code == code]
        beside = _BESIDE.get(code, "")
        yield f"`{code}`", " ".join(meanings), beside
    for code, meaning in REQUEST_CODES.items():
        yield f"`{code}`", meaning, "`requestId`" if code == "INTERNAL_SERVER_ERROR" else ""
