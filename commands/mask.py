"""`fashion-rag mask`: making an inpainting mask from a photo or a label map, and keypoints."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.person.masks import CATEGORIES, GROWTH, MODES, inpainting_mask, read_labels
from ..adapter.person.pose import DRESSCODE_FRAME, read_pose
from ..pictures.photos import open_photo
from .parsing import add_parser_options, parsed_mask
from .terminal import check_picture, save_picture, write

logger = logging.getLogger(__name__)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `mask`."""
    parser = commands.add_parser(
        "mask",
        help="make an inpainting mask from a photo or a label map",
        description="Make an inpainting mask from a photo and a human parser, or from a label map "
        "(ATR labels, as segformer_b2_clothes gives them), and keypoints.",
    )
    add = parser.add_argument
    add("--labels", type=Path, metavar="FILE", help="picture of label numbers")
    add("--photo", type=Path, metavar="FILE", help="for --parser: photo of a person")
    add_parser_options(parser, "--labels")
    add("--keypoints", type=Path, metavar="FILE", help="JSON: Dress Code or POSE_KEYPOINT")
    add("--category", required=True, help=", ".join(CATEGORIES))
    add("--mode", choices=MODES, default=MODES[0], help="default: %(default)s")
    add("--paper", action="store_true", help="bug for bug as the official code")
    add("--out", type=Path, required=True, metavar="FILE", help="picture, white is repainted")
    parser.set_defaults(run=_mask)


def _mask(args: argparse.Namespace) -> None:
    check_picture(args.out, "--out")
    if args.person_number is not None and args.parser is None:
        raise ValueError("--person-number belongs to --parser: leave it out, or give --parser too.")
    args.grow = GROWTH if args.grow is None else args.grow
    args.person_number = args.person_number or 0
    if (args.labels is None) == (args.parser is None):
        raise ValueError("Name either --labels, or --parser with --photo.")
    if (args.photo is None) != (args.parser is None):
        raise ValueError("--photo belongs to --parser: the photo that the parser looks at.")
    if args.parser is not None:
        if args.paper:
            raise ValueError("--paper belongs to --labels.")
        mask = _of_photo(args)
    else:
        mask = _of_labels(args)
    out = save_picture(Image.fromarray(mask * np.uint8(255)), args.out)
    write(f"{out}: {mask.mean():.1%} of the picture is repainted")


def _of_photo(args: argparse.Namespace) -> np.ndarray:
    """Make the mask of the photo: (H, W) uint8, 1 = repaint."""
    photo = open_photo(args.photo)
    keypoints = _keypoints(args, (photo.height, photo.width))
    masks = parsed_mask(
        args.parser, photo, args.category, args.mode, args.grow, args.person_number, keypoints
    )
    return masks.mask.astype(np.uint8)


def _of_labels(args: argparse.Namespace) -> np.ndarray:
    """Make the mask of the label map: (H, W) uint8, 1 = repaint."""
    labels = read_labels(args.labels)
    frame = DRESSCODE_FRAME if args.paper else labels.shape
    keypoints = _keypoints(args, None if args.paper else frame)
    try:
        return inpainting_mask(
            labels,
            keypoints,
            args.category,
            args.mode,
            frame=frame,
            paper=args.paper,
            grow=args.grow,
        )
    except ValueError as error:
        raise ValueError(f"{args.labels}: {error}") from error


def _keypoints(args: argparse.Namespace, photo: tuple[int, int] | None) -> np.ndarray | None:
    """Read keypoints (18, 3) in pixels of a photo of (height, width), or of the file's frame."""
    if args.keypoints is None:
        return None
    found = read_pose(args.keypoints, photo=photo)
    if found is None:
        logger.warning("%s has nobody: the mask is made without a pose.", args.keypoints)
        return None
    return found[0]
