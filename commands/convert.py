"""The adapter's subcommands: `convert` and `mask`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.garment.checkpoints import convert
from ..adapter.person.masks import MODES, inpainting_mask
from ..adapter.person.pose import DRESSCODE_FRAME, read_pose
from ..pictures.photos import open_photo
from .parsing import add_parser_options, parsed_mask


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommands to argparse's subparsers."""
    parser = commands.add_parser(
        "convert",
        help="turn a U-Net or adapter file into safetensors",
        description="Write a U-Net (LDM names) or an inversion adapter (with metadata) as "
        "safetensors. Pickles are read without running what they hold.",
    )
    parser.add_argument("source", type=Path, help=".pth, .bin or .safetensors")
    parser.add_argument("target", type=Path, help=".safetensors, new")
    parser.set_defaults(run=_convert)

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
    add("--category", required=True, help="dresses, upper_body, lower_body or outfit")
    add("--mode", choices=MODES, default=MODES[0], help="default: %(default)s")
    add("--paper", action="store_true", help="bug for bug as the official code")
    add("--out", type=Path, required=True, metavar="FILE", help="picture, white is repainted")
    parser.set_defaults(run=_mask)


def _convert(args: argparse.Namespace) -> None:
    metadata = convert(args.source, args.target)
    facts = ", ".join(f"{name} {value}" for name, value in sorted(metadata.items()))
    sys.stdout.write(f"{args.target}: {facts}\n")


def _mask(args: argparse.Namespace) -> None:
    if (args.labels is None) == (args.parser is None):
        raise ValueError("Name either --labels, or --parser with --photo.")
    if (args.photo is None) != (args.parser is None):
        raise ValueError("--photo belongs to --parser: the photo that the parser looks at.")
    found = read_pose(args.keypoints) if args.keypoints else None
    keypoints, frame = found or (None, DRESSCODE_FRAME)
    if args.parser is not None:
        if args.paper:
            raise ValueError("--paper belongs to --labels.")
        photo = open_photo(args.photo)
        if keypoints is not None:
            keypoints = keypoints * (photo.width / frame[1], photo.height / frame[0], 1)
        mask = parsed_mask(
            args.parser, photo, args.category, args.mode, args.grow, args.person_number, keypoints
        ).mask
    else:
        with Image.open(args.labels) as picture:
            labels = np.asarray(picture)
        mask = inpainting_mask(
            labels,
            keypoints,
            args.category,
            args.mode,
            frame=frame,
            paper=args.paper,
            grow=args.grow,
        )
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(args.out)
    sys.stdout.write(f"{args.out}: {mask.mean():.1%} of the picture is repainted\n")
