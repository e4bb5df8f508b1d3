"""The node for an outfit in words: one garment a line, each found in its own category."""

from __future__ import annotations

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..categories import CATEGORIES
from ..pictures.contact_sheet import contact_sheet
from ..retriever.outfit import Outfit, read_outfit, retrieve_outfit
from . import sockets
from .host.blocking import blocked
from .query_inputs import QUERY_OPTIONS, filter_error, query_of
from .retrieve import CATEGORY, found_photos, garments_of

# These belong to one garment, not to an outfit.
_OF_ONE_LINE = ("reference_images", "image_weight", "pinned")


class OutfitRetrieve(io.ComfyNode):
    """Searches the index for several garments at once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OutfitRetrieve",
            display_name="Outfit Retrieve",
            category=CATEGORY,
            description="Find the garments of an outfit, one a line: top and bottom can then be "
            "painted each in its own region.",
            search_aliases=["search outfit", "top and bottom", "several garments", "retrieval"],
            inputs=[
                sockets.Index.Input(
                    "index", tooltip="From Garment Index Loader or Garment Index Build."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="upper_body: white linen shirt\nlower_body: dark blue jeans",
                    tooltip="One garment a line, in plain words. A category may stand before a "
                    "colon; without one it is chosen by what is nearest in the catalogue.",
                ),
                io.Int.Input(
                    "top_k",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many garments to take for each line, best first.",
                ),
                *(option for option in QUERY_OPTIONS if option.id not in _OF_ONE_LINE),
            ],
            outputs=[
                sockets.Garments.Output(
                    display_name="garments", tooltip="All the garments, line by line."
                ),
                io.Image.Output(
                    display_name="images", tooltip="Their photos as one batch on white."
                ),
                io.String.Output(
                    display_name="scores",
                    tooltip="One line a garment: its line, category, cosine similarity and file; "
                    "then what was left out.",
                ),
                *(
                    sockets.Garments.Output(
                        display_name=category,
                        tooltip=f"Only the garments of the category {category}, for a Garment "
                        "Textual Inversion of its own.",
                    )
                    for category in CATEGORIES
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, filter=None) -> bool | str:
        return filter_error(filter) or True

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        return found_photos.number()

    @classmethod
    def execute(cls, index, text, top_k, **options) -> io.NodeOutput:
        lines, options = read_outfit(text), query_of(text, top_k, **options)
        outfit = retrieve_outfit(index.index, index.encoder, lines, options)
        hits = [hit for part in outfit.parts for hit in part.result.hits]
        garments = garments_of(index, hits)
        tiles = [
            (index.index.thumbnail(hit.garment), f"{hit.score:.3f}\n{part}")
            for part in outfit.parts
            for hit in part.result.hits
        ]
        # Three in a row stay legible at the width of a node.
        sheet = contact_sheet(tiles, columns=3, title="Outfit: cosine similarity")
        preview = torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]
        return io.NodeOutput(
            garments,
            garments.images,
            report(outfit),
            *(_of_category(index, outfit, category) for category in CATEGORIES),
            ui=ui.PreviewImage(preview, cls=cls),
        )


def report(outfit: Outfit) -> str:
    """Write one line for each garment, then the notes."""
    rows = [
        f"{part}: {hit.score:.4f}  {hit.garment.file}"
        for part in outfit.parts
        for hit in part.result.hits
    ]
    return "\n".join([*rows, *outfit.notes])


def _of_category(index: sockets.LoadedIndex, outfit: Outfit, category: str):
    hits = [
        hit for part in outfit.parts for hit in part.result.hits if hit.garment.category == category
    ]
    if hits:
        return garments_of(index, hits)
    found = ", ".join(sorted({part.category or "none" for part in outfit.parts}))
    return blocked(
        f"The outfit has no garment of the category {category} (its categories: {found}): add a "
        f"line '{category}: ...' to Outfit Retrieve, or connect another output."
    )
