"""Blocking the nodes behind one output."""

from __future__ import annotations

from comfy_execution.graph_utils import ExecutionBlocker

from ...files import escaped


def blocked(message: str) -> ExecutionBlocker:
    """Make a value for one output that stops the nodes behind it; the page shows the message.

    The node's other outputs, and what is connected to them, work as usual.
    """
    return ExecutionBlocker(escaped(message))
