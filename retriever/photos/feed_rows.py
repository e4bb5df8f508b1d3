"""The rows of a product feed's file, a table or XML, before anything is known of their meaning."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from ...files import decode_text
from .separated import SEPARATORS, csv_rows, first_line, quote_fault, surplus

MOST_BYTES = 512 << 20
_GOOGLE = "{http://base.google.com/ns/1.0}"
_WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}


@dataclass
class FeedRows:
    """The rows of a feed.

    names: the columns. rows: (line, values by column name); of XML the item's number in place of
    the line. faults: (line, reason) of rows and columns that can't be read.
    """

    names: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)


def read_rows(path: Path) -> FeedRows:
    """Read the rows of a feed, which is XML if it begins with `<`.

    Raises:
        OSError: from the file system.
        ValueError: it is larger than MOST_BYTES, no text, no table, or no XML of a feed.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes: a feed has at most {MOST_BYTES}. Split it.")
    content = path.read_bytes()
    wide = next((name for mark, name in _WIDE.items() if content.startswith(mark)), "")
    if wide:
        text = _decoded(path, content, wide)
        if text.lstrip("\ufeff \r\n\t").startswith("<"):
            return _read_xml(path, text.lstrip("\ufeff \r\n\t").encode("utf-8"), "utf-8")
    elif (bare := content.lstrip(b"\xef\xbb\xbf \r\n\t")).startswith(b"<"):
        return _read_xml(path, bare)
    return _read_table(path, _decoded(path, content, wide))


def _decoded(path: Path, content: bytes, wide: str) -> str:
    try:
        return content.decode(wide) if wide else decode_text(content)
    except UnicodeDecodeError as error:
        fault = error
    if not wide:
        try:
            return content.decode("cp1252")  # what Excel saves where nobody chooses
        except UnicodeDecodeError as error:
            fault = error
    raise ValueError(f"{path} is no text ({fault}): save it as UTF-8.") from fault


def _quoting(lines: list[str], separator: str) -> dict[str, int]:
    """Say how quotes are to be read: as letters where tabs part the cells and quotes don't close.

    Most programs that write tabs quote nothing, and a title may begin with a quote.
    """
    if separator == "\t":
        try:
            for _ in csv_rows(lines, separator):
                pass
        except csv.Error:
            return {"quoting": csv.QUOTE_NONE}
    return {}


def _read_table(path: Path, text: str) -> FeedRows:
    lines = list(io.StringIO(text, newline=""))
    separator, start = first_line(lines)
    head = lines[start] if start < len(lines) else ""
    separator = separator or max(SEPARATORS, key=head.count)
    reader = csv_rows(lines[start:], separator, **_quoting(lines[start:], separator))
    try:
        names = next(reader)
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"{path} is no table: its first line is {head[:80]!r}.") from error
    table = FeedRows(list(dict.fromkeys(name for name in names if name.strip())))
    read = [bool(name.strip()) and name not in names[:place] for place, name in enumerate(names)]
    unread: dict[int, int] = {}
    while True:
        line = start + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise ValueError(f"{path} line {line}: {quote_fault(error)}. Mend it.") from error
        if not any(cell.strip() for cell in cells):
            continue
        if reason := surplus(cells, len(names), separator, lines[line - 1]):
            table.faults.append((line, reason))
            continue
        for place, cell in enumerate(cells):
            if not read[place] and cell.strip():
                unread.setdefault(place, line)
        row = {name: cell for name, cell, own in zip(names, cells, read, strict=False) if own}
        table.rows.append((line, row))
    table.faults += [(line, _unread(names, place)) for place, line in unread.items()]
    return table


def _unread(names: Sequence[str], place: int) -> str:
    what = f"named {names[place]!r} again" if names[place].strip() else "without a name"
    return f"column {place + 1} is {what}: its values are not read, give it a name of its own"


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise ValueError("the feed declares a document type, which no product feed needs")


def _read_xml(path: Path, content: bytes, encoding: str | None = None) -> FeedRows:
    # With `encoding`, whatever the file declares.
    if b"<!DOCTYPE" in content[:4096] or b"<!ENTITY" in content:
        raise ValueError(
            f"{path} declares a document type or entities: no product feed needs them."
        )
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype(), encoding=encoding)
        parser.feed(content)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is no XML ({error}): export the feed again.") from error
    items = [e for e in root.iter() if e.tag.rpartition("}")[2] in ("item", "entry")]
    if not items:
        raise ValueError(f"{path} holds no item: expected Google Merchant's RSS or Atom feed.")
    feed = FeedRows()
    for number, item in enumerate(items, start=1):
        row: dict[str, str] = {}
        for child in item:
            name, text = child.tag.rpartition("}")[2], (child.text or "").strip()
            # Google's own names go before RSS's of the same name.
            if child.tag.startswith(_GOOGLE) and name not in ("additional_image_link",):
                row[name] = text
            elif name == "additional_image_link":
                row[name] = "|".join(filter(None, [row.get(name, ""), text]))
            else:
                row.setdefault(name, text)
        feed.rows.append((number, row))
    feed.names = list(dict.fromkeys(name for _, row in feed.rows for name in row))
    return feed
