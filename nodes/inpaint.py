"""The node that adds a person's photo, mask and pose to the conditioning."""

from __future__ import annotations

import logging

import node_helpers
import torch
from comfy_api.latest import io

from ..adapter.person.inpainting import CELL, prepare_inpainting, repeat_batch
from ..adapter.person.pose import POSE_CHANNELS, pose_map, pose_of_frame
from .host.unet import POSE_KEY, check_control_width

logger = logging.getLogger(__name__)

CATEGORY = "FashionRAG/inpaint"
PoseKeypoint = io.Custom("POSE_KEYPOINT")


class FashionInpaintConditioning(io.ComfyNode):
    """Adds the inpainting inputs and the pose map to a conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionInpaintConditioning",
            display_name="Fashion Inpaint Conditioning",
            category=CATEGORY,
            description="Give the person's photo, the inpainting mask and the pose to the model. "
            "Works with any SD inpainting model; the 27-channel one also reads the pose.",
            search_aliases=["inpaint model conditioning", "pose map", "fashion rag inpaint"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="From Garment Textual Inversion."),
                io.Conditioning.Input(
                    "negative", tooltip="The unconditional prompt: empty in the paper."
                ),
                io.Vae.Input("vae", tooltip="The VAE of the inpainting checkpoint."),
                io.Image.Input("image", tooltip="The person's photo. 512x384 is the native size."),
                io.Mask.Input(
                    "mask",
                    tooltip="What to repaint: 1 = repaint. Split at 0.5 for the model, kept soft "
                    "for the noise mask.",
                ),
                io.Boolean.Input(
                    "noise_mask",
                    default=True,
                    tooltip="On: sampling starts from the photo and stays inside the mask; denoise "
                    "below 1 needs it. Off: sampling starts from pure noise, as in the paper.",
                ),
                io.Int.Input(
                    "person",
                    default=0,
                    min=0,
                    max=63,
                    tooltip="Which person of the pose: 0 is the largest, 1 the next, and so on.",
                ),
                PoseKeypoint.Input(
                    "pose",
                    optional=True,
                    tooltip="POSE_KEYPOINT of DWPose, OpenPose or SDPose. Without it the pose map "
                    "is zero.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For KSampler."),
                io.Conditioning.Output(
                    display_name="negative", tooltip="For KSampler, with a zero pose map."
                ),
                io.Latent.Output(display_name="latent", tooltip="For KSampler, latent_image."),
            ],
        )

    @classmethod
    def execute(
        cls, positive, negative, vae, image, mask, noise_mask, person, pose=None
    ) -> io.NodeOutput:
        for conditioning in (positive, negative):
            check_control_width(conditioning)
        inputs = prepare_inpainting(image, mask)
        masked_latent = vae.encode(inputs.masked_image)
        values = {"concat_latent_image": masked_latent, "concat_mask": inputs.latent_mask}
        size = tuple(image.shape[1:3])
        poses = pose_maps(pose, person, len(inputs.image), size, photos=len(image))
        positive = node_helpers.conditioning_set_values(positive, {**values, POSE_KEY: poses})
        negative = node_helpers.conditioning_set_values(
            negative, {**values, POSE_KEY: torch.zeros_like(poses)}
        )
        if noise_mask:
            latent = {"samples": vae.encode(inputs.image), "noise_mask": inputs.soft_mask}
        else:
            latent = {"samples": torch.zeros_like(masked_latent)}
        return io.NodeOutput(positive, negative, latent)


def pose_maps(
    frames: list[dict] | dict | None,
    person: int,
    batch: int,
    size: tuple[int, int],
    photos: int | None = None,
) -> torch.Tensor:
    """Draw the pose maps (batch, 18, H8/8, W8/8) float32 in 0..1; zero where nobody is found.

    Args:
        frames: POSE_KEYPOINT, one frame a photo; a single frame, with or without its list, serves
            the whole batch.
        person: 0 for the largest person of a frame, 1 for the next.
        size: (H, W) of the photos in pixels; the map is that of the photo padded to multiples of 8.
        photos: how many of them there are, where masks make the batch larger: their poses are
            repeated as they are.

    Raises:
        ValueError: the number of frames is none of 1, the photos' and the batch's, or a frame can't
            be read.
    """
    padded = tuple(side + -side % CELL for side in size)
    maps = torch.zeros(batch, POSE_CHANNELS, padded[0] // CELL, padded[1] // CELL)
    if frames is None:
        return maps
    frames = frames_of(frames)
    if len(frames) not in (1, photos or batch, batch):
        raise ValueError(
            f"The pose holds {len(frames)} frames for {batch} images: connect a pose made of the "
            "same images, or of one."
        )
    for row, frame in enumerate(frames):
        people = pose_of_frame(frame).on_photo(size)
        if person >= len(people):
            logger.warning(
                "Nobody numbered %d in pose frame %d: its pose map is zero.", person, row
            )
            continue
        maps[row] = pose_map(people[person], padded, padded)
    return repeat_batch(maps[: len(frames)], batch)


def frames_of(pose: list | dict) -> list[dict | None]:
    """List the frames of a POSE_KEYPOINT, which some packs give bare or in nested lists."""
    if not isinstance(pose, (list, tuple)):
        return [pose]
    frames = []
    for entry in pose:
        frames += frames_of(entry) if isinstance(entry, (list, tuple)) else [entry]
    return frames
