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
)
"""File, function, a pattern of `before → after`, and why it is the same."""


def reason_of(one: dict[str, Any]) -> str:
    """Why a mutant is equivalent; empty if it is not."""
    change = f"{one['before']} → {one['after']}"
    for file, where, pattern, reason in EQUIVALENT:
        if (file, where) == (one["file"], one["where"]) and re.search(pattern, change):
            return reason
    return ""
