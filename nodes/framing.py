"""The nodes that cut a person out of a photo for the model, and paste the result back."""

from __future__ import annotations

import logging

import torch
from comfy_api.latest import io, ui

from ..adapter.person.cut_out import (
    CONTEXT,
    Frame,
    cut_image,
    cut_mask,
    find_frames,
    move_pose,
    paste_back,
)
from ..adapter.person.inpainting import composite, fit_mask
from ..adapter.person.pose import pose_of_frame
from ..pictures.tensors import rgb_on_white
from . import sockets
from .inpaint import CATEGORY, PoseKeypoint, frames_of

logger = logging.getLogger(__name__)


class FashionFrame(io.ComfyNode):
    """Cuts the person out of a photo at the model's own size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionFrame",
            display_name="Fashion Frame",
            category=CATEGORY,
            description="Cut the person out of a photo of any size, at the model's own size. "
            "Fashion Composite puts the result back into the whole photo.",
            search_aliases=["crop", "inpaint crop", "crop and stitch", "resize photo"],
            inputs=[
                io.Image.Input("image", tooltip="The person's photo, of any size."),
                io.Mask.Input(
                    "mask", tooltip="What to repaint: 1 = repaint. One a photo, or one for all."
                ),
                io.Int.Input(
                    "width",
                    default=384,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Width of the canvas in pixels. The models are trained at 384.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Height of the canvas in pixels. The models are trained at 512.",
                ),
                io.Float.Input(
                    "context",
                    default=CONTEXT,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="Margin around the mask on each side, as a fraction of its width and "
                    "height: more shows the model more of the person, less paints finer.",
                ),
                io.Int.Input(
                    "person",
                    default=0,
                    min=0,
                    max=63,
                    tooltip="Whose head and feet stay inside, of the pose's people: 0 is the "
                    "largest, 1 the next, and so on.",
                ),
                PoseKeypoint.Input(
                    "pose",
                    optional=True,
                    tooltip="POSE_KEYPOINT of the same photo. With it the head is inside for what "
                    "is worn above, the feet for what reaches below the knees.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The person at the canvas' size."),
                io.Mask.Output(display_name="mask", tooltip="The mask at the canvas' size."),
                PoseKeypoint.Output(
                    display_name="pose", tooltip="The pose on the canvas; empty without one."
                ),
                sockets.Frame.Output(
                    display_name="frame", tooltip="The way back, for Fashion Composite."
                ),
            ],
        )

    @classmethod
    def execute(cls, image, mask, width, height, context, person, pose=None) -> io.NodeOutput:
        image = rgb_on_white(image)
        masks = masks_of(mask, image)
        poses = poses_of(pose, len(image))
        size = tuple(image.shape[1:3])
        keypoints = []
        for one in poses:
            people = pose_of_frame(one).on_photo(size)
            keypoints.append(people[person] if person < len(people) else None)
        frames = find_frames(masks, keypoints, (height, width), context)
        moved = [move_pose(one, frame) for one, frame in zip(poses, frames, strict=True)]
        return io.NodeOutput(
            torch.stack([cut_image(*both) for both in zip(image, frames, strict=True)]),
            torch.stack([cut_mask(*both) for both in zip(masks, frames, strict=True)]),
            moved,
            frames,
            ui=ui.PreviewText("\n".join(map(str, frames))),
        )


def masks_of(mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Resize the masks to the photos (b, H, W, 3): one a photo, (b, H, W); a single one serves all.

    Raises:
        ValueError: the number of masks is neither 1 nor that of the photos.
    """
    masks = fit_mask(mask, (image.shape[1], image.shape[2]))
    if len(masks) not in (1, len(image)):
        raise ValueError(
            f"There are {len(masks)} masks for {len(image)} photos: connect masks made of the same "
            "photos, or a single one."
        )
    return masks.expand(len(image), -1, -1)


def poses_of(pose: list | dict | None, count: int) -> list[dict | None]:
    """Return one POSE_KEYPOINT frame a photo; a single one serves all, None stands for no pose.

    Raises:
        ValueError: the number of frames is neither 1 nor that of the photos.
    """
    if pose is None:
        return [None] * count
    frames = frames_of(pose)
    if len(frames) not in (1, count):
        raise ValueError(
            f"The pose holds {len(frames)} frames for {count} photos: connect a pose made of the "
            "same photos, or of one."
        )
    return [frames[row % len(frames)] for row in range(count)]


class FashionComposite(io.ComfyNode):
    """Pastes the repainted region back into the photo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionComposite",
            display_name="Fashion Composite",
            category=CATEGORY,
            description="Paste what was repainted back into the photo: outside the mask every "
            "pixel is the original's.",
            search_aliases=["paste back", "image composite masked", "stitch", "feather"],
            inputs=[
                io.Image.Input("original", tooltip="The person's photo."),
                io.Image.Input("generated", tooltip="From VAE Decode."),
                io.Mask.Input("mask", tooltip="The inpainting mask: 1 = repainted."),
                io.Int.Input(
                    "feather",
                    default=8,
                    min=0,
                    max=256,
                    tooltip="Width of the soft edge in pixels, inside the mask.",
                ),
                sockets.Frame.Input(
                    "frame",
                    optional=True,
                    tooltip="From Fashion Frame: the result goes back into the whole photo. "
                    "original and mask are then the ones that were framed.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The finished picture.")],
        )

    @classmethod
    def execute(cls, original, generated, mask, feather, frame=None) -> io.NodeOutput:
        if frame is None:
            return io.NodeOutput(composite(original, generated, mask, feather))
        return io.NodeOutput(paste_batch(original, generated, mask, frame, feather))


def paste_batch(
    original: torch.Tensor,
    generated: torch.Tensor,
    mask: torch.Tensor,
    frames: tuple[Frame, ...],
    feather: int,
) -> torch.Tensor:
    """Put every generated picture back into its photo, (n, H, W, 3).

    Args:
        original: (b, H, W, 1, 3 or 4), one photo a frame, or one; what is transparent gets white.
        generated: (n, h, w, 1, 3 or 4), one picture a frame, or several: they take the frames in
            turn.
        mask: (b, H, W), one a photo or one, resized to them.

    Raises:
        ValueError: photos or masks of other numbers or sizes than the frames', or an empty batch.
    """
    count = len(frames)
    original, generated = rgb_on_white(original), rgb_on_white(generated)
    masks = masks_of(mask, original)
    if len(original) not in (1, count):
        raise ValueError(
            f"The frame is of {count} photos, original has {len(original)}: connect the photos "
            "that were framed."
        )
    many = max(count, len(generated))
    if many % count or many % len(generated):
        raise ValueError(
            f"generated has {len(generated)} pictures for {count} frames: connect one a frame, or "
            "a multiple."
        )
    if 1 < count < many:
        logger.warning(
            "%d pictures for %d photos: they take the photos in turn. Repeat Latent Batch repeats "
            "what the model sees of several photos in another order: repeat the photos instead.",
            many,
            count,
        )
    pasted = [
        paste_back(
            original[row % len(original)],
            generated[row % len(generated)],
            masks[row % len(masks)],
            frames[row % count],
            feather,
        )
        for row in range(many)
    ]
    return pasted[0][None] if many == 1 else torch.stack(pasted)
