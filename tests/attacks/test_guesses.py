"""Codes and keys cannot be guessed: rows 36 and 44 of the threat table."""

from collections import Counter

import pytest

from core.secrets import is_api_key, is_crockford, new_api_key, new_redeem_code

pytestmark = pytest.mark.on("sqlite")

CODES = 20_000
TOO_MUCH = 110.0
"""Chi-square with 31 degrees of freedom is above it once in ten thousand million tries."""


def test_codes_of_ours_favour_no_symbol_in_any_place() -> None:
    codes = [new_redeem_code() for _ in range(CODES)]

    assert len(set(codes)) == CODES
    assert all(map(is_crockford, codes))
    for place in range(12):
        counts = Counter(code[place] for code in codes)
        due = CODES / 32
        assert len(counts) == 32
        assert sum((count - due) ** 2 / due for count in counts.values()) < TOO_MUCH


def test_a_key_with_any_symbol_changed_is_refused_by_its_checksum_alone() -> None:
    key = new_api_key(test=False)
    prefix = len("7loc_sc_")
    changed = [
        key[:place] + symbol + key[place + 1 :]
        for place in range(prefix, len(key))
        for symbol in "09AZaz"
        if symbol != key[place]
    ]

    assert is_api_key(key)
    assert len(changed) > 200
    assert not any(map(is_api_key, changed))
