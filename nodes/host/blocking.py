"""Outputs that stop what is wired to them."""

from __future__ import annotations

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(message: str) -> ExecutionBlocker:
    """A value for one output: nodes behind it are not run, and the page shows the message.

    The other outputs of the node, and what is wired to them, run as ever.
    """
    return ExecutionBlocker(message)
