"""How long work reports what it has done: one signature for every callback."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (items done, items in all). It may raise to cancel the work."""


def silent(done: int, total: int) -> None:
    """A `Progress` that reports nothing."""
