"""The nodes that hand garments to image editors: one picture an output, and reference latents.

Not as a batch: editors take the first picture of a batch and ignore the others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import node_helpers
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..adapter.garment.instructions import Dialect, garment_name, instruction, read_dialects
from ..pictures.references import MEGAPIXEL, board, pad_to_step, shrink
from ..pictures.tensors import rgb_on_white
from . import sockets
from .host.blocking import blocked

logger = logging.getLogger(__name__)

CATEGORY = "FashionRAG/editors"
SLOTS = 4
STOP, LEAVE_OPEN = "stop", "leave open"
DIALECTS = read_dialects()

_MEGAPIXELS = {"default": 1.0, "min": 0.1, "max": sockets.KEPT_MEGAPIXELS, "step": 0.05}
_OUTPUTS = [
    io.Image.Output(
        display_name=f"image_{number}",
        tooltip=f"Garment {number} by itself, at its own aspect on white.",
    )
    for number in range(1, SLOTS + 1)
]


class GarmentReferences(io.ComfyNode):
    """Gives every garment an output of its own, and the words that an editor needs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentReferences",
            display_name="Garment References",
            category=CATEGORY,
            description="Hand the garments found to an image editor: one picture an output, all on "
            "one board, or one run each, with an instruction in the editor's words.",
            search_aliases=["qwen image edit", "flux 2", "kontext", "reference image", "try-on"],
            inputs=[
                sockets.Garments.Input("garments", tooltip="From Text Garment Retrieve."),
                io.Combo.Input(
                    "dialect",
                    options=list(DIALECTS),
                    default="qwen",
                    tooltip="Whose words the prompt uses. qwen: Qwen-Image-Edit, FireRed (Picture "
                    "2). flux2: FLUX.2 (image 2). kontext: the person left, the board right. "
                    "tryon_lora: fal's LoRA. description: Fill, SDXL.",
                ),
                io.Float.Input(
                    "megapixels",
                    **_MEGAPIXELS,
                    tooltip="The most that a picture may have (1 is 1024 x 1024). Larger ones are "
                    "made smaller; none is enlarged. The board has about so many.",
                ),
                io.Combo.Input(
                    "empty_slots",
                    options=[STOP, LEAVE_OPEN],
                    default=STOP,
                    tooltip="With fewer garments than slots. stop: what is wired to an empty slot "
                    "is left out, and the page says so. leave open: as if nothing were wired; "
                    "only for optional inputs, such as those of Qwen's text encoder.",
                ),
            ],
            outputs=[
                *_OUTPUTS,
                io.Image.Output(
                    display_name="image_list",
                    is_output_list=True,
                    tooltip="Every garment, one run each: a lookbook. Goes with prompt_list.",
                ),
                io.Image.Output(
                    display_name="board",
                    tooltip="All garments on one white board, for editors that take one picture.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="For each picture of image_list: 1 = the garment. From the catalogue's "
                    "column cutout or the photo's transparency, else 1 everywhere.",
                ),
                io.String.Output(
                    display_name="captions",
                    tooltip="One line a garment; without a caption, its category.",
                ),
                io.String.Output(
                    display_name="prompt",
                    tooltip="The instruction for the garments of the slots, the person being "
                    "picture 1.",
                ),
                io.String.Output(
                    display_name="prompt_list",
                    is_output_list=True,
                    tooltip="For each picture of image_list: the instruction for it alone, as "
                    "picture 2.",
                ),
            ],
        )

    @classmethod
    def execute(cls, garments, dialect, megapixels, empty_slots) -> io.NodeOutput:
        check_garments(garments)
        pictures = [shrink(photo, megapixels) for photo in garments.photos]
        images = [to_image(picture) for picture in pictures]
        words = [(record.caption, record.category) for record in garments.records]
        chosen = DIALECTS[dialect]
        prompt = instruction(chosen, words)
        too_many = remarks(len(pictures), chosen)
        for line in too_many:
            logger.warning("%s", line)
        report = [*report_lines(garments, pictures), *too_many, "", prompt]
        return io.NodeOutput(
            *slots(images, empty_slots),
            images,
            to_image(board(garments.photos, megapixels)),
            [to_mask(*pair) for pair in zip(garments.masks, pictures, strict=True)],
            "\n".join(garment_name(*pair) for pair in words),
            prompt,
            [instruction(chosen, [pair]) for pair in words],
            ui=ui.PreviewText("\n".join(report)),
        )


class ReferenceLatents(io.ComfyNode):
    """Adds one reference latent for each garment to both conditionings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ReferenceLatents",
            display_name="Reference Latents",
            category=CATEGORY,
            description="Give every garment to an edit model as a reference latent of its own, in "
            "positive and negative, the person first: in place of VAE Encode and two Reference "
            "Latent nodes a garment.",
            search_aliases=["reference latent", "flux 2", "klein", "multi reference"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The instruction, encoded."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, encoded."),
                io.Vae.Input("vae", tooltip="The VAE of the edit model."),
                sockets.Garments.Input("garments", tooltip="From Text Garment Retrieve."),
                io.Float.Input(
                    "megapixels",
                    **_MEGAPIXELS,
                    tooltip="The most that a picture may have (1 is 1024 x 1024). Larger ones are "
                    "made smaller; none is enlarged. Less takes less memory and time.",
                ),
                io.Image.Input(
                    "person",
                    optional=True,
                    tooltip="The person's picture, one: it becomes the first reference, so that "
                    "the garments are image 2, 3 and so on, as the prompt calls them.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="With all references, for the guider."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="With the same references."
                ),
            ],
        )

    @classmethod
    def execute(cls, positive, negative, vae, garments, megapixels, person=None) -> io.NodeOutput:
        check_garments(garments)
        step = vae.spacial_compression_encode()
        pictures = [pad_to_step(shrink(photo, megapixels), step) for photo in garments.photos]
        images = [to_image(picture) for picture in pictures]
        if person is not None:
            images.insert(0, one_picture(person, megapixels, step))
        # One by one: a batch has one size, and a video VAE would take it for frames.
        references = {"reference_latents": [vae.encode(image) for image in images]}
        return io.NodeOutput(
            node_helpers.conditioning_set_values(positive, references, append=True),
            node_helpers.conditioning_set_values(negative, references, append=True),
        )


def check_garments(garments: sockets.RetrievedGarments) -> None:
    """Raise ValueError where there are no garments."""
    if not garments.records:
        raise ValueError(
            "No garments arrive: search for something else, or lower min_score of Text Garment "
            "Retrieve."
        )


def slots(images: Sequence[torch.Tensor], empty_slots: str) -> list[Any]:
    """Return the slots' outputs: the first garments, then a stand-in for each empty slot."""
    found = list(images[:SLOTS])
    count = "1 garment is" if len(images) == 1 else f"{len(images)} garments are"
    for number in range(len(found) + 1, SLOTS + 1):
        message = (
            f"image_{number} is empty: {count} found. Raise top_k of Text Garment Retrieve, "
            f"unplug image_{number}, or set empty_slots to '{LEAVE_OPEN}' where the input is "
            "optional."
        )
        found.append(blocked(message) if empty_slots == STOP else None)
    return found


def report_lines(garments: sockets.RetrievedGarments, pictures: Sequence[Image.Image]) -> list[str]:
    """Write a line for each garment: its slot, the size of its picture, its name."""
    lines = []
    for number, (record, picture) in enumerate(zip(garments.records, pictures, strict=True), 1):
        slot = f"image_{number}" if number <= SLOTS else "no slot"
        name = garment_name(record.caption, record.category)
        lines.append(f"{slot}  {picture.width}x{picture.height}  {name}")
    return lines


def remarks(count: int, dialect: Dialect) -> list[str]:
    """Note what of `count` garments the slots and the prompt have no room for."""
    found = []
    if count > SLOTS:
        found.append(
            f"{count} garments for {SLOTS} slots: the others are on image_list, masks and board, "
            "and Reference Latents takes them all."
        )
    if dialect.garments is not None and count > dialect.garments:
        found.append(
            f"The prompt names {dialect.garments} of {count} garments: {dialect.editors} take "
            f"{dialect.pictures} pictures, the person's included."
        )
    return found


_ROUNDING = 1.05
"""The host's nodes scale to a number of megapixels and then round the sides to a step: what is
above the limit for this alone stays as it is, or it would no longer lie on its canvas."""


def one_picture(image: torch.Tensor, megapixels: float, step: int) -> torch.Tensor:
    """Return one picture (1, H, W, 3) of at most so many megapixels, transparency on white.

    Args:
        image: (1, H, W, channels) float in 0..1, see `rgb_on_white`.
        step: where it is made smaller, the sides become multiples of this; a VAE would crop them.

    Raises:
        ValueError: a batch of several, or of none.
    """
    rgb = rgb_on_white(image)
    if len(image) != 1:
        raise ValueError(
            f"person is a batch of {len(image)} pictures: connect one, the model would see the "
            "first alone."
        )
    if rgb.shape[1] * rgb.shape[2] <= _ROUNDING * megapixels * MEGAPIXEL:
        return rgb
    pixels = (rgb[0].clamp(0, 1) * 255).round().byte().cpu().numpy()
    small = shrink(Image.fromarray(pixels), megapixels)
    size = tuple(max(step, side // step * step) for side in small.size)
    return to_image(small.resize(size, Image.Resampling.LANCZOS))


def to_image(picture: Image.Image) -> torch.Tensor:
    """Turn an RGB picture into (1, H, W, 3) float32 in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]


def to_mask(mask: Image.Image | None, picture: Image.Image) -> torch.Tensor:
    """Turn a picture's mask into (1, H, W) float32 in 0..1 of its size; 1 without a mask."""
    if mask is None:
        return torch.ones(1, picture.height, picture.width)
    if mask.size != picture.size:
        mask = mask.resize(picture.size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255)[None]
