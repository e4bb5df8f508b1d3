"""`fashion-rag mask`: an inpainting mask from a label map and keypoints."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.person.masks import MODES, inpainting_mask
from ..adapter.person.pose import DRESSCODE_FRAME, read_pose
from .terminal import check_picture, save_picture, write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `mask`."""
    parser = commands.add_parser(
        "mask",
        help="make an inpainting mask from a label map",
        description="Make an inpainting mask from a human-parsing label map (ATR labels, as "
        "segformer_b2_clothes gives them) and keypoints.",
    )
    add = parser.add_argument
    add("--labels", type=Path, required=True, metavar="FILE", help="picture of label numbers")
    add("--keypoints", type=Path, metavar="FILE", help="JSON: Dress Code or POSE_KEYPOINT")
    add("--category", required=True, help="dresses, upper_body or lower_body")
    add("--mode", choices=MODES, default=MODES[0], help="default: %(default)s")
    add("--paper", action="store_true", help="bug for bug as the official code")
    add("--out", type=Path, required=True, metavar="FILE", help="picture, white is repainted")
    parser.set_defaults(run=_mask)


def _mask(args: argparse.Namespace) -> None:
    check_picture(args.out, "--out")
    with Image.open(args.labels) as picture:
        labels = np.asarray(picture)
    found = read_pose(args.keypoints) if args.keypoints else None
    keypoints, frame = found or (None, DRESSCODE_FRAME)
    mask = inpainting_mask(
        labels, keypoints, args.category, args.mode, frame=frame, paper=args.paper
    )
    out = save_picture(Image.fromarray(mask * np.uint8(255)), args.out)
    write(f"{out}: {mask.mean():.1%} of the picture is repainted")
