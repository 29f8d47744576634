"""The score card shows the judges there are, in the versions that are locked."""

import re

import pytest

from judges.panel import CARD, HERE, NOT_RUN, PANEL, WHEN, card_of, results_on

pytestmark = pytest.mark.on("sqlite")


def test_the_score_card_is_current_but_for_its_figures() -> None:
    shown = CARD.read_text()
    results = results_on(shown)

    assert set(results) == {judge.name for judge in PANEL} | {WHEN}
    assert shown == card_of(results), "run: pytest tests/judges --score-card"


def test_every_judge_has_spoken() -> None:
    assert NOT_RUN not in results_on(CARD.read_text()).values()


def test_every_judge_has_a_test() -> None:
    for judge in PANEL:
        assert (HERE / judge.test).exists(), judge.name


def test_the_lock_names_no_host() -> None:
    lock = (HERE / "package-lock.json").read_text()

    assert re.findall(r'"resolved"|registry', lock) == []
