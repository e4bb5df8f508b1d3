"""The nodes of the second stage: garment photos to pseudo-words in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from comfy_api.latest import io, ui
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.garment.prompts import (
    PAPER_PROMPT,
    category_words,
    scale_garments,
    split_prompt,
    windows,
)
from ..files import atomic_file, check_file_name
from . import sockets
from .host import folders
from .host.memory import ManagedAdapter
from .host.text import TextTower
from .host.vision import vision_features
from .host.watch import Watch

CATEGORY = "FashionRAG/adapter"
FROM_ADAPTER = "from adapter"

_saved = Watch()


class InversionAdapterLoader(io.ComfyNode):
    """Loads an inversion adapter by its tensors, whatever its file is called."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InversionAdapterLoader",
            display_name="Inversion Adapter Loader",
            category=CATEGORY,
            description="Load an inversion adapter: Fashion-RAG's, LaDI-VTON's, or your own. The "
            "published weights of both are CC BY-NC 4.0 (non-commercial).",
            search_aliases=["fashion rag adapter", "textual inversion adapter", "ladi-vton"],
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=list(folders.entries("adapters")),
                    tooltip="A .safetensors or .pth file in models/fashion_rag/adapters. The "
                    "official Fashion-RAG and LaDI-VTON weights are non-commercial (CC BY-NC 4.0).",
                )
            ],
            outputs=[
                sockets.Adapter.Output(
                    display_name="adapter", tooltip="For Garment Textual Inversion."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter_name=None) -> bool | str:
        return folders.exists_or_message("adapters", adapter_name)

    @classmethod
    def fingerprint_inputs(cls, adapter_name=None) -> list:
        return folders.states("adapters", adapter_name)

    @classmethod
    def execute(cls, adapter_name) -> io.NodeOutput:
        return io.NodeOutput(ManagedAdapter.load(folders.resolve("adapters", adapter_name)))


class GarmentTextualInversion(io.ComfyNode):
    """Projects garment photos into pseudo-word token embeddings inside a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentTextualInversion",
            display_name="Garment Textual Inversion",
            category=CATEGORY,
            description="Turn garment photos into pseudo-words of the text encoder and encode the "
            "prompt with them (Fashion-RAG, section III).",
            search_aliases=["pseudo-words", "garment tokens", "fashion rag conditioning"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of the inpainting checkpoint (SD2)."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The vision tower that the adapter was trained with: CLIP ViT-H/14.",
                ),
                sockets.Adapter.Input("adapter", tooltip="From Inversion Adapter Loader."),
                io.String.Input(
                    "prompt",
                    default=PAPER_PROMPT,
                    multiline=True,
                    tooltip="{garments} is where the pseudo-words go, {category} the category in "
                    "words, {caption} the caption below. Weights such as ({garments}:1.2) work. "
                    "The paper's caption form is '{caption}. {garments}'.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Scales the pseudo-words: 1 is the paper, 0 the prompt without them.",
                ),
                io.Combo.Input(
                    "preprocess",
                    options=[FROM_ADAPTER, *PREPROCESS],
                    default=FROM_ADAPTER,
                    tooltip="How photos meet the vision tower. fit: 3:4 on white, then the centre "
                    "square, as the weights were trained; whole: the whole photo in a square; "
                    "paper_stretch: stretched to 3:4 as the official code does.",
                ),
                sockets.Garments.Input(
                    "garments", optional=True, tooltip="From Text Garment Retrieve."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Garment photos of your own, instead of or after the retrieved ones.",
                ),
                io.String.Input(
                    "category",
                    optional=True,
                    default="",
                    tooltip="dresses, upper_body, lower_body, or a word of your own. Empty: that "
                    "of the retrieved garments.",
                ),
                io.String.Input(
                    "caption",
                    optional=True,
                    default="",
                    multiline=True,
                    tooltip="Text for {caption} in the prompt.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The prompt with its pseudo-words."
                ),
                sockets.Tokens.Output(
                    display_name="tokens", tooltip="The pseudo-words, for Garment Tokens Save."
                ),
                io.String.Output(
                    display_name="prompt", tooltip="The prompt as it was encoded, to read."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompt=None, category=None, caption=None, **_) -> list:
        return folders.states_of_embeddings(prompt, category, caption)

    @classmethod
    def execute(
        cls,
        clip,
        clip_vision,
        adapter,
        prompt,
        strength,
        preprocess,
        garments=None,
        images=None,
        category="",
        caption="",
    ) -> io.NodeOutput:
        text_tower = TextTower(clip)
        config = adapter.module.config
        if config.output_width != text_tower.width:
            raise ValueError(
                f"The adapter makes pseudo-words of width {config.output_width}, the text encoder "
                f"has width {text_tower.width}: connect the CLIP that the adapter was trained for "
                "(1024: SD2, 768: SD1)."
            )
        batches, categories = _photos(garments, images)
        own = adapter.module.metadata.get("preprocess", PREPROCESS[0])
        mode = own if preprocess == FROM_ADAPTER else preprocess
        pseudo_words: list[torch.Tensor] = []
        for photos, strengths in batches:
            features = vision_features(clip_vision, photos, mode)
            if features.shape[-1] != config.width:
                raise ValueError(
                    f"The adapter reads image features of width {config.width}, the vision tower "
                    f"gives {features.shape[-1]}: connect the tower that the adapter was trained "
                    "with (1280: CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors)."
                )
            pseudo_words += scale_garments(adapter.pseudo_words(features), strength, strengths)
        words = category_words([category] if category.strip() else categories)
        parts = split_prompt(prompt, words, caption.strip())
        token_windows = windows(
            parts,
            pseudo_words,
            text_tower.tokens,
            start=text_tower.start,
            end=text_tower.end,
            pad=text_tower.padding,
            length=text_tower.length,
        )
        garment_words = f"<{len(pseudo_words)} garments x {config.words} pseudo-words>"
        tokens = torch.cat(pseudo_words) if pseudo_words else torch.zeros(0, config.output_width)
        return io.NodeOutput(
            text_tower.conditioning(token_windows),
            sockets.GarmentTokens(tokens),
            garment_words.join(parts),
        )


def _photos(
    garments: sockets.RetrievedGarments | None, images: torch.Tensor | None
) -> tuple[list[tuple[torch.Tensor, Sequence[float]]], list[str]]:
    """Return batches of photos (n, H, W, 3), a strength each, and the retrieved categories.

    Raises:
        ValueError: neither input is connected.
    """
    if garments is None and images is None:
        raise ValueError(
            "Connect garments (from Text Garment Retrieve) or images (garment photos of your own)."
        )
    batches: list[tuple[torch.Tensor, Sequence[float]]] = []
    if garments is not None:
        batches.append((garments.images, garments.strengths))
    if images is not None:
        batches.append((images, [1.0] * len(images)))
    return batches, [record.category for record in garments.records] if garments else []


class GarmentTokensSave(io.ComfyNode):
    """Saves pseudo-words as a standard textual-inversion embedding."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentTokensSave",
            display_name="Garment Tokens Save",
            category=CATEGORY,
            description="Save pseudo-words as an embedding: `embedding:NAME` then wears the "
            "garment in any CLIP Text Encode, without the adapter.",
            search_aliases=["save embedding", "textual inversion"],
            is_output_node=True,
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="From Garment Textual Inversion."),
                io.String.Input(
                    "name",
                    default="my_garment",
                    tooltip="The file's name in models/embeddings, without an ending.",
                ),
                io.Boolean.Input(
                    "overwrite", default=False, tooltip="Replace an embedding of this name."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="name", tooltip="What to write in a prompt: embedding:NAME."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, tokens=None, name=None, overwrite=None) -> int:
        return _saved.number()

    @classmethod
    def execute(cls, tokens, name, overwrite) -> io.NodeOutput:
        path = embedding_path(folders.embeddings_folder(), name)
        save_embedding(tokens.pseudo_words, path, overwrite)
        _saved.written(path)
        word = f"embedding:{name}"
        return io.NodeOutput(word, ui=ui.PreviewText(f"{word}  ({path})"))


def embedding_path(folder: Path, name: str) -> Path:
    """Find the file of the embedding `name`, which a prompt is to read as `embedding:NAME`.

    Raises:
        ValueError: it can't be a file name, ComfyUI would read another name from the prompt, or
            another file.
    """
    bad = sorted({character for character in name if character.isspace() or character in _ENDS})
    if bad:
        raise ValueError(
            f"name {name!r} holds {' '.join(map(repr, bad))}: `embedding:NAME` in a prompt would "
            "not be read as this name. Expected none of space ( ) [ ] { }: use letters, digits, "
            "'-' and '_'."
        )
    file = check_file_name(name, "name")
    if (folder / file).is_file():
        raise ValueError(
            f"name {name!r} is that of {folder / file}, which `embedding:{name}` in a prompt would "
            "load instead: leave the ending out, or choose another name."
        )
    return folder / f"{file}.safetensors"


_ENDS = "()[]{}"
"""Signs of prompts: ( ) are weights, ComfyUI ends a name at [, and its page chooses of {a|b}."""


def save_embedding(pseudo_words: torch.Tensor, path: Path, overwrite: bool) -> None:
    """Write (n, width) token embeddings as a standard embedding file, in one step.

    A file that holds the same already is left as it is.

    Raises:
        FileExistsError: the file is there with other content, and `overwrite` is off.
        ValueError: there are no pseudo-words to save.
    """
    if not len(pseudo_words):
        raise ValueError("There are no pseudo-words to save: every strength is 0.")
    if path.exists() and not overwrite:
        if _holds(path, pseudo_words):
            return
        raise FileExistsError(f"{path} exists: choose another name or turn on overwrite.")
    with atomic_file(path) as temporary:
        save_file({"emb_params": pseudo_words.contiguous()}, temporary)


def _holds(path: Path, pseudo_words: torch.Tensor) -> bool:
    try:
        (there,) = load_file(path).values()
    except (OSError, ValueError, SafetensorError):
        return False
    return there.dtype == pseudo_words.dtype and torch.equal(there, pseudo_words.cpu())
