"""How long recoveries took: measured where they happen, and listed at the end of the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

RECOVERIES = pytest.StashKey[list[tuple[str, float]]]()

Recovered = Callable[[str, float], None]


@pytest.fixture
def recovered(request: pytest.FixtureRequest) -> Recovered:
    """Takes what was recovered from, and the seconds until work went on."""
    found = request.config.stash.setdefault(RECOVERIES, [])
    return lambda what, seconds: found.append((what, seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, seconds in config.stash.get(RECOVERIES, []):
        terminalreporter.write_line(f"recovered after {seconds:6.1f} s: {what}")
