"""Shared by all tests: figures that a run reached, printed at its end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

# Some of the libraries look for newer files on the hub even where a local folder is named.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.stash[FIGURES]:
        terminalreporter.section("figures reached")
        for line in config.stash[FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def record_figure(request) -> Callable[[str, float, float], None]:
    """Call with (what, reached, tolerance): prints the line at the end, and fails if it is over."""

    def record(what: str, reached: float, tolerance: float) -> None:
        request.config.stash[FIGURES].append(f"{what}: {reached:.2g} (tolerance {tolerance:g})")
        assert reached <= tolerance, f"{what}: {reached:.3g} exceeds {tolerance:g}"

    return record
