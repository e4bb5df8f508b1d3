"""The nodes that parse a person's photo and make the mask of a garment."""

from __future__ import annotations

import logging

import numpy as np
import torch
from comfy_api.latest import io, ui
from torch.nn import functional

from ..adapter.person.garment_mask import (
    GarmentMasks,
    masks_from_labels,
    masks_from_masks,
    preview,
)
from ..adapter.person.inpainting import fit_mask, resize
from ..adapter.person.mask_files import THRESHOLD
from ..adapter.person.masks import CATEGORIES, GROWTH, MODES
from ..adapter.person.parsing import LONGEST, coloured, describe_labels
from ..pictures.tensors import rgb_on_white
from . import sockets
from .framing import poses_of
from .host import folders
from .host.parser import open_parser
from .host.progress import progress_bar
from .inpaint import CATEGORY, PoseKeypoint

logger = logging.getLogger(__name__)

_VEIL = 0.75
_SAME_SHAPE = 0.02
# Pixels of the longer side: a camera's photo would take minutes and gigabytes otherwise.
_SHOWN, _WORKED = 1024, LONGEST


class HumanParserLoader(io.ComfyNode):
    """Loads a human parser from a folder in transformers' layout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HumanParserLoader",
            display_name="Human Parser Loader",
            category=CATEGORY,
            description="Load a network that finds garments and body on a photo: "
            "segformer_b2_clothes, its 24-label relative, FASHN's parser, or the miniature's own. "
            "Local folders only, safetensors only, no code of the folder is run.",
            search_aliases=["segformer", "human parsing", "clothes segmentation", "atr", "fashn"],
            inputs=[
                io.Combo.Input(
                    "parser_name",
                    options=list(folders.entries("parsers")),
                    tooltip="A folder in models/fashion_rag/parsers with config.json and "
                    "model.safetensors. The published SegFormer clothes weights are under NVIDIA's "
                    "non-commercial SegFormer licence, whatever their tag says, and so is FASHN's "
                    "parser; the miniature's is Apache-2.0. For commercial work take masks of "
                    "SAM 3 (SAM License) instead.",
                )
            ],
            outputs=[sockets.Parser.Output(display_name="parser", tooltip="For Human Parse.")],
        )

    @classmethod
    def validate_inputs(cls, parser_name=None) -> bool | str:
        return folders.exists_or_message("parsers", parser_name)

    @classmethod
    def fingerprint_inputs(cls, parser_name=None) -> list:
        return folders.states("parsers", parser_name)

    @classmethod
    def execute(cls, parser_name) -> io.NodeOutput:
        return io.NodeOutput(open_parser(folders.resolve("parsers", parser_name)))


class HumanParse(io.ComfyNode):
    """Finds garments and body parts on photos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HumanParse",
            display_name="Human Parse",
            category=CATEGORY,
            description="Find garments and body parts on photos, of any size. The node shows what "
            "it found in colours, and says how much of each.",
            search_aliases=["segformer", "human parsing", "clothes segmentation", "labels"],
            inputs=[
                sockets.Parser.Input("parser", tooltip="From Human Parser Loader."),
                io.Image.Input("image", tooltip="Photos of people, as many as you like."),
            ],
            outputs=[
                sockets.Labels.Output(
                    display_name="labels", tooltip="For Garment Mask: one label a pixel."
                )
            ],
        )

    @classmethod
    def execute(cls, parser, image) -> io.NodeOutput:
        image = rgb_on_white(image)
        labels = parser.labels(image)
        notes = [describe_labels(one) or "nobody is there" for one in labels]
        size = _within(image.shape[1:3], _SHOWN)
        shown = torch.lerp(_photos(image, size), coloured(_resized(labels, size)), _VEIL)
        return io.NodeOutput(labels, ui=_shown(shown, _numbered(notes), cls))


class GarmentMask(io.ComfyNode):
    """Makes the inpainting mask for a garment."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GarmentMask",
            display_name="Garment Mask",
            category=CATEGORY,
            description="Make the mask of what is to be repainted, from a person's labels or from "
            "masks of the garment and of what is kept. The node shows it over the photo, and says "
            "where it is empty, large, or touches the face.",
            search_aliases=["agnostic mask", "clothes mask", "cloth mask", "sam3", "inpaint mask"],
            inputs=[
                io.Image.Input("image", tooltip="The photos that labels or masks were made of."),
                io.Combo.Input(
                    "category",
                    options=list(CATEGORIES),
                    default="upper_body",
                    tooltip="What the new garment replaces; outfit: all that is worn.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="bounding_box: the box around garment, arms and neck, as in the "
                    "official run. mask: garment, arms and neck. garment: the garment alone.",
                ),
                io.Int.Input(
                    "grow",
                    default=GROWTH,
                    min=0,
                    max=128,
                    tooltip="Pixels, at a height of 512, by which the garment is grown. Face, "
                    "hair, shoes and bag stay out of the mask.",
                ),
                io.Int.Input(
                    "person",
                    default=0,
                    min=0,
                    max=63,
                    tooltip="Which person of the photo: 0 is the largest, 1 the next, and so on.",
                ),
                sockets.Labels.Input("labels", optional=True, tooltip="From Human Parse."),
                io.Mask.Input(
                    "garment",
                    optional=True,
                    tooltip="Instead of labels: the garment, as SAM3 Detect or another pack finds "
                    "it.",
                ),
                io.Mask.Input(
                    "keep",
                    optional=True,
                    tooltip="Beside garment: what stays, such as face, hair, hands and bag.",
                ),
                PoseKeypoint.Input(
                    "pose",
                    optional=True,
                    tooltip="POSE_KEYPOINT of DWPose, OpenPose or SDPose: arms are covered along "
                    "their joints, hands stay. Without it the arms' labels are covered; what "
                    "looks like a hand stays.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="What to repaint: 1 = repaint."),
                io.Mask.Output(display_name="garment", tooltip="The garment alone."),
                io.Mask.Output(
                    display_name="keep", tooltip="What is kept: face, hair, hands, shoes, bag."
                ),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The photo, at most 1024 pixels long, with the mask in pink, the "
                    "garment in gold, what is kept in teal.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        category,
        mode,
        grow,
        person,
        labels=None,
        garment=None,
        keep=None,
        pose=None,
    ) -> io.NodeOutput:
        image = rgb_on_white(image)
        given = _given(image, labels, garment, keep)
        count, size = len(image), tuple(image.shape[1:3])
        poses = poses_of(pose, count)
        report = progress_bar()
        small = _photos(image, _within(size, _SHOWN))
        found: list[GarmentMasks] = []
        for row in range(count):
            report(row, count)
            make = masks_from_masks if labels is None else masks_from_labels
            own = [one[row % len(one)] for one in given]
            found.append(
                make(*own, category, mode, grow, person=person, pose=poses[row], photo=size)
            )
        report(count, count)
        notes = ["; ".join(masks.notes) for masks in found]
        for row, note in enumerate(notes):
            if note:
                logger.warning("Garment Mask, photo %d: %s.", row, note)
        masks = [
            torch.from_numpy(np.stack([getattr(one, name) for one in found]).astype(np.uint8))
            for name in ("mask", "garment", "keep")
        ]
        shown = preview(small, *(_resized(one, small.shape[1:3]) > 0 for one in masks))
        masks = [_resized(one, size).float() for one in masks]
        said = _numbered([note or _covered(one) for note, one in zip(notes, found, strict=True)])
        return io.NodeOutput(*masks, shown, ui=_shown(shown, said, cls))


def _given(image, labels, garment, keep) -> list:
    """Return what the masks are made of, one entry a photo or one for all.

    It is either labels, or garment and keep.

    Raises:
        ValueError: none of them, both, another batch's, or another photo's size.
    """
    size = tuple(image.shape[1:3])
    inner = _within(size, _WORKED)
    if (labels is None) == (garment is None):
        raise ValueError(
            "Connect either labels (from Human Parse) or garment (a MASK of the garment)"
            + (", not both." if labels is not None else ".")
        )
    if labels is not None:
        if keep is not None:
            raise ValueError("keep belongs to garment: labels say themselves what is kept.")
        _check_count("labels", labels, len(image))
        _check_shape(labels, size)
        return [_resized(labels, inner).cpu().numpy()]
    masks = []
    for name, mask in (("garment", garment), ("keep", keep)):
        if mask is None:
            masks.append([None])
            continue
        try:
            mask = fit_mask(mask, inner)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        _check_count(name, mask, len(image))
        masks.append((mask >= THRESHOLD).cpu().numpy())
    return masks


def _check_count(name: str, given: torch.Tensor, count: int) -> None:
    if len(given) not in (1, count):
        raise ValueError(
            f"{name} holds {len(given)} for {count} images: connect those of the same images, or "
            "one for all."
        )


def _check_shape(labels: torch.Tensor, size: tuple[int, int]) -> None:
    height, width = labels.shape[-2:]
    if abs(width * size[0] / (height * size[1]) - 1) > _SAME_SHAPE:
        raise ValueError(
            f"labels has {width}x{height} pixels, the images have {size[1]}x{size[0]}: connect "
            "what was made of these very images."
        )


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a height and width of the same proportions, the longer side at most `longest`."""
    scale = min(1.0, longest / max(size))
    return tuple(max(1, round(side * scale)) for side in size)


def _resized(labels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize labels (b, h, w) uint8 to (height, width) without mixing any."""
    if labels.shape[1:] == tuple(size):
        return labels
    return functional.interpolate(labels[:, None], size=tuple(size), mode="nearest-exact")[:, 0]


def _photos(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize photos (b, H, W, 3) to `size`, float32 on the CPU."""
    photos = image.float().cpu()
    if photos.shape[1:3] == tuple(size):
        return photos
    return resize(photos.movedim(-1, 1), size).movedim(1, -1)


def _covered(masks: GarmentMasks) -> str:
    return f"{masks.mask.mean():.1%} of the picture is repainted"


def _numbered(notes: list[str]) -> str:
    if len(notes) == 1:
        return notes[0]
    return "\n".join(f"{row}: {note}" for row, note in enumerate(notes))


def _shown(pictures: torch.Tensor, text: str, cls: type[io.ComfyNode]) -> dict:
    """Show pictures on the node, and a text below them (see web/report.js)."""
    return ui.PreviewImage(pictures, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
