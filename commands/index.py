"""`fashion-rag index build` and `info`; the other actions are in upkeep, search and milvus."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..retriever.encoders.color_check import CARDS, check_text_image_pair
from ..retriever.encoders.open_clip import Encoder
from ..retriever.encoders.recipe import PLAIN, RECIPES, recipe_of, with_recipe
from ..retriever.milvus.connection import CONFIG
from ..retriever.milvus.index import MilvusIndex
from ..retriever.store.index import GarmentIndex
from ..retriever.store.manifest import data_files
from ..retriever.upkeep.refresh import refresh_index
from . import milvus, search, upkeep
from .terminal import (
    add_encoder_options,
    describe_words,
    encoder_of,
    progress_bar,
    whole_number,
    write,
)
from .upkeep import add_kind_options, add_processes_option, describe_kind

MATCHED = 7
"""An encoder's towers belong together if so many of 8 colour cards are nearest to their names."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `index build|info|search|...`; each sets `run`."""
    parser = commands.add_parser("index", help="build, describe and search garment indexes")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    build = actions.add_parser(
        "build", help="encode a catalogue of garment photos, or bring its index up to date"
    )
    build.add_argument("catalogue", type=Path, help="folder of photos, or a Dress Code folder")
    build.add_argument("index", type=Path, help="folder of the index to write")
    add_encoder_options(build)
    build.add_argument(
        "--overwrite",
        action="store_true",
        help="encode all photos again, also with another encoder; otherwise a finished index is "
        "brought up to date",
    )
    build.add_argument(
        "--batch-size", type=whole_number(1), default=32, metavar="N", help="default: 32"
    )
    build.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="encode the I-th of N parts of the catalogue alone; join them with `index merge`",
    )
    build.add_argument(
        "--unchecked",
        action="store_true",
        help="use an encoder though its text and image towers do not seem to belong together",
    )
    build.add_argument(
        "--recipe",
        choices=RECIPES,
        default=PLAIN,
        help="views: each photo also padded and cropped to a square, and a prompt in each query; "
        "see docs/finding.md (default: plain)",
    )
    add_kind_options(build)
    add_processes_option(build)
    build.set_defaults(run=_build)

    info = actions.add_parser("info", help="what an index holds")
    info.add_argument("index", type=Path)
    info.set_defaults(run=_info)

    for module in (search, upkeep, milvus):
        module.add_actions(actions)


def _shard(text: str) -> tuple[int, int]:
    try:
        part, of = map(int, text.split("/"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: expected 1/4, say") from error
    if not 1 <= part <= of:
        last = max(1, of)
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shard: expected 1/{last} to {last}/{last}"
        )
    return part, of


def _build(args: argparse.Namespace) -> None:
    encoder = with_recipe(encoder_of(args), args.recipe)
    if not args.unchecked:
        check_pair(encoder, args.encoder)
    with progress_bar() as progress:
        report = refresh_index(
            args.catalogue,
            args.index,
            encoder,
            overwrite=args.overwrite,
            batch_size=args.batch_size,
            progress=progress,
            shard=args.shard,
            processes=args.processes,
            kind=args.kind,
        )
    write(report.summary())


def check_pair(encoder: Encoder, folder: Path) -> None:
    """Refuse an encoder that doesn't match colour cards to their names.

    Raises:
        ValueError: it matches fewer than MATCHED of them.
    """
    right = check_text_image_pair(encoder)
    if right < MATCHED:
        raise ValueError(
            f"The encoder {folder} matches only {right} of {len(CARDS)} colour cards to their "
            f"names ({MATCHED} expected): its text and image towers do not belong together, or "
            "are not trained. Fetch one with `fashion-rag encoder get`; --unchecked builds anyway."
        )


def _info(args: argparse.Namespace) -> None:
    if (args.index / CONFIG).is_file():
        write(milvus.describe(MilvusIndex.open(args.index)))
        return
    index = GarmentIndex.open(args.index)
    manifest = index.manifest
    encoder = manifest["encoder"]
    counts = dict(index.category_counts)
    counts["without a category"] = counts.pop("", 0)
    size = sum(entry["bytes"] for entry in data_files(manifest)) / 1e6
    lines = [
        f"{args.index}: {len(index)} garments, {size:.1f} MB, built {manifest['created']}",
        f"encoder    {encoder['name']} ({encoder['fingerprint'][:12]}), dimension "
        f"{encoder['dim']}, {encoder['color_check']} of 8 colour cards, recipe "
        f"{recipe_of(encoder)}",
        f"kind       {describe_kind(manifest['kind'])}",
        f"catalogue  {manifest['catalogue']['path']}",
        f"words      {describe_words(index.has_words)}",
        *(f"  {count:>8}  {name}" for name, count in counts.items() if count),
        *(f"left out   {reject['file']}: {reject['reason']}" for reject in manifest["rejects"]),
    ]
    write("\n".join(lines))
