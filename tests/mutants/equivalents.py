"""Mutants that no test can tell from the original, each with the reason."""

import re
from typing import Any

EQUIVALENT: tuple[tuple[str, str, str, str], ...] = (
    (
        "core/guard.py",
        "",
        r"2001:DB8|3FFF|64:FF9B",
        "addresses are read the same in capitals",
    ),
    ("core/guard.py", "", r"range\(1025, 65537\)", "no URL names a port above 65535"),
    (
        "core/guard.py",
        "_is_port_allowed",
        r"8444",
        "8443 is admitted twice: as a port above 1024 it is a web server's anyway",
    ),
    (
        "core/guard.py",
        "leads_astray",
        r'XXXX"|or 444\)',
        "a URL that passed `check_url` has a host, and https has a port",
    ),
    (
        "execution/cost.py",
        "limit_headers",
        r"(?s)→.*\"(ratelimit|RATELIMIT|retry-after|RETRY-AFTER)",
        "names of headers have no case",
    ),
    ("resolvers/callers.py", "secret_of", r"→.*(authorization|AUTHORIZATION)", "read in any case"),
    (
        "services/throttles.py",
        "begin",
        r"zip\(tries, keys, (strict=(None|False))?\)",
        "there is a key for each of them, made a line above",
    ),
    ("services/guesses.py", "Guesses.__init__", r'"misses".*→', "a bucket's name is told nobody"),
    (
        "services/throttles.py",
        "",
        r"UtcTimestamp\(\)",
        "SQLAlchemy takes the type from the column that it is compared with or put into",
    ),
    (
        "services/access_tokens.py",
        "",
        r"_NOW = param",
        "SQLAlchemy takes the type from the column that it is compared with",
    ),
    (
        "services/access.py",
        "",
        r"→ \.join\(Business, (None)?\)",
        "SQLAlchemy joins by the same foreign key if none is told",
    ),
)
"""File, function, a pattern of `before → after`, and why it is the same."""


def reason_of(one: dict[str, Any]) -> str:
    """Why a mutant is equivalent; empty if it is not."""
    change = f"{one['before']} → {one['after']}"
    for file, where, pattern, reason in EQUIVALENT:
        if (file, where) == (one["file"], one["where"]) and re.search(pattern, change):
            return reason
    return ""
