"""`fashion-rag generate`: from words and an index to the dressed person, without ComfyUI.

Like the nodes, it joins retriever and adapter, which do not know each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..adapter.garment.fidelity import best_picture, fidelity_line
from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.garment.prompts import PAPER_PROMPT, refuse_embeddings, split_prompt
from ..adapter.headless.depth import parse_levels
from ..adapter.headless.outfit import Piece, one_pass, two_passes
from ..adapter.headless.pipeline import PARTS, FashionRAGPipeline
from ..adapter.person.cut_out import CONTEXT
from ..adapter.person.framing import mask_tensor
from ..adapter.person.garment_mask import masks_from_labels
from ..adapter.person.inpainting import CELL, THRESHOLD, fit_mask
from ..adapter.person.mask_files import read_mask
from ..adapter.person.masks import CATEGORIES, GROWTH, MODES
from ..adapter.person.parsing import load_parser
from ..adapter.person.pose import photo_keypoints
from ..files import read_text
from ..miniature import trained
from ..pictures.photos import open_photo
from ..retriever.backends import SearchBackend
from ..retriever.encoders.open_clip import Encoder, load_encoder
from ..retriever.open_index import open_index
from ..retriever.outfit import read_outfit, retrieve_outfit
from ..retriever.photos.layouts import category_of
from ..retriever.query import retrieve
from ..retriever.query_types import MAX_POOL, Query
from ..retriever.search import Hit
from .parsing import add_parser_options, parsed_mask
from .terminal import (
    MINIATURE,
    add_device_option,
    check_picture,
    dtype_on,
    model_folder,
    number,
    save_picture,
    tell_progress,
    whole_number,
    write,
)

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
        "--parser, or a --region for every category in it",
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
        help="with --outfit: all garments in one sampling, or one after the other "
        f"(default {DEFAULT_PASSES})",
    )
    add_parser_options(parser, "--mask")
    add("--mask-mode", choices=MODES, help=f"of --parser (default: {MODES[0]})")
    add(
        "--pose",
        type=Path,
        metavar="FILE",
        help="JSON of DWPose or OpenPose (POSE_KEYPOINT), or Dress Code keypoints",
    )
    add(
        "--pose-person",
        type=whole_number(0),
        metavar="N",
        help="of --pose: 0 is the largest (default)",
    )
    add("--index", type=Path, required=True, metavar="FOLDER", help="made by `index build`")
    add("--catalogue", type=Path, metavar="FOLDER", help="where the garment photos are now")
    add(
        "--category",
        help="only garments of this category; with --parser and an index without categories: "
        "what they are",
    )
    add(
        "--top-k",
        type=whole_number(1, MAX_POOL),
        default=3,
        metavar="N",
        help="garments to use (default 3)",
    )
    add(
        "--model",
        type=model_folder,
        required=True,
        metavar="FOLDER",
        help=f"in diffusers layout, or `{MINIATURE}`, which comes with the pack",
    )
    add("--unet", type=Path, metavar="FILE", help="instead of the model folder's")
    add("--adapter", type=Path, metavar="FILE", help="instead of the model folder's")
    add(
        "--encoder",
        type=model_folder,
        metavar="FOLDER",
        help="the index's encoder (default: `encoder` in the model folder, else its own CLIP)",
    )
    add(
        "--prompt",
        default=PAPER_PROMPT,
        help="with {category}, {caption}, {garments}; weights: ({garments}:1.2)",
    )
    add("--strength", type=number(0, 2), default=1.0, help="of the garments, 0 to 2 (default 1)")
    add("--preprocess", choices=PREPROCESS, help="of garment photos (default: the adapter's)")
    add("--levels", help="U-Net depths that read the garments, such as '2 3' (default: all)")
    add(
        "--steps",
        type=whole_number(1, 1000),
        help="DDIM steps (default 50; 20 with the miniature)",
    )
    add(
        "--guidance-scale",
        type=number(0, 100),
        help="default 7.5; 2.5 with the miniature",
    )
    add(
        "--height",
        type=whole_number(CELL, 4096),
        help=f"of the canvas, a multiple of 8 (default 512; miniature {trained.SIZE[1]})",
    )
    add(
        "--width",
        type=whole_number(CELL, 4096),
        help=f"likewise (default 384; miniature {trained.SIZE[0]})",
    )
    add("--seed", type=whole_number(0, 2**64 - 1), default=0, help="of the noise (default 0)")
    add(
        "--best-of",
        type=whole_number(1, 64),
        default=1,
        metavar="N",
        help="paint with N seeds from --seed on and keep the picture nearest to the garments "
        "(default 1)",
    )
    add(
        "--feather",
        type=whole_number(0, 4096),
        help="pixels of transition, inwards (default 8)",
    )
    add(
        "--whole-photo",
        action="store_true",
        help="scale the whole photo to the canvas, as in the paper, instead of cutting the person "
        "out of it",
    )
    add(
        "--context",
        type=number(0, 10),
        metavar="SHARE",
        help=f"margin around the mask that is cut out with it, of its size (default {CONTEXT:g})",
    )
    add("--whole", action="store_true", help="do not paste back: the model's whole picture")
    add_device_option(parser)
    add("--out", type=Path, required=True, metavar="FILE", help="the picture to write")
    parser.set_defaults(run=_generate)


def _region(text: str) -> tuple[str, Path]:
    """Split CATEGORY=FILE into its two parts."""
    category, found, file = text.partition("=")
    if not (found and category.strip() and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not CATEGORY=FILE, as upper_body=top.png is")
    return category.strip(), Path(file)


def _generate(args: argparse.Namespace) -> None:
    """Retrieve, paint, write the picture and the garments' names."""
    _refuse_unused(args)
    _set_defaults(args)
    for name in ("height", "width"):
        if getattr(args, name) % CELL:
            raise ValueError(
                f"--{name} is {getattr(args, name)}: expected a multiple of {CELL}, such as 512."
            )
    if args.best_of > 1 and (args.whole or args.outfit is not None):
        other = "--whole" if args.whole else "--outfit"
        raise ValueError(f"--best-of does not go with {other}: leave one of them out.")
    split_prompt(args.prompt)
    check_picture(args.out, "--out")
    _check_model(args)
    picture = _outfit(args) if args.outfit is not None else _garments(args)
    out = save_picture(picture, args.out)
    write(f"wrote {out} ({picture.width}x{picture.height})")


def _garments(args: argparse.Namespace) -> Image.Image:
    """Paint the person in the garments that one text finds."""
    if not args.text.strip():
        raise ValueError("--text is empty: say what the person should wear.")
    if (args.mask is None) == (args.parser is None):
        raise ValueError("Name either --mask, or --parser, which makes the mask from the photo.")
    refuse_embeddings(args.prompt, args.text if "{caption}" in args.prompt else "")
    levels = None if args.levels is None else parse_levels(args.levels)
    person = open_photo(args.person)
    mask = None if args.mask is None else read_mask(args.mask, person.size)
    keypoints = _keypoints(args, person)
    index, encoder = _index(args)
    # Of a catalogue without categories, the one named can only be what is repainted.
    searched = args.category if args.parser is None or any(index.categories()) else None
    (result,) = retrieve(index, encoder, [Query(args.text, category=searched, k=args.top_k)])
    hits = result.hits
    if result.note:
        write(result.note)
    _write_hits(hits)
    categories = {hit.garment.category for hit in hits}
    if args.category and searched is None:
        categories = {category_of(args.category)}
    if mask is None:
        mask = _parsed_mask(args, person, categories, keypoints)
    pipeline, category = _pipeline(args), categories.pop() if len(categories) == 1 else ""
    photos = [index.photo(hit.garment) for hit in hits]
    pictures = (
        pipeline(
            person,
            mask,
            photos,
            category=category,
            caption=args.text,
            keypoints=keypoints,
            levels=levels,
            context=None if args.whole_photo else args.context,
            feather=None if args.whole else args.feather,
            **{**_sampling(args), "seed": (args.seed + place) % 2**64},
        )
        for place in range(args.best_of)
    )
    if args.best_of == 1:
        return next(pictures)
    return _nearest(args, list(pictures), mask, category, photos, encoder)


def _nearest(
    args: argparse.Namespace,
    pictures: Sequence[Image.Image],
    mask: Image.Image | np.ndarray,
    category: str,
    photos: Sequence[Image.Image],
    encoder: Encoder,
) -> Image.Image:
    """Choose the picture whose painted garment is most similar to a photo; write every score."""
    size = (pictures[0].height, pictures[0].width)
    repainted = fit_mask(mask_tensor(mask), size)[0].numpy() >= THRESHOLD
    regions = [repainted] * len(pictures)
    if args.parser is not None:
        parser, person = load_parser(args.parser), args.person_number
        for place, picture in enumerate(pictures):
            masks = masks_from_labels(
                parser.labels_of(picture), category, args.mask_mode, person=person
            )
            if (worn := masks.garment & repainted).any():
                regions[place] = worn
    best, found = best_picture(
        pictures, regions, photos, lambda some: encoder.encode_images(some).numpy()
    )
    for place, one in enumerate(found):
        write(fidelity_line(f"seed {(args.seed + place) % 2**64}", one, place == best))
    return pictures[best]


def _outfit(args: argparse.Namespace) -> Image.Image:
    """Paint the person in an outfit, each garment in the region of its category."""
    for name in ("levels", "whole", "mask", "category"):
        if getattr(args, name):
            raise ValueError(f"--{name} does not go with --outfit: leave it out.")
    if args.whole_photo and args.passes == "one":
        raise ValueError("--whole-photo goes with --passes two alone.")
    lines = read_outfit(read_text(args.outfit))
    _check_regions(args.region, {line.category for line in lines})
    person = open_photo(args.person)
    masks: dict[str, Any] = {name: read_mask(file, person.size) for name, file in args.region}
    keypoints = _keypoints(args, person)
    index, encoder = _index(args)
    outfit = retrieve_outfit(index, encoder, lines, Query("outfit", k=args.top_k))
    for note in outfit.notes:
        write(note)
    categories = {part.category for part in outfit.parts} | {line.category for line in lines}
    _check_regions(args.region, categories - {""})
    pieces = []
    for part in outfit.parts:
        if part.category not in masks and args.parser is not None:
            masks[part.category] = _parsed_mask(args, person, {part.category}, keypoints)
        if part.category not in masks:
            raise ValueError(
                f"{part}: there is no region for the category {part.category!r}; give "
                f"--parser, or --region {part.category}=FILE (white is repainted)."
            )
        write(str(part))
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


def _check_regions(regions: Sequence[tuple[str, Path]], categories: set[str]) -> None:
    """Refuse regions that no garment of the outfit is painted in.

    Args:
        categories: of the outfit's lines; with "" among them, others may still be found.

    Raises:
        ValueError: a region is of another category, or there are two of one.
    """
    named = [category for category, _ in regions]
    for category, file in regions:
        given = f"--region {category}={file}"
        if named.count(category) > 1:
            raise ValueError(f"{given} is one of {named.count(category)} of {category}: keep one.")
        if category not in categories and "" not in categories:
            raise ValueError(
                f"{given} is not used: the outfit's lines are of {', '.join(sorted(categories))}. "
                "Leave it out, or name one of these."
            )


def _keypoints(args: argparse.Namespace, person: Image.Image) -> np.ndarray | None:
    return None if args.pose is None else photo_keypoints(args.pose, args.pose_person, person.size)


def _index(args: argparse.Namespace) -> tuple[SearchBackend, Encoder]:
    index = open_index(args.index, args.catalogue)
    return index, load_encoder(args.encoder or _own_encoder(args.model))


def _write_hits(hits: Sequence[Hit]) -> None:
    for hit in hits:
        write(f"{hit.score:.4f}  {hit.garment.id}  {hit.garment.file}")


def _pipeline(args: argparse.Namespace) -> FashionRAGPipeline:
    return FashionRAGPipeline.from_pretrained(
        args.model,
        unet=args.unet,
        adapter=args.adapter,
        device=args.device,
        dtype=dtype_on(args.device),
    )


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that every way of painting has."""
    return {
        "prompt": args.prompt,
        "strength": args.strength,
        "preprocess": args.preprocess,
        "steps": args.steps,
        "guidance_scale": args.guidance_scale,
        "height": args.height,
        "width": args.width,
        "seed": args.seed,
        "callback": lambda done, steps: tell_progress(f"{done}/{steps} steps", done == steps),
    }


def _parsed_mask(
    args: argparse.Namespace,
    person: Image.Image,
    categories: set[str],
    keypoints: np.ndarray | None,
) -> np.ndarray:
    """Make the mask (H, W) float32 in 0..1 of the garments found, by the parser.

    Raises:
        ValueError: they are of several categories, or of one that masks don't know.
    """
    if len(categories) != 1 or not categories <= set(CATEGORIES):
        raise ValueError(
            f"The garments found are of {', '.join(sorted(categories)) or 'no category'}, and "
            f"--parser needs one of {', '.join(CATEGORIES)}: name it with --category."
        )
    (category,) = categories
    masks = parsed_mask(
        args.parser, person, category, args.mask_mode, args.grow, args.person_number, keypoints
    )
    return masks.mask.astype(np.float32)


def _refuse_unused(args: argparse.Namespace) -> None:
    """Refuse options that change nothing without another one, or beside it.

    Raises:
        ValueError: naming both.
    """
    needed = [
        ("--region", args.region, "--outfit", args.outfit),
        ("--passes", args.passes, "--outfit", args.outfit),
        ("--mask-mode", args.mask_mode, "--parser", args.parser),
        ("--grow", args.grow, "--parser", args.parser),
        ("--person-number", args.person_number, "--parser", args.parser),
        ("--pose-person", args.pose_person, "--pose", args.pose),
    ]
    for option, value, other, there in needed:
        if value not in (None, []) and there is None:
            raise ValueError(f"{option} belongs to {other}: leave it out, or give {other} too.")
    for option, value, other, there in (
        ("--feather", args.feather, "--whole", args.whole),
        ("--context", args.context, "--whole-photo", args.whole_photo),
    ):
        if value is not None and there:
            raise ValueError(f"{option} does not go with {other}: leave one of them out.")


def _check_model(args: argparse.Namespace) -> None:
    """Refuse a folder that is no model, in the model's own words, before its encoder is asked.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    adapter = args.adapter or args.model / "inversion_adapter.safetensors"
    if not (adapter.is_file() and all((args.model / part).is_dir() for part in PARTS)):
        _pipeline(args)


def _set_defaults(args: argparse.Namespace) -> None:
    """Fill in what was not given: the paper's sampling, or the miniature's, and the rest."""
    small = trained.is_miniature(args.model)
    width, height = trained.SIZE if small else (384, 512)
    steps, guidance = (trained.STEPS, trained.GUIDANCE) if small else (50, 7.5)
    defaults = {"steps": steps, "guidance_scale": guidance, "height": height, "width": width}
    defaults |= {"passes": DEFAULT_PASSES, "mask_mode": MODES[0], "pose_person": 0}
    defaults |= {"grow": GROWTH, "person_number": 0, "feather": 8, "context": CONTEXT}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _own_encoder(model: Path) -> Path:
    """Return the encoder that comes with a model folder: `encoder` in it, else its own CLIP."""
    return model / "encoder" if (model / "encoder").is_dir() else model
