"""Instructions for image editors: which garment, on which reference picture, the person is to wear.

dialects.json holds how each family of editors refers to its pictures. An entry, a dialect, has

    editors    names of the editors, for people to read
    pictures   how many pictures they take, the person's first; null: any number
    one        words for a garment: {name} its caption or category, {slot} its picture's number
    several    words for garments of one category, variants to choose from: {kind}, {list}
    prompt     the whole instruction: {garments}
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files import parse_json

KINDS = {
    "dresses": "dress",
    "upper_body": "upper body garment",
    "lower_body": "lower body garment",
}
"""What a garment of each of the paper's categories is called. Not "top" and "bottom": "the bottom
of Picture 2" is a part of the picture."""

LONGEST_NAME = 160
"""Characters of a caption that an instruction quotes; longer ones are cut between words."""

FIRST_SLOT = 2  # the person's picture is number 1
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
# A tokenizer of the editors would take these for its own marks, such as the place of a picture.
_MARK = re.compile(r"<\|[^|<>]*\|>")


@dataclass(frozen=True)
class Dialect:
    """How one family of editors is addressed: an entry of dialects.json (see the module)."""

    editors: str
    pictures: int | None
    one: str
    several: str
    prompt: str

    @property
    def garments(self) -> int | None:
        """How many garments the editors take beside the person; None: any number."""
        return None if self.pictures is None else self.pictures - FIRST_SLOT + 1


def read_dialects() -> dict[str, Dialect]:
    """Read the dialects of dialects.json, by their names."""
    path = Path(__file__).with_name("dialects.json")
    table = parse_json(path.read_text(encoding="utf-8"))
    return {name: Dialect(**values) for name, values in table.items()}


def garment_name(caption: str, category: str) -> str:
    """Name a garment inside a sentence: by its caption, else its category, else "garment".

    Line breaks, an article in front, a full stop at the end and marks such as <|image_pad|> are
    taken off.
    """
    name = " ".join(_MARK.sub(" ", caption).split())
    name = _ARTICLE.sub("", name.rstrip(" .;,"))
    if not name:
        category = " ".join(_MARK.sub(" ", category).split())
        return KINDS.get(category, category) or "garment"
    if name[1:2].islower():  # an abbreviation keeps its capitals
        name = name[0].lower() + name[1:]
    return textwrap.shorten(name, LONGEST_NAME, placeholder=" ...")


def instruction(dialect: Dialect, garments: Sequence[tuple[str, str]]) -> str:
    """Write the sentence that asks an editor to dress the person in these garments.

    Garments of one category are variants of one wish, as a search for one thing finds them, and
    stand together; those without a category each stand for themselves. More garments than the
    dialect takes are left out from the end.

    Args:
        garments: caption and category of each, in the order of their pictures.

    Raises:
        ValueError: there are no garments.
    """
    if not garments:
        raise ValueError("An instruction needs at least one garment.")
    groups: dict[tuple[str, int], list[str]] = {}
    for number, (caption, category) in enumerate(garments[: dialect.garments]):
        name = garment_name(caption, category)
        text = dialect.one.format(name=name, slot=number + FIRST_SLOT)
        groups.setdefault((category, -1 if category else number), []).append(text)
    parts = [
        texts[0]
        if len(texts) == 1
        else dialect.several.format(kind=KINDS.get(category, "garment"), list=_listed(texts))
        for (category, _), texts in groups.items()
    ]
    return dialect.prompt.format(garments=_listed(parts, ", and "))


def _listed(texts: Sequence[str], last: str = " and ") -> str:
    return last.join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
