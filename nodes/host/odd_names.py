"""File names that are no text, kept out of what ComfyUI can't write.

On Linux a name may hold bytes that are no UTF-8, such as those of a zip file from a Windows of
another language. Python keeps them as halves of characters, at which ComfyUI's log fails: a page
then never gets its list of nodes, or the thread that runs prompts ends. So they are escaped in two
places, whatever the message: before the log gets it, and where an error leaves a node.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from comfy_api.latest import io

from ...files import escaped


class _Escaping(logging.Handler):
    """Escapes a record's message; the handlers of the loggers above write it."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = escaped(record.getMessage()), None


def escape_log(package: str) -> None:
    """Escape the messages of all the loggers of a package."""
    logging.getLogger(package).addHandler(_Escaping())


def with_escaped_errors(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return a node whose `execute` escapes the messages of its errors, which stay what they are.

    What `validate_inputs` returns and `fingerprint_inputs` raises quotes the names already.
    """
    run = node.execute.__func__

    @functools.wraps(run)
    def execute(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        try:
            return run(cls, *args, **inputs)
        except Exception as error:
            _escape(error)
            raise

    node.execute = classmethod(execute)
    return node


def _escape(error: BaseException) -> None:
    """Escape the message of an error and of those that led to it: all of them are logged."""
    seen = set()
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.args = tuple(escaped(part) if isinstance(part, str) else part for part in one.args)
            errors += [one.__cause__, one.__context__]
