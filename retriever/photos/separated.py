"""What tables of separated values have in common: encoding, Excel's `sep=`, cells to spare."""

from __future__ import annotations

import csv
from collections.abc import Sequence

SEPARATORS = ",;\t|"

_ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))
_TYPOGRAPHIC = "“”„«»"


def decode(content: bytes) -> str:
    """Decode UTF-16 by its byte order mark, anything else as UTF-8.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return content.decode(next(name for mark, name in _ENCODINGS if content.startswith(mark)))


def first_line(lines: Sequence[str]) -> tuple[str, int]:
    """Find the separator that a first line `sep=;` tells ('' without one), and the header's place.

    Lines of blanks and separators alone are passed over; the place is `len(lines)` where nothing
    else is there.
    """
    separator, start = "", 0
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5:
        separator, start = lines[0][4], 1  # how Excel is told
    while start < len(lines) and not lines[start].strip(" \r\n" + SEPARATORS):
        start += 1
    return separator, start


def surplus(cells: list[str], columns: int, separator: str, line: str) -> str:
    """Say why a row with more cells than columns can't be read; '' for one that can.

    Empty cells at its end are taken away from `cells`.

    Args:
        line: the text of the row's first line.
    """
    while len(cells) > columns and not cells[-1].strip():
        cells.pop()
    if len(cells) <= columns:
        return ""
    reason = (
        f"{len(cells)} values for {columns} columns: put a text that holds {_called(separator)} in "
        'quotes (")'
    )
    if any(mark in line for mark in _TYPOGRAPHIC):
        reason += "; typographic quotes are letters to a CSV file"
    return reason


def quote_fault(error: csv.Error) -> str:
    """Say what a reader of CSV in strict mode found wrong."""
    if "unexpected end of data" in str(error):
        return 'a quote (") is not closed'
    if "expected after" in str(error):
        return 'a quote (") stands inside a text in quotes: write it twice ("")'
    return f"no CSV: {error}"


def _called(separator: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(separator, repr(separator))
