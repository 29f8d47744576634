"""Passwords outside of tests: hashed by argon2id, with the library's recommended cost."""

import pytest
from argon2 import Type, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

import core.secrets
from conftest import TRUE_HASHER
from core.secrets import password_digest, password_matches


def test_what_is_stored_of_a_password_is_dear_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.secrets, "_passwords", TRUE_HASHER)

    digest = password_digest("correct horse")

    assert extract_parameters(digest) == RFC_9106_LOW_MEMORY
    assert extract_parameters(digest).type is Type.ID
    assert password_matches(digest, "correct horse")
    assert not password_matches(digest, "wrong horse")
    assert password_digest("correct horse") != digest
