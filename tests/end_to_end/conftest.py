"""Figures that end-to-end tests measure, shown at the end of the run."""

from collections.abc import Callable

import pytest

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured."""

    def say(text: str) -> None:
        request.config.stash.setdefault(_FIGURES, []).append(f"{request.node.name}: {text}")

    return say


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for text in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(f"measured: {text}")
