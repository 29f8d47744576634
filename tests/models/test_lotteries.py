"""The arithmetic of a draw: exact odds, a roll anyone can repeat, frequencies as promised."""

import hashlib
import math
import random
from collections import Counter

import pytest

from models import Variant, VariantType, commitment_of, draw, effective_odds, roll_of

AWARD, VOUCHER = VariantType.AWARD, VariantType.VOUCHER
AGAIN, NOTHING = VariantType.TRY_AGAIN, VariantType.NO_PRIZE


def variants(*told: tuple[VariantType, int]) -> list[Variant]:
    """Outcomes of these types and probabilities, named a, b, c."""
    return [
        Variant(id=name, type=type, probability=probability, name=name.upper())
        for name, (type, probability) in zip("abcdefghij", told, strict=False)
    ]


@pytest.mark.parametrize(
    ("told", "left_out", "odds"),
    [
        ([(AWARD, 2500), (NOTHING, 7500)], "", [2500, 7500]),
        ([(AWARD, 2500), (NOTHING, 7500)], "a", [0, 10_000]),
        ([(AWARD, 1000), (AGAIN, 2000), (NOTHING, 7000)], "b", [1000, 0, 9000]),
        ([(AWARD, 1000), (AGAIN, 2000), (NOTHING, 7000)], "ab", [0, 0, 10_000]),
        # Two blanks share by their own weight.
        ([(AWARD, 4000), (NOTHING, 4000), (NOTHING, 2000)], "a", [0, 6667, 3333]),
        # No blank: all that remain share; the largest remainder gets the odd unit.
        ([(AWARD, 5000), (VOUCHER, 2500), (AWARD, 2500)], "a", [0, 5000, 5000]),
        ([(AWARD, 1), (VOUCHER, 3333), (AWARD, 3333), (AWARD, 3333)], "a", [0, 3334, 3333, 3333]),
        ([(AWARD, 9998), (VOUCHER, 1), (AWARD, 1)], "a", [0, 5000, 5000]),
        ([(AWARD, 100), (VOUCHER, 3300), (AWARD, 6600)], "a", [0, 3333, 6667]),
        ([(AWARD, 9999), (VOUCHER, 1)], "a", [0, 10_000]),
        # A blank that is left out itself is no heir.
        ([(AWARD, 4000), (NOTHING, 6000)], "b", [10_000, 0]),
    ],
)
def test_what_is_left_out_gives_its_weight_away(
    told: list[tuple[VariantType, int]], left_out: str, odds: list[int]
) -> None:
    assert effective_odds(variants(*told), left_out) == odds


def test_odds_always_sum_to_certainty_and_keep_their_order() -> None:
    chance = random.Random(7)

    for _ in range(2_000):
        cuts = sorted(chance.sample(range(1, 10_000), chance.randint(1, 9)))
        weights = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
        told = variants(*[(chance.choice(list(VariantType)), weight) for weight in weights])
        left_out = {item.id for item in told[1:] if chance.random() < 0.4}
        odds = effective_odds(told, left_out)

        assert sum(odds) == 10_000
        assert all(
            (weight == 0) == (item.id in left_out) for item, weight in zip(told, odds, strict=True)
        )
        assert all(
            weight >= item.probability
            for item, weight in zip(told, odds, strict=True)
            if item.id not in left_out
        )


def test_nothing_can_be_drawn_from_nothing() -> None:
    with pytest.raises(ValueError, match="Nothing is left"):
        effective_odds(variants((AWARD, 10_000)), "a")


@pytest.mark.parametrize(
    ("seed", "roll"),
    [("00" * 32, 3915), ("ff" * 32, 3329), ("0123456789abcdef" * 4, 8291)],
)
def test_the_roll_follows_from_the_seed_alone(seed: str, roll: int) -> None:
    first = hashlib.sha256(f"{seed}:0".encode()).hexdigest()[:16]

    assert int(first, 16) % 10_000 == roll
    assert roll_of(seed) == roll


def test_a_number_that_would_favour_small_rolls_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = iter([2**64 - 1, 2**64 - 1616, 2**64 - 1617])

    class Digest:
        def __init__(self, _: bytes) -> None:
            """Whatever was asked."""

        def digest(self) -> bytes:
            return next(numbers).to_bytes(8, "big")

    monkeypatch.setattr("models.lotteries.hashlib.sha256", Digest)

    assert roll_of("seed") == 9999


def test_the_commitment_is_the_digest_of_the_seed_as_text() -> None:
    seed = "0123456789abcdef" * 4

    assert commitment_of(seed) == hashlib.sha256(seed.encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    ("roll", "won"), [(0, "a"), (2499, "a"), (2500, "b"), (2501, "c"), (9999, "c")]
)
def test_the_roll_falls_on_the_outcome_whose_part_it_is(
    roll: int, won: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.lotteries.roll_of", lambda _: roll)

    drawn = draw("seed", variants((AWARD, 2500), (VOUCHER, 1), (NOTHING, 7499)))

    assert (drawn.roll, drawn.outcome.id) == (roll, won)


def test_the_same_seed_always_draws_the_same() -> None:
    told = variants((AWARD, 2500), (AGAIN, 2500), (NOTHING, 5000))

    assert draw("5eed", told) == draw("5eed", told)
    assert draw("5eed", told).roll == draw("5eed", told, {"b"}).roll


@pytest.mark.parametrize("left_out", [set(), {"b"}])
def test_a_hundred_thousand_draws_keep_the_odds(left_out: set[str]) -> None:
    told = variants((AWARD, 1), (VOUCHER, 2499), (AGAIN, 2500), (NOTHING, 5000))
    draws = 100_000
    seeds = random.Random(20_260_302)

    drawn = Counter(
        draw(f"{seeds.getrandbits(256):064x}", told, left_out).outcome.id for _ in range(draws)
    )

    for item, weight in zip(told, effective_odds(told, left_out), strict=True):
        chance = weight / 10_000
        sigma = math.sqrt(draws * chance * (1 - chance))
        assert abs(drawn[item.id] - draws * chance) <= 4 * sigma, item.id
