"""The signature of progress callbacks, by which long work reports what it has done."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (items done, items in all). It may raise to cancel the work."""


def silent(done: int, total: int) -> None:
    """Report nothing: a `Progress` for callers that want none."""
