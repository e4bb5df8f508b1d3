"""`fashion-rag generate`: from words and a catalogue's index to the dressed person, without a host.

Like the nodes, it joins retriever and adapter, which do not know each other.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.garment.prompts import PAPER_PROMPT
from ..adapter.headless.depth import parse_levels
from ..adapter.headless.outfit import Piece, one_pass, two_passes
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.cut_out import CONTEXT
from ..adapter.person.pose import photo_keypoints
from ..pictures.photos import open_photo
from ..retriever.backends import SearchBackend
from ..retriever.encoders.open_clip import Encoder, load_encoder
from ..retriever.open_index import open_index
from ..retriever.outfit import read_outfit, retrieve_outfit
from ..retriever.query import Query, retrieve
from ..retriever.search import Hit

logger = logging.getLogger(__name__)

DEFAULT_PASSES = "two"


def add_commands(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "generate",
        help="dress the person of a photo in garments found by words",
        description="Find garments by words in an index and paint the person in them.",
    )
    add = parser.add_argument
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--text", help="what the person should wear")
    wanted.add_argument(
        "--outfit",
        type=Path,
        metavar="FILE",
        help="a text file with one garment a line, such as 'upper_body: white linen shirt'; give a "
        "--region for every category in it",
    )
    add("--person", type=Path, required=True, metavar="FILE", help="photo of the person")
    add("--mask", type=Path, metavar="FILE", help="picture, white is repainted")
    add(
        "--region",
        type=_region,
        action="append",
        default=[],
        metavar="CATEGORY=FILE",
        help="with --outfit: where the garments of a category are painted, a picture as --mask",
    )
    add(
        "--passes",
        choices=("one", "two"),
        default=DEFAULT_PASSES,
        help="with --outfit: all garments in one sampling, or one after the other "
        f"(default {DEFAULT_PASSES})",
    )
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
    add(
        "--whole-photo",
        action="store_true",
        help="scale the whole photo to the canvas, as in the paper, instead of cutting the person "
        "out of it",
    )
    add(
        "--context",
        type=float,
        default=CONTEXT,
        metavar="SHARE",
        help=f"margin around the mask that is cut out with it, of its size (default {CONTEXT:g})",
    )
    add("--whole", action="store_true", help="do not paste back: the model's whole picture")
    add("--device", help="cpu, cuda, mps (default: cuda where there is one)")
    add("--out", type=Path, required=True, metavar="FILE", help="the picture to write")
    parser.set_defaults(run=_generate)


def _region(text: str) -> tuple[str, Path]:
    """CATEGORY=FILE as its two parts."""
    category, found, file = text.partition("=")
    if not (found and category.strip() and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not CATEGORY=FILE, as upper_body=top.png is")
    return category.strip(), Path(file)


def _generate(args: argparse.Namespace) -> None:
    """Retrieve, paint, write the picture and the garments' names."""
    if args.out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--out {args.out} has no picture's ending: use .png or .jpg.")
    picture = _outfit(args) if args.outfit is not None else _garments(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.out)
    sys.stdout.write(f"wrote {args.out} ({picture.width}x{picture.height})\n")


def _garments(args: argparse.Namespace) -> Image.Image:
    """The person in the garments that one text finds."""
    if not args.text.strip():
        raise ValueError("--text is empty: say what the person should wear.")
    if args.mask is None:
        raise ValueError("--mask is missing: give a picture in which white is repainted.")
    levels = None if args.levels is None else parse_levels(args.levels)
    person, mask = open_photo(args.person), open_photo(args.mask).convert("L")
    keypoints = _keypoints(args, person)
    index, encoder = _index(args)
    query = Query(args.text, category=args.category, k=args.top_k)
    (result,) = retrieve(index, encoder, [query])
    hits = result.hits
    if result.note:
        sys.stdout.write(f"{result.note}\n")
    _write_hits(hits)
    categories = {hit.garment.category for hit in hits}
    return _pipeline(args)(
        person,
        mask,
        [index.photo(hit.garment) for hit in hits],
        category=categories.pop() if len(categories) == 1 else "",
        caption=args.text,
        keypoints=keypoints,
        levels=levels,
        context=None if args.whole_photo else args.context,
        feather=None if args.whole else args.feather,
        **_sampling(args),
    )


def _outfit(args: argparse.Namespace) -> Image.Image:
    """The person in an outfit, each garment in the region of its category."""
    for name in ("levels", "whole", "mask", "category"):
        if getattr(args, name):
            raise ValueError(f"--{name} does not go with --outfit: leave it out.")
    if args.whole_photo and args.passes == "one":
        raise ValueError("--whole-photo goes with --passes two alone.")
    lines = read_outfit(args.outfit.read_text(encoding="utf-8-sig"))
    person = open_photo(args.person)
    masks = {category: open_photo(file).convert("L") for category, file in args.region}
    keypoints = _keypoints(args, person)
    index, encoder = _index(args)
    outfit = retrieve_outfit(index, encoder, lines, Query("outfit", k=args.top_k))
    for note in outfit.notes:
        sys.stdout.write(f"{note}\n")
    pieces = []
    for part in outfit.parts:
        if part.category not in masks:
            raise ValueError(
                f"{part}: there is no region for the category {part.category!r}; give "
                f"--region {part.category}=FILE, a picture in which white is repainted."
            )
        sys.stdout.write(f"{part}\n")
        _write_hits(part.result.hits)
        photos = [index.photo(hit.garment) for hit in part.result.hits]
        pieces.append(Piece(masks[part.category], photos, part.category, part.line.text))
    paint = one_pass if args.passes == "one" else two_passes
    return paint(
        _pipeline(args),
        person,
        pieces,
        keypoints=keypoints,
        context=None if args.whole_photo else args.context,
        feather=args.feather,
        **_sampling(args),
    )


def _keypoints(args: argparse.Namespace, person: Image.Image) -> np.ndarray | None:
    return None if args.pose is None else photo_keypoints(args.pose, args.pose_person, person.size)


def _index(args: argparse.Namespace) -> tuple[SearchBackend, Encoder]:
    index = open_index(args.index, args.catalogue)
    return index, load_encoder(args.encoder or args.model / "encoder")


def _write_hits(hits: Sequence[Hit]) -> None:
    for hit in hits:
        sys.stdout.write(f"{hit.score:.4f}  {hit.garment.id}  {hit.garment.file}\n")


def _pipeline(args: argparse.Namespace) -> FashionRAGPipeline:
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return FashionRAGPipeline.from_pretrained(
        args.model,
        unet=args.unet,
        adapter=args.adapter,
        device=device,
        dtype=torch.float16 if device.startswith("cuda") else torch.float32,
    )


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The options that every way of painting has."""
    return {
        "prompt": args.prompt,
        "strength": args.strength,
        "preprocess": args.preprocess,
        "steps": args.steps,
        "guidance_scale": args.guidance_scale,
        "height": args.height,
        "width": args.width,
        "seed": args.seed,
        "callback": _show_progress,
    }


def _show_progress(done: int, steps: int) -> None:
    sys.stderr.write(f"\r{done}/{steps} steps" + ("\n" if done == steps else ""))
    sys.stderr.flush()
