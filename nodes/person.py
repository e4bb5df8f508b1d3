"""The node that loads a person's photo, mask and pose from one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import io

from ..adapter.person.mask_files import read_mask
from ..adapter.person.pose import read_people
from ..pictures.photos import SUFFIXES, open_photo
from .host import folders
from .inpaint import CATEGORY, PoseKeypoint

PHOTOS = tuple(f"photo{suffix}" for suffix in SUFFIXES)
MASKS = ("mask.png", *(f"mask{suffix}" for suffix in SUFFIXES if suffix != ".png"))


class FashionPersonLoader(io.ComfyNode):
    """Loads a person who was prepared once: photo, mask and pose."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FashionPersonLoader",
            display_name="Fashion Person Loader",
            category=CATEGORY,
            description="Load a person who was prepared once, with mask and pose. Drawn people "
            "for the miniature come with the pack.",
            search_aliases=["load image mask pose", "model photo", "miniature"],
            inputs=[
                io.Combo.Input(
                    "person_name",
                    options=list(folders.entries("people")),
                    tooltip="A folder in models/fashion_rag/people with photo.jpg (or .png), "
                    "mask.png (white is repainted) and, if you like, pose.json.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The person's photo."),
                io.Mask.Output(display_name="mask", tooltip="What to repaint: 1 = repaint."),
                PoseKeypoint.Output(
                    display_name="pose", tooltip="The pose, empty where there is no pose.json."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, person_name=None) -> bool | str:
        return folders.exists_or_message("people", person_name)

    @classmethod
    def fingerprint_inputs(cls, person_name=None) -> list:
        return folders.states("people", person_name)

    @classmethod
    def execute(cls, person_name) -> io.NodeOutput:
        return io.NodeOutput(*load_person(folders.resolve("people", person_name)))


def load_person(folder: Path) -> tuple[torch.Tensor, torch.Tensor, list[dict]]:
    """Load a person's photo (1, H, W, 3), mask (1, h, w) and pose.

    Photo and mask are float32 in 0..1. The pose is one POSE_KEYPOINT frame of everybody in
    pose.json, in pixels of the photo.

    Raises:
        FileNotFoundError: there is no photo, or no mask.
        ValueError: a picture is damaged or not understood, the mask is empty or of other
            proportions than the photo, or the pose is none.
    """
    photo = open_photo(_picture(folder, "photo", PHOTOS))
    mask = read_mask(_picture(folder, "mask", MASKS), photo.size)
    pose = folder / "pose.json"
    people = []
    if pose.is_file():
        found = read_people(pose).on_photo((photo.height, photo.width))
        people = [{"pose_keypoints_2d": person.flatten().tolist()} for person in found]
    frame = {"canvas_height": photo.height, "canvas_width": photo.width, "people": people}
    pixels = np.asarray(photo, dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None], torch.from_numpy(mask)[None], [frame]


def _picture(folder: Path, kind: str, names: tuple[str, ...]) -> Path:
    """Find the first of these files in a person's folder; letter case does not matter."""
    there = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
    found = next((there[name] for name in names if name in there), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder} has no {kind}: put a picture called {names[0]} there (or one of "
            f"{', '.join(names[1:])})."
        )
    return found
