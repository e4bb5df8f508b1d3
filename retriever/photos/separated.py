"""What tables of separated values have in common: Excel's `sep=`, cells to spare, faults."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any

SEPARATORS = ",;\t|"

LARGEST_CELL = 1 << 20
"""Characters; csv's own limit, 131,072, is below some shops' descriptions."""

_TYPOGRAPHIC = "“”„«»"


def csv_rows(lines: Iterable[str], separator: str, **options: Any) -> Any:
    """Return a `csv.reader` in strict mode, which alone says where quotes are left open.

    options: further ones of `csv.reader`.

    Raises:
        csv.Error: while reading; see `quote_fault`.
    """
    # The limit is the whole process's, and is only raised: another thread may be reading too.
    if csv.field_size_limit() < LARGEST_CELL:
        csv.field_size_limit(LARGEST_CELL)
    return csv.reader(lines, delimiter=separator, strict=True, **options)


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
    if "field limit" in str(error):
        return f"a text of more than {LARGEST_CELL:,} characters: shorten it"
    return f"no CSV: {error}"


def _called(separator: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(separator, repr(separator))
