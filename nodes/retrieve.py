"""The nodes of the first stage: build an index of a catalogue, load it, search it by text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from comfy_api.latest import io, ui
from PIL import Image

from ..adapter.garment.garment_images import photos_to_batch
from ..categories import CATEGORIES
from ..files import check_file_name
from ..pictures.references import shrink
from ..retriever import gallery
from ..retriever.backends import LocalBackend
from ..retriever.encoders.recipe import PLAIN, RECIPES, as_built, with_recipe
from ..retriever.open_index import (
    categories_of_index,
    names_of_index,
    open_index,
    state_of_index,
)
from ..retriever.photos.catalogue import Garment, strength_of
from ..retriever.photos.cutouts import files_of, with_cutout
from ..retriever.query import retrieve
from ..retriever.search import Hit
from ..retriever.store.index import GarmentIndex
from ..retriever.store.manifest import MANIFEST
from ..retriever.upkeep.refresh import refresh_index
from . import sockets
from .host import folders
from .host.encoders import HostEncoder, open_encoder
from .host.progress import progress_bar
from .host.watch import Watch
from .query_inputs import QUERY_OPTIONS, filter_error, query_of

logger = logging.getLogger(__name__)

ANY = "any"
CATEGORY = "FashionRAG/retrieve"

_written = Watch()
found_photos = Watch()

_HOST_PAIR = [
    io.Clip.Input(
        "clip",
        optional=True,
        tooltip="Only for the encoder 'host': the CLIP of an SD2 checkpoint that keeps its text "
        "projection, such as 512-inpainting-ema.safetensors.",
    ),
    io.ClipVision.Input(
        "clip_vision",
        optional=True,
        tooltip="Only for the encoder 'host': CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors.",
    ),
]


class GarmentIndexBuild(io.ComfyNode):
    """Encodes every photo of a catalogue once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentIndexBuild",
            display_name="Garment Index Build",
            category=CATEGORY,
            description="Encode every garment photo of a catalogue with CLIP and save the index; "
            "run again, bring it up to date. Can be cancelled and goes on where it stopped.",
            search_aliases=["catalogue", "faiss", "embed garments", "fashion rag index"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "catalogue",
                    options=list(folders.entries("catalogues")),
                    tooltip="A folder of garment photos in models/fashion_rag/catalogues, with an "
                    "optional garments.csv or garments.jsonl.",
                ),
                io.Combo.Input(
                    "encoder",
                    options=[*folders.entries("encoders"), folders.HOST_ENCODER],
                    tooltip="The CLIP that embeds the photos: a folder in "
                    "models/fashion_rag/encoders, or 'host', the pair on clip and clip_vision.",
                ),
                io.String.Input(
                    "index_name",
                    default="my_garments",
                    tooltip="The index is saved under this name in models/fashion_rag/indexes. If "
                    "it is there already, it is brought up to date: only new and changed photos "
                    "are encoded.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Encode all photos again, not only new and changed ones. Needed with "
                    "another encoder than the index was built with, and for another catalogue. The "
                    "old index stays in use until the new one is complete.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=32,
                    min=1,
                    max=1024,
                    tooltip="Photos encoded at a time. Less uses less memory.",
                ),
                *_HOST_PAIR,
                io.Combo.Input(
                    "recipe",
                    options=list(RECIPES),
                    default=PLAIN,
                    optional=True,
                    advanced=True,
                    tooltip="'plain' encodes each photo once. 'views' also encodes it padded and "
                    "cropped to a square, and mixes queries with a product-photo prompt: three "
                    "times the work. The index is searched by its own recipe.",
                ),
            ],
            outputs=[
                sockets.Index.Output(
                    display_name="index", tooltip="The index, ready for Text Garment Retrieve."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, catalogue=None, encoder=None) -> bool | str:
        checks = [folders.exists_or_message("catalogues", catalogue)]
        if encoder != folders.HOST_ENCODER:
            checks.append(folders.exists_or_message("encoders", encoder))
        return next((message for message in checks if message is not True), True)

    @classmethod
    def fingerprint_inputs(cls, catalogue=None, encoder=None, **_) -> list:
        return [
            folders.states("catalogues", catalogue),
            folders.states("encoders", encoder),
            _written.number(),
        ]

    @classmethod
    def execute(
        cls,
        catalogue,
        encoder,
        index_name,
        overwrite,
        batch_size,
        clip=None,
        clip_vision=None,
        recipe=PLAIN,
    ) -> io.NodeOutput:
        folder = folders.roots("indexes")[0] / check_file_name(index_name, "index_name")
        encoder = open_encoder(encoder, clip, clip_vision)
        if isinstance(encoder, HostEncoder):
            encoder.check()
        encoder = with_recipe(encoder, recipe)
        root = folders.resolve("catalogues", catalogue)
        report = refresh_index(
            root,
            folder,
            encoder,
            overwrite=overwrite,
            batch_size=batch_size,
            progress=progress_bar(),
        )
        _written.written(folder / MANIFEST)
        index = LocalBackend(GarmentIndex.open(folder, root))
        return io.NodeOutput(
            sockets.LoadedIndex(index, encoder, index_name), ui=ui.PreviewText(report.summary())
        )


class GarmentIndexLoader(io.ComfyNode):
    """Opens an index and the encoder that it was built with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentIndexLoader",
            display_name="Garment Index Loader",
            category=CATEGORY,
            description="Load a garment index together with the encoder that it was built with.",
            search_aliases=["load index", "faiss", "catalogue"],
            inputs=[
                io.Combo.Input(
                    "index_name",
                    options=list(folders.entries("indexes")),
                    tooltip="An index in models/fashion_rag/indexes, or a folder there that names "
                    "one in Milvus.",
                ),
                *_HOST_PAIR,
            ],
            outputs=[
                sockets.Index.Output(
                    display_name="index", tooltip="The index, ready for Text Garment Retrieve."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, index_name=None) -> bool | str:
        return folders.exists_or_message("indexes", index_name)

    @classmethod
    def fingerprint_inputs(cls, index_name=None, clip=None, clip_vision=None) -> list:
        return [
            _states_of_index(path)
            for name, path in folders.entries("indexes").items()
            if index_name is None or name == index_name
        ]

    @classmethod
    def execute(cls, index_name, clip=None, clip_vision=None) -> io.NodeOutput:
        folder = folders.resolve("indexes", index_name)
        index = open_index(folder)
        # The path in the file is untrusted: only a registered catalogue is read.
        index.catalogue_root = folders.resolve("catalogues", index.manifest["catalogue"]["name"])
        built = index.manifest["encoder"]
        encoder = as_built(open_encoder(built["name"], clip, clip_vision), built)
        index.check_encoder(encoder)
        return io.NodeOutput(sockets.LoadedIndex(index, encoder, index_name))


def _states_of_index(path: Path) -> list:
    """Return what changes when an index, its encoder or the place of its catalogue does."""
    encoder, catalogue = names_of_index(path) or (None, None)
    place = folders.entries("catalogues").get(catalogue)
    return [str(path), state_of_index(path), folders.states("encoders", encoder), str(place)]


class TextGarmentRetrieve(io.ComfyNode):
    """Searches the index by text, reference images and filters."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TextGarmentRetrieve",
            display_name="Text Garment Retrieve",
            category=CATEGORY,
            description="Find the garments of the index that match a text best and show them with "
            "their cosine similarities.",
            search_aliases=["search garments", "retrieval", "find clothes", "rag"],
            inputs=[
                sockets.Index.Input(
                    "index", tooltip="From Garment Index Loader or Garment Index Build."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="blue denim jacket with metal buttons",
                    tooltip="What the person should wear, in plain English words: most encoders "
                    "know no other language. What it should not be ('not red', 'without sleeves') "
                    "goes into negative_text.",
                ),
                io.Combo.Input(
                    "category",
                    options=category_choices(),
                    default=ANY,
                    tooltip="Search only garments of this category. The list holds those of all "
                    "indexes in models/fashion_rag/indexes; press R after building one.",
                ),
                io.Int.Input(
                    "top_k",
                    default=3,
                    min=1,
                    max=64,
                    tooltip="How many garments to take, best first. The paper uses 1 to 3. Photos "
                    "with one item_group_id in the catalogue's table are one garment.",
                ),
                *QUERY_OPTIONS,
            ],
            outputs=[
                sockets.Garments.Output(
                    display_name="garments", tooltip="The garments, for Garment Textual Inversion."
                ),
                io.Image.Output(
                    display_name="images",
                    tooltip="Their photos as one batch on white, for previews, IP-Adapter and "
                    "Redux. Image editors see its first picture alone: use Garment References.",
                ),
                io.String.Output(
                    display_name="scores",
                    tooltip="One line a garment: cosine similarity, file, caption.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, category=None, filter=None) -> bool | str:
        # Free categories of a catalogue are allowed; an unknown one is reported by the search.
        return filter_error(filter) or True

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        return found_photos.number()

    @classmethod
    def execute(cls, index, text, category, top_k, **options) -> io.NodeOutput:
        query = query_of(text, top_k, category=None if category == ANY else category, **options)
        (result,) = retrieve(index.index, index.encoder, [query])
        if not result.hits:
            raise ValueError(f"Nothing is found. {result.note}")
        hits = result.hits
        garments = garments_of(index, hits)
        lines = [f"{h.score:.4f}  {h.garment.file}  {h.garment.caption}".rstrip() for h in hits]
        lines += result.note.splitlines()
        shown = {"garments": gallery.shown(result)["hits"], "index": [index.name]}
        return io.NodeOutput(garments, garments.images, "\n".join(lines), ui=shown)


def garments_of(index: sockets.LoadedIndex, hits: Sequence[Hit]) -> sockets.RetrievedGarments:
    """Collect the garments found, with their photos from the catalogue and their cut-outs."""
    root = index.index.catalogue_root
    found_photos.seen(file for hit in hits for file in files_of(root, hit.garment))
    photos = [index.index.photo(hit.garment) for hit in hits]
    kept = [
        kept_photo(*with_cutout(root, hit.garment, photo))
        for hit, photo in zip(hits, photos, strict=True)
    ]
    return sockets.RetrievedGarments(
        records=tuple(hit.garment for hit in hits),
        scores=tuple(hit.score for hit in hits),
        strengths=tuple(own_strength(hit.garment) for hit in hits),
        images=photos_to_batch(photos),
        photos=tuple(photo for photo, _ in kept),
        masks=tuple(mask for _, mask in kept),
    )


def kept_photo(
    photo: Image.Image, mask: Image.Image | None
) -> tuple[Image.Image, Image.Image | None]:
    """Shrink a photo and its mask to KEPT_MEGAPIXELS, the size that travels with the garments."""
    limit = sockets.KEPT_MEGAPIXELS
    return shrink(photo, limit), None if mask is None else shrink(mask, limit)


def own_strength(garment: Garment) -> float:
    """Return the garment's own strength: the catalogue's column `strength`, 1 where it is empty.

    A value that is no number from 0 to 2 counts as 1: the column may mean something else.
    """
    value = garment.metadata.get("strength", "")
    strength = strength_of(value)
    if strength is None:
        logger.warning(
            "The strength %r of %s in its catalogue is no number from 0 to 2: it counts as 1.",
            value,
            garment.file,
        )
        return 1.0
    return strength


def category_choices() -> list[str]:
    """List the choices of `category`: any, the paper's three, those of the indexes found."""
    own = {
        name for path in folders.entries("indexes").values() for name in categories_of_index(path)
    }
    return [ANY, *CATEGORIES, *sorted(own - {ANY, *CATEGORIES})]
