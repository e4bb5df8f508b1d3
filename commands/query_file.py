"""Reading queries from a file, one a line: texts, or objects in a file that ends in `.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ..files import parse_json
from ..retriever.gallery import read_fields
from ..retriever.query_types import Query

LONGEST = 10_000
"""The most characters of a line; an encoder reads some hundreds of a text."""

_MOST_BYTES = 4 * LONGEST + 2  # with the line's end
_MARK = b"\xef\xbb\xbf"  # that a file is UTF-8, as Windows writes it


def read_queries(path: Path, base: Query) -> Iterator[tuple[int, Query]]:
    """Yield the queries of a UTF-8 file, each after its line's number; empty lines are none.

    A line is a text, or in a file that ends in `.jsonl` an object such as
    `{"text": "red dress", "category": "dresses", "k": 5}` with fields of `Query`.

    Args:
        base: the fields of all queries that their lines do not set.

    Raises:
        OSError: the file can't be read.
        ValueError: a line is no query, too long or not UTF-8, or there is none at all; the message
            names the file and the line.
    """
    there = False
    with open(path, "rb") as file:
        for number, line in _lines(file, path):
            there = True
            try:
                yield number, _query(line, base, path.suffix.lower() == ".jsonl")
            except ValueError as error:
                raise ValueError(f"{path} line {number}: {error}") from error
    if not there:
        raise ValueError(f"{path} holds no query: write one a line.")


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while data := file.readline(_MOST_BYTES):
        number += 1
        where = f"{path} line {number}"
        if number == 1:
            data = data.removeprefix(_MARK)
        if b"\0" in data:
            raise ValueError(
                f"{where} holds a zero byte, as text in UTF-16 does: save the file anew as UTF-8."
            )
        cut = len(data) == _MOST_BYTES and not data.endswith(b"\n")
        try:
            line = "" if cut else data.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where} is no text in UTF-8 ({error}): save the file anew in that encoding."
            ) from error
        if cut or len(line) > LONGEST:
            raise ValueError(
                f"{where} is longer than {LONGEST:,} characters: expected one query a line."
            )
        if line:
            yield number, line


def _query(line: str, base: Query, as_object: bool) -> Query:
    if not as_object:
        return replace(base, text=line)
    try:
        fields = parse_json(line)
    except ValueError as error:
        raise ValueError(f"it is no JSON object ({error}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it is {type(fields).__name__}, expected an object with a text.")
    return replace(base, **{"text": "", **read_fields(fields)})
