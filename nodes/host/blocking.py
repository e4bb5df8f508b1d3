"""An output without a value, which stops only what is connected to it."""

from __future__ import annotations

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(message: str) -> ExecutionBlocker:
    """What an output gives in place of a value: nodes connected to it fail with the message."""
    return ExecutionBlocker(message)
