"""`fashion-rag catalogue import`: making a catalogue from a shop's product feed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..retriever.photos.feeds import read_words
from ..retriever.upkeep.import_feed import import_feed
from .terminal import progress_bar, write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `catalogue`."""
    parser = commands.add_parser("catalogue", help="make a catalogue of a shop's product feed")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parser = actions.add_parser(
        "import",
        help="write garments.csv from Shopify's CSV, Google Merchant's TSV or XML, or any CSV",
        description="Map a product feed's columns to a catalogue's table and find its photos, by "
        "path, file name or id. Run again, it takes over what has changed; a garments.csv of "
        "your own is kept as garments.csv.old, .old2 and so on.",
    )
    add = parser.add_argument
    add("feed", type=Path, help="file of any separator and encoding")
    add("catalogue", type=Path, help="folder of the catalogue; made where it is missing")
    add("--photos", type=Path, metavar="FOLDER", help="where else the photos are")
    add(
        "--download",
        action="store_true",
        help="fetch photos that are not found (https, public addresses, 40 MB each at most)",
    )
    add(
        "--words",
        type=Path,
        metavar="FILE",
        help='JSON of categories and words of product types: {"shoes": ["boots", "sneakers"]}',
    )
    add("--dry-run", action="store_true", help="print the mapping and what is missing, no more")
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> None:
    words = read_words(args.words) if args.words else None
    with progress_bar(" photos") as progress:
        report = import_feed(
            args.feed,
            args.catalogue,
            args.photos,
            download=args.download,
            dry=args.dry_run,
            words=words,
            progress=progress,
        )
    for line in report.lines():
        write(line)
