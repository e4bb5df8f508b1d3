"""Text of any script on a picture: Pillow's own font, and the system's for the letters it lacks.

Fonts are looked for in the usual folders of the operating system, by what their files say that
they have; nothing is fetched and nothing is asked of fontconfig.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from PIL import ImageDraw, ImageFont

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont

# Sans serif fonts of much-used scripts, the better ones first; any other font comes after them.
_PREFERRED = (
    "notosanscjk-regular", "notosanscjksc-regular", "notosanssc-regular", "sourcehansanssc-regular",
    "pingfang", "hiragino sans gb", "msyh", "simhei", "wqy-microhei", "wqy-zenhei", "yugothr",
    "meiryo", "malgun", "applesdgothicneo", "droidsansfallbackfull", "droidsansfallback",
    "notosans-regular", "segoeui", "arial unicode", "dejavusans", "liberationsans-regular", "arial",
)  # fmt: skip
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_OUTLINES = (b"glyf", b"CFF ", b"CFF2")
_MOST_FILES, _DEPTH = 4000, 5
_UNSEEN = "\0\u200d" + "".join(map(chr, range(0xFE00, 0xFE10)))
"""Joiners and selectors of the look of a letter, which no font here draws."""
# Accents, joiners and spaces are drawn with the letter before them.
_DEPENDENT = ("Mn", "Me", "Mc", "Cf", "Cc", "Zs", "Zl", "Zp")


def draw_text(
    draw: ImageDraw.ImageDraw, position: tuple[int, int], text: str, size: int, fill: str
) -> None:
    """Draw a line of text of any script, its upper left corner at `position` (x, y)."""
    x, y = position
    baseline = y + _own_font(size).getmetrics()[0]
    for font, part in _runs(text, size):
        draw.text((x, baseline), part, fill=fill, font=font, anchor="ls")
        x += font.getlength(part)


def text_length(text: str, size: int) -> float:
    """Return the width of a line in pixels, as `draw_text` draws it."""
    return sum(font.getlength(part) for font, part in _runs(text, size))


def printable(text: str) -> str:
    """Replace letters that no font has by their code points, such as `[7EA2]`.

    Which letters these are is logged, once each.
    """
    text = text.encode("utf-8", "replace").decode()
    text = "".join(letter for letter in text if letter not in _UNSEEN)
    without = {
        letter
        for letter in set(text)
        if unicodedata.category(letter)[0] not in "CZ"
        and letter not in _own()
        and _system_font(letter) is None
    }
    if not without:
        return text
    if told := "".join(sorted(without - _told)):
        _told.update(without)
        logger.warning(
            "No font of this system has %s: such letters are drawn as their code points. Install a "
            "font that has them, such as Noto Sans (CJK).",
            ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in told[:12])
            + (f" and {len(told) - 12} more" if len(told) > 12 else ""),
        )
    return "".join(f"[{ord(letter):04X}]" if letter in without else letter for letter in text)


_told: set[str] = set()


def _runs(text: str, size: int) -> Iterator[tuple[Font, str]]:
    """Split the text into parts of one font each."""
    part, font = "", _own_font(size)
    for letter in text:
        if _is_dependent(letter):
            part += letter
            continue
        path = None if letter in _own() else _system_font(letter)
        wanted = _own_font(size) if path is None else _opened(path, size)
        if wanted is not font and part:
            yield font, part
            part = ""
        font = wanted
        part += letter
    if part:
        yield font, part


def _is_dependent(letter: str) -> bool:
    return unicodedata.category(letter) in _DEPENDENT


@lru_cache
def _own_font(size: int) -> Font:
    font = ImageFont.load_default(size)
    if not isinstance(font, Font):
        raise ImportError(
            "Pillow was built without FreeType and writes no text of this size: "
            "pip install --force-reinstall pillow"
        )
    return font


@lru_cache
def _own() -> frozenset[str]:
    """Return the letters of Pillow's own font."""
    file = _own_font(15).path
    letters = Letters(cast(BinaryIO, file))  # which Pillow keeps in memory
    return frozenset(chr(code) for code in range(32, 0x2600) if letters.has(code))


@lru_cache(maxsize=256)
def _opened(path: Path, size: int) -> Font:
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=20_000)
def _system_font(letter: str) -> Path | None:
    """Find the first font of the system that has a letter."""
    for path in _font_files():
        letters = _letters(path)
        if letters is not None and letters.has(ord(letter)):
            try:
                _opened(path, 15)
            except OSError:
                continue
            return path
    return None


@cache
def _letters(path: Path) -> Letters | None:
    try:
        with open(path, "rb") as file:
            return Letters(file)
    except (OSError, ValueError, struct.error, IndexError) as error:
        logger.debug("The font %s is passed over: %s", path, error)
        return None


@lru_cache
def _font_files() -> tuple[Path, ...]:
    """List the system's outline fonts: preferred ones first, slanted and heavy ones last."""
    found: list[Path] = []
    for folder in font_folders():
        for root, folders, names in os.walk(folder):
            if len(Path(root).parts) - len(folder.parts) >= _DEPTH:
                folders.clear()
            found += [Path(root, name) for name in names if name.lower().endswith(_SUFFIXES)]
            if len(found) > _MOST_FILES:
                break
    return tuple(sorted(found, key=_rank))


def font_folders() -> list[Path]:
    """Return the folders where the operating system keeps fonts."""
    home = Path.home()
    if sys.platform == "win32":
        own = os.environ.get("LOCALAPPDATA", str(home / "AppData/Local"))
        return [
            Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),
            Path(own, "Microsoft/Windows/Fonts"),
        ]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    shared = [Path(folder, "fonts") for folder in data.split(":") if folder]
    return [*shared, Path("/usr/X11R6/lib/X11/fonts"), home / ".local/share/fonts", home / ".fonts"]


def _rank(path: Path) -> tuple[int, int, str]:
    name = path.stem.lower()
    preferred = next(
        (place for place, wanted in enumerate(_PREFERRED) if name.startswith(wanted)),
        len(_PREFERRED),
    )
    styled = sum(word in name for word in ("bold", "italic", "oblique", "light", "black", "mono"))
    return preferred if not styled else len(_PREFERRED), styled, str(path)


class Letters:
    """The letters that a font file (TrueType, OpenType, or the first of a collection) has.

    Raises:
        ValueError: no such file, one of bitmaps alone, or without a Unicode table.
    """

    def __init__(self, file: BinaryIO):
        def read(place: int, size: int) -> bytes:
            file.seek(place)
            return file.read(size)

        start = struct.unpack(">I", read(12, 4))[0] if read(0, 4) == b"ttcf" else 0
        (count,) = struct.unpack(">H", read(start + 4, 2))
        tables = {}
        for name, _, place, size in struct.iter_unpack(">4sIII", read(start + 12, 16 * count)):
            tables[name] = (place, size)
        if b"cmap" not in tables or not any(name in tables for name in _OUTLINES):
            raise ValueError("it has no outlines, or no table of letters")
        self._map = read(*tables[b"cmap"])
        (count,) = struct.unpack_from(">H", self._map, 2)
        best: tuple[int, int] | None = None
        for number in range(count):
            platform, encoding, offset = struct.unpack_from(">HHI", self._map, 4 + 8 * number)
            (kind,) = struct.unpack_from(">H", self._map, offset)
            if kind in (4, 12) and (platform == 0 or (platform == 3 and encoding in (1, 10))):
                best = max(best or (0, 0), (kind, offset))
        if best is None:
            raise ValueError("it has no table of Unicode letters")
        self._kind, self._offset = best

    def has(self, code: int) -> bool:
        """Tell whether the font has a glyph for a code point."""
        return (self._in_groups if self._kind == 12 else self._in_segments)(code)

    def _in_groups(self, code: int) -> bool:
        (count,) = struct.unpack_from(">I", self._map, self._offset + 12)
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            first, last, glyph = struct.unpack_from(
                ">III", self._map, self._offset + 16 + 12 * middle
            )
            if code > last:
                low = middle + 1
            elif code < first:
                high = middle
            else:
                return glyph + code - first != 0
        return False

    def _in_segments(self, code: int) -> bool:
        if code > 0xFFFF:
            return False
        table, twice = self._offset, struct.unpack_from(">H", self._map, self._offset + 6)[0]
        low, high = 0, twice // 2
        while low < high:
            middle = (low + high) // 2
            if code > struct.unpack_from(">H", self._map, table + 14 + 2 * middle)[0]:
                low = middle + 1
            else:
                high = middle
        if low == twice // 2:
            return False
        starts, deltas, offsets = (table + 16 + twice * n + 2 * low for n in (1, 2, 3))
        (first,) = struct.unpack_from(">H", self._map, starts)
        if code < first:
            return False
        (delta,) = struct.unpack_from(">H", self._map, deltas)
        (offset,) = struct.unpack_from(">H", self._map, offsets)
        if offset == 0:
            return (code + delta) & 0xFFFF != 0
        return struct.unpack_from(">H", self._map, offsets + offset + 2 * (code - first))[0] != 0
