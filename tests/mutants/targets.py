"""What is mutated, in groups, and by which tests: fast ones, in one process, on SQLite."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Files that keep one promise together."""

    title: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    at_import: tuple[str, ...] = ()
    """Functions that run while modules are imported: their mutants get a process of their own."""


GROUPS: dict[str, Group] = {
    "guard": Group(
        "Address guard: where nothing is ever sent",
        ("core/guard.py",),
        (
            "tests/core/test_guard.py",
            "tests/core/test_guard_edges.py",
            "tests/webhooks/test_sender.py",
        ),
    ),
    "limits": Group(
        "Limits: how much one may ask, and how often one may guess",
        (
            "core/buckets.py",
            "services/guesses.py",
            "services/throttles.py",
            "execution/cost.py",
            "execution/documents.py",
            "execution/prices.py",
        ),
        (
            "tests/core/test_buckets.py",
            "tests/execution",
            "tests/services/test_guesses.py",
            "tests/services/test_throttles.py",
            "tests/services/test_sign_ins.py",
            "tests/services/test_password_resets.py",
            "tests/api/test_cost.py",
            "tests/api/test_errors.py",
            "tests/attacks/test_guesses.py",
            "tests/attacks/test_limits.py",
            "tests/attacks/test_wire.py",
        ),
    ),
    "authorisation": Group(
        "Authorisation: who may do and see what",
        (
            "services/operation.py",
            "services/access.py",
            "services/access_tokens.py",
            "resolvers/callers.py",
            "models/access_tokens.py",
            "models/api_keys.py",
        ),
        (
            "tests/services/test_access.py",
            "tests/services/test_access_tokens.py",
            "tests/services/test_operation.py",
            "tests/services/test_api_keys.py",
            "tests/services/test_sessions.py",
            "tests/services/test_staff.py",
            "tests/resolvers",
            "tests/api/test_access_tokens.py",
            "tests/api/test_signing_in.py",
            "tests/api/test_cost.py",
        ),
        at_import=("operation",),
    ),
    "ledger": Group(
        "Ledger: stamps, rewards, vouchers, and taking them back",
        (
            "core/money.py",
            "models/cards.py",
            "models/vouchers.py",
            "services/cards.py",
            "services/undo.py",
            "services/vouchers.py",
        ),
        (
            "tests/core/test_money.py",
            "tests/models",
            "tests/services",
            "tests/integrations/test_tills.py",
            "tests/api/test_errors.py",
            "tests/api/test_offline.py",
            "tests/api/test_time.py",
            "tests/events",
            "tests/attacks/test_apart.py",
        ),
    ),
}
ENOUGH = 0.9
"""Each group kills at least so many of its mutants."""
