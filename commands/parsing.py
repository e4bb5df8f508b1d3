"""The mask of a photo by a human parser, which `mask` and `generate` share."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.person.garment_mask import GarmentMasks, masks_from_labels, pose_frame
from ..adapter.person.masks import GROWTH
from ..adapter.person.parsing import load_parser
from ..miniature.trained import PARSER
from .terminal import MINIATURE, tell, whole_number


def parser_folder(name: str) -> Path:
    """Return the folder that an option names; `miniature` is the shipped parser."""
    return PARSER if name == MINIATURE else Path(name)


def add_parser_options(parser: ArgumentParser, instead_of: str) -> None:
    """Add the options of a mask that a parser makes.

    `grow` and `person_number` are None where they are not given: GROWTH and 0.
    """
    add = parser.add_argument
    add(
        "--parser",
        type=parser_folder,
        metavar="FOLDER",
        help=f"instead of {instead_of}: a human parser in transformers' layout, or `{MINIATURE}`",
    )
    add(
        "--grow",
        type=whole_number(0, 512),
        help=f"of the mask, in pixels at a height of 512 (default {GROWTH})",
    )
    add(
        "--person-number",
        type=whole_number(0),
        metavar="N",
        help="of the photo, for --parser: 0 is the largest (default)",
    )


def parsed_mask(
    parser: Path,
    photo: Image.Image,
    category: str,
    mode: str,
    grow: int,
    person: int = 0,
    keypoints: np.ndarray | None = None,
) -> GarmentMasks:
    """Make the masks of a photo by a parser, and write notes on them to the terminal.

    Args:
        parser: a folder in transformers' layout.
        keypoints: (18, 3) in pixels of the photo.

    Raises:
        FileNotFoundError, ValueError: the parser can't be loaded, or the mask is empty.
    """
    labels = load_parser(parser).labels_of(photo)
    pose = None if keypoints is None else pose_frame(keypoints, labels.shape)
    masks = masks_from_labels(labels, category, mode, grow, person=person, pose=pose)
    if not masks.mask.any():
        raise ValueError(
            f"The parser {parser} finds nothing to repaint: {'; '.join(masks.notes)}. Check the "
            "category and the photo, or give a mask of your own."
        )
    for note in masks.notes:
        tell(note)
    return masks
