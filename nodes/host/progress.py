"""A node's progress bar."""

from __future__ import annotations

import comfy.model_management
import comfy.utils

from ...progress import Progress


def progress_bar() -> Progress:
    """Return a callback (done, total) that moves the node's bar, and raises if it was cancelled."""
    bar: comfy.utils.ProgressBar | None = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        if bar is None:
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return report
