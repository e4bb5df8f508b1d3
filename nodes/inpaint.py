"""Nodes of the third stage: the person's photo, mask and pose as conditioning."""

from __future__ import annotations

import logging

import node_helpers
import torch
from comfy_api.latest import io

from ..adapter.person.inpainting import prepare_inpainting
from ..adapter.person.pose import keypoints_from_pose_keypoint, pose_map
from .host.memory import POSE_KEY, check_control_width

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
        height, width = inputs.image.shape[1:3]
        poses = pose_maps(pose, person, len(inputs.image), (height, width))
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
    frames: list[dict] | None, person: int, batch: int, size: tuple[int, int]
) -> torch.Tensor:
    """Pose maps of a batch, (batch, 18, H/8, W/8) float32 in 0..1; zero where nobody is found.

    Args:
        frames: POSE_KEYPOINT, one frame an image; a single frame serves the whole batch.
        person: 0 for the largest person of a frame, 1 for the next.
        size: (H, W) of the padded picture in pixels, multiples of 8.

    Raises:
        ValueError: the number of frames is neither 1 nor the batch's.
    """
    height, width = size
    maps = torch.zeros(batch, 18, height // 8, width // 8)
    if frames is None:
        return maps
    if len(frames) not in (1, batch):
        raise ValueError(
            f"The pose holds {len(frames)} frames for {batch} images: connect a pose made of the "
            "same images, or of one."
        )
    for row in range(batch):
        found = keypoints_from_pose_keypoint(frames[row % len(frames)], person)
        if found is None:
            logger.warning(
                "Nobody numbered %d in pose frame %d: its pose map is zero.", person, row
            )
            continue
        keypoints, frame_size = found
        maps[row] = pose_map(keypoints, frame_size, size)
    return maps
