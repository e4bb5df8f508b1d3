"""The optional inputs of a query, shared by the searching nodes, and the query of their values."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pictures.tensors import to_pictures
from ..retriever.filter_text import read_filter
from ..retriever.query_types import CHUNKS, MAX_POOL, Query

QUERY_OPTIONS = [
    io.Image.Input(
        "reference_images",
        optional=True,
        tooltip="Photos of what the garment should look like, alone (with an empty text) or "
        "together with the text: 'this jacket, but in red'.",
    ),
    io.Float.Input(
        "image_weight",
        default=0.3,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        advanced=True,
        tooltip="What the reference images count against the text: 0 is the text alone, 1 the "
        "images alone. Photos pull harder than words: try 0.2 to 0.4.",
    ),
    io.String.Input(
        "negative_text",
        default="",
        optional=True,
        advanced=True,
        tooltip="What the garment should not look like. Taken off the text, so garments that "
        "resemble it sink in the ranking; to shut something out, use filter.",
    ),
    io.Float.Input(
        "negative_weight",
        default=0.3,
        min=0.0,
        max=2.0,
        step=0.05,
        optional=True,
        advanced=True,
        tooltip="How much of negative_text is taken off. Above 0.5 little is left of the text.",
    ),
    io.Combo.Input(
        "chunks",
        options=list(CHUNKS),
        default="together",
        optional=True,
        advanced=True,
        tooltip="'together' reads the text whole, as the paper does. 'singly' reads each part "
        "between commas, semicolons and line ends by itself and takes their mean, so that every "
        "part counts the same.",
    ),
    io.String.Input(
        "filter",
        default="",
        optional=True,
        advanced=True,
        tooltip="Search only garments whose columns in the catalogue's table match, such as: "
        "price < 80 and brand in ['Acme', 'Bolt']",
    ),
    io.Float.Input(
        "min_score",
        default=-1.0,
        min=-1.0,
        max=1.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip="Leave out garments of a lower cosine similarity. -1 takes all; between text and "
        "photo 0.2 to 0.4 is usual.",
    ),
    io.Float.Input(
        "diversity",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        advanced=True,
        tooltip="0 takes the best; more prefers garments that differ from those taken already "
        "(maximal marginal relevance). Try 0.1 to 0.3.",
    ),
    io.Int.Input(
        "draw_from",
        default=0,
        min=0,
        max=MAX_POOL,
        optional=True,
        advanced=True,
        tooltip="0 takes the best; more draws top_k garments at random from so many of the best.",
    ),
    io.Float.Input(
        "temperature",
        default=0.05,
        min=0.0,
        max=10.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip="Only with draw_from: how evenly it draws, in units of cosine similarity. 0 takes "
        "the best, 0.05 prefers them, 1 gives all about the same chance.",
    ),
    # Named `seed`, the page would give it a control that changes it after every run.
    io.Int.Input(
        "draw_seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        optional=True,
        advanced=True,
        tooltip="Only with draw_from: another number, another draw. It stays as it is, so that "
        "queueing again costs nothing.",
    ),
    io.String.Input(
        "pinned",
        default="",
        multiline=True,
        optional=True,
        advanced=True,
        tooltip="Ids of garments to take in any case, one a line, before all others. They count "
        "towards top_k. Without a column id in the catalogue's table, the id is the file.",
    ),
    io.String.Input(
        "excluded",
        default="",
        multiline=True,
        optional=True,
        advanced=True,
        tooltip="Ids of garments never to take, one a line.",
    ),
    io.Float.Input(
        "words",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=True,
        advanced=True,
        tooltip="How much the words of captions, brands and titles count beside the photos: 0 "
        "goes by the photos alone, 1 by the words alone. With good captions try 0.25 to "
        "0.5. In Milvus this needs version 2.5 or newer.",
    ),
    io.Boolean.Input(
        "auto_min_score",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Leave out garments that match worse than nearly all of the catalogue's own "
        "captions match, as measured when the index was built, so that nothing is found "
        "rather than a poor garment. Only for texts.",
    ),
]

_FIELDS = {
    "negative_text": "negative",
    "filter": "where",
    "draw_seed": "seed",
    "words": "word_weight",
}
"""The fields of `Query` for the inputs of QUERY_OPTIONS that have other names."""


def query_of(text: str, top_k: int, *, category: str | None = None, **options: Any) -> Query:
    """Make the query of a node's inputs.

    Args:
        options: values by the names of QUERY_OPTIONS; one that is missing has `Query`'s default.

    Raises:
        ValueError: see `Query`.
    """
    fields = {_FIELDS.get(name, name): value for name, value in options.items()}
    images = fields.pop("reference_images", None)
    for name in ("pinned", "excluded"):
        fields[name] = lines_of(fields.get(name, ""))
    return Query(
        text=text,
        k=top_k,
        category=category,
        images=() if images is None else tuple(to_pictures(images)),
        **fields,
    )


def filter_error(text: str | None) -> str:
    """Say what is wrong with a filter, "" if nothing is; a linked input (None) is not known yet."""
    try:
        read_filter(text or "id = ''")
    except ValueError as error:
        return str(error)
    return ""


def lines_of(text: str) -> tuple[str, ...]:
    """Split a text of ids into its lines, without empty ones.

    An id may hold commas, spaces, at its ends too, and what other systems end lines with: white
    space around an id that the index lacks is taken off by the search.
    """
    return tuple(line for line in text.split("\n") if line.strip())
