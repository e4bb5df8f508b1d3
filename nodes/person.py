"""A person's photo together with its mask and pose, from one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import io

from ..adapter.person.pose import read_pose
from ..pictures.photos import open_photo
from .host import folders
from .inpaint import CATEGORY, PoseKeypoint

PHOTOS = ("photo.jpg", "photo.jpeg", "photo.png", "photo.webp")


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
    def fingerprint_inputs(cls, person_name=None) -> tuple:
        folder = folders.entries("people").get(person_name)
        if folder is None:
            return ()
        files = sorted(p for p in folder.iterdir() if p.stem in ("photo", "mask", "pose"))
        return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files)

    @classmethod
    def execute(cls, person_name) -> io.NodeOutput:
        return io.NodeOutput(*load_person(folders.resolve("people", person_name)))


def load_person(folder: Path) -> tuple[torch.Tensor, torch.Tensor, list[dict]]:
    """Photo (1, H, W, 3), mask (1, h, w), both float32 in 0..1, and one POSE_KEYPOINT frame.

    Raises:
        FileNotFoundError: there is no photo.
        ValueError: a picture is damaged, or the pose is none.
    """
    path = next((folder / name for name in PHOTOS if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has no photo: put one of {', '.join(PHOTOS)} there.")
    photo = open_photo(path)
    mask = np.asarray(open_photo(folder / "mask.png").convert("L"), dtype=np.float32) / 255
    pose = folder / "pose.json"
    found = read_pose(pose) if pose.is_file() else None
    (height, width), people = (photo.height, photo.width), []
    if found is not None:
        keypoints, (height, width) = found
        people = [{"pose_keypoints_2d": keypoints.flatten().tolist()}]
    frame = {"canvas_height": height, "canvas_width": width, "people": people}
    pixels = np.asarray(photo, dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None], torch.from_numpy(mask)[None], [frame]
