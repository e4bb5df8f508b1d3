"""`fashion-rag generate`: from words and a catalogue's index to the dressed person, without a host.

Like the nodes, it joins retriever and adapter, which do not know each other.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.garment.prompts import PAPER_PROMPT
from ..adapter.headless.depth import parse_levels
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.masks import CATEGORIES, MODES
from ..adapter.person.pose import photo_keypoints
from ..pictures.photos import open_photo
from ..retriever.encoders.open_clip import load_encoder
from ..retriever.open_index import open_index
from ..retriever.query import Query, retrieve
from .parsing import add_parser_options, parsed_mask

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "generate",
        help="dress the person of a photo in garments found by words",
        description="Find garments by words in an index and paint the person in them.",
    )
    add = parser.add_argument
    add("--text", required=True, help="what the person should wear")
    add("--person", type=Path, required=True, metavar="FILE", help="photo of the person")
    add("--mask", type=Path, metavar="FILE", help="picture, white is repainted")
    add_parser_options(parser, "--mask")
    add("--mask-mode", choices=MODES, default=MODES[0], help="of --parser (default: %(default)s)")
    add(
        "--pose",
        type=Path,
        metavar="FILE",
        help="JSON of DWPose or OpenPose (POSE_KEYPOINT), or Dress Code keypoints",
    )
    add("--pose-person", type=int, default=0, metavar="N", help="0 is the largest (default)")
    add("--index", type=Path, required=True, metavar="FOLDER", help="made by `index build`")
    add("--catalogue", type=Path, metavar="FOLDER", help="where the garment photos are now")
    add("--category", help="only garments of this category")
    add("--top-k", type=int, default=3, metavar="N", help="garments to use (default 3)")
    add("--model", type=Path, required=True, metavar="FOLDER", help="in diffusers layout")
    add("--unet", type=Path, metavar="FILE", help="instead of the model folder's")
    add("--adapter", type=Path, metavar="FILE", help="instead of the model folder's")
    add(
        "--encoder",
        type=Path,
        metavar="FOLDER",
        help="the index's encoder (default: `encoder` in the model folder)",
    )
    add("--prompt", default=PAPER_PROMPT, help="with {category}, {caption}, {garments}")
    add("--strength", type=float, default=1.0, help="of the garments, 0 to 2 (default 1)")
    add("--preprocess", choices=PREPROCESS, help="of garment photos (default: the adapter's)")
    add("--levels", help="U-Net depths that read the garments, such as '2 3' (default: all)")
    add("--steps", type=int, default=50, help="DDIM steps (default 50)")
    add("--guidance-scale", type=float, default=7.5, help="default 7.5")
    add("--height", type=int, default=512, help="of the canvas, a multiple of 8 (default 512)")
    add("--width", type=int, default=384, help="likewise (default 384)")
    add("--seed", type=int, default=0, help="of the noise (default 0)")
    add("--feather", type=int, default=8, help="pixels of transition, inwards (default 8)")
    add("--whole", action="store_true", help="do not paste back: the model's whole picture")
    add("--device", help="cpu, cuda, mps (default: cuda where there is one)")
    add("--out", type=Path, required=True, metavar="FILE", help="the picture to write")
    parser.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> None:
    """Retrieve, paint, write the picture and the garments' names."""
    if not args.text.strip():
        raise ValueError("--text is empty: say what the person should wear.")
    if args.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out {args.out} has no picture's ending: use .png or .jpg.")
    if (args.mask is None) == (args.parser is None):
        raise ValueError(
            "Name either --mask, what is to be repainted, or --parser, which finds it."
        )
    levels = None if args.levels is None else parse_levels(args.levels)
    person = open_photo(args.person)
    mask = None if args.mask is None else open_photo(args.mask).convert("L")
    keypoints = (
        None if args.pose is None else photo_keypoints(args.pose, args.pose_person, person.size)
    )

    index = open_index(args.index, args.catalogue)
    encoder = load_encoder(args.encoder or args.model / "encoder")
    query = Query(args.text, category=args.category, k=args.top_k)
    (result,) = retrieve(index, encoder, [query])
    hits = result.hits
    if result.note:
        sys.stdout.write(f"{result.note}\n")
    for hit in hits:
        sys.stdout.write(f"{hit.score:.4f}  {hit.garment.id}  {hit.garment.file}\n")
    categories = {hit.garment.category for hit in hits}
    if mask is None:
        if len(categories) != 1 or not categories <= set(CATEGORIES):
            raise ValueError(
                f"The garments found are of {', '.join(sorted(categories)) or 'no category'}, and "
                f"--parser needs one of {', '.join(CATEGORIES)}: name it with --category."
            )
        (category,) = categories
        mask = parsed_mask(
            args.parser,
            person,
            category,
            args.mask_mode,
            args.grow,
            args.person_number,
            keypoints,
        ).mask

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = FashionRAGPipeline.from_pretrained(
        args.model,
        unet=args.unet,
        adapter=args.adapter,
        device=device,
        dtype=torch.float16 if device.startswith("cuda") else torch.float32,
    )
    picture = pipeline(
        person,
        mask,
        [index.photo(hit.garment) for hit in hits],
        category=categories.pop() if len(categories) == 1 else "",
        caption=args.text,
        prompt=args.prompt,
        keypoints=keypoints,
        strength=args.strength,
        preprocess=args.preprocess,
        levels=levels,
        steps=args.steps,
        guidance_scale=args.guidance_scale,
        height=args.height,
        width=args.width,
        seed=args.seed,
        feather=None if args.whole else args.feather,
        callback=_show_progress,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.out)
    sys.stdout.write(f"wrote {args.out} ({picture.width}x{picture.height})\n")


def _show_progress(done: int, steps: int) -> None:
    sys.stderr.write(f"\r{done}/{steps} steps" + ("\n" if done == steps else ""))
    sys.stderr.flush()
