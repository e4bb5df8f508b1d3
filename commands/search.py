"""`fashion-rag index search`: find garments by text, by photo, or both."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..pictures.contact_sheet import contact_sheet
from ..pictures.photos import open_photo
from ..retriever.open_index import open_index
from ..retriever.query import CHUNKS, MAX_POOL, Query, Result, retrieve
from ..retriever.search import BACKENDS
from .terminal import (
    add_encoder_options,
    check_picture,
    encoder_of,
    number,
    save_picture,
    whole_number,
    write,
)


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Add `search` to the actions of `fashion-rag index`."""
    _add_search(actions.add_parser("search", help="find garments by text, by photo, or both"))


def _add_search(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument, Query("-")
    add("index", type=Path, help="folder of an index, also of one in Milvus")
    add(
        "text",
        nargs="+",
        help="what the garment looks like, in English; each text is a query of its own",
    )
    add_encoder_options(parser)
    add(
        "-k",
        "--top-k",
        type=whole_number(1, MAX_POOL),
        default=default.k,
        metavar="K",
        help="default: 3",
    )
    add("--chunks", choices=CHUNKS, default=default.chunks, help="parts between commas; see docs")
    add(
        "--negative",
        default="",
        metavar="TEXT",
        help="what it should not look like (not: `not red` in TEXT)",
    )
    add(
        "--negative-weight",
        type=number(0, 2),
        default=default.negative_weight,
        metavar="W",
        help="0 to 2, default: 0.3",
    )
    add("--image", type=Path, action="append", default=[], metavar="FILE", help="reference photo")
    add(
        "--image-weight",
        type=number(0, 1),
        default=default.image_weight,
        metavar="W",
        help="0 to 1, default: 0.3",
    )
    add("--category", help="search this category alone")
    add("--where", default="", metavar="FILTER", help="such as: price < 80 and brand in ['Acme']")
    add(
        "--min-score",
        type=number(-1, 1),
        default=default.min_score,
        metavar="S",
        help="least cosine",
    )
    add(
        "--diversity",
        type=number(0, 1),
        default=default.diversity,
        metavar="D",
        help="0 to 1, default 0",
    )
    add(
        "--draw-from",
        type=whole_number(0, MAX_POOL),
        default=0,
        metavar="N",
        help="draw K at random from the N best",
    )
    add(
        "--temperature",
        type=number(0),
        default=default.temperature,
        metavar="T",
        help="of the draw",
    )
    add(
        "--seed",
        type=whole_number(0, 2**64 - 1),
        default=default.seed,
        metavar="N",
        help="of the draw, default: 0",
    )
    add("--pin", action="append", default=[], metavar="ID", help="take this garment in any case")
    add("--exclude", action="append", default=[], metavar="ID", help="never take this garment")
    add("--catalogue", type=Path, help="where the photos are now, if they were moved")
    add("--backend", choices=BACKENDS, default="auto", help="how a local index is searched")
    add("--sheet", type=Path, metavar="FILE", help="save a contact sheet (png, jpg) of each query")
    parser.set_defaults(run=_search)


def _search(args: argparse.Namespace) -> None:
    if args.sheet:
        check_picture(args.sheet, "--sheet")
    images = tuple(open_photo(path) for path in args.image)
    queries = [
        Query(
            text=text,
            chunks=args.chunks,
            negative=args.negative,
            negative_weight=args.negative_weight,
            images=images,
            image_weight=args.image_weight,
            category=args.category,
            where=args.where,
            k=args.top_k,
            diversity=args.diversity,
            draw_from=args.draw_from,
            seed=args.seed,
            temperature=args.temperature,
            pinned=tuple(args.pin),
            excluded=tuple(args.exclude),
            min_score=args.min_score,
        )
        for text in args.text
    ]
    index = open_index(args.index, args.catalogue, args.backend)
    results = retrieve(index, encoder_of(args), queries)
    for place, result in enumerate(results):
        if len(results) > 1:
            write(f"{chr(10) if place else ''}{result.query}")
        write("cosine  file  caption")
        for hit in result.hits:
            write(f"{hit.score:.4f}  {hit.garment.file}  {hit.garment.caption}".rstrip())
        if result.note:
            write(result.note)
        if args.sheet and result.hits:
            many = f"{args.sheet.stem}_{place + 1}{args.sheet.suffix}"
            path = args.sheet if len(results) == 1 else args.sheet.with_name(many)
            save_picture(_sheet(index, result), path)


def _sheet(index, result: Result):
    tiles = [
        (index.thumbnail(hit.garment), f"{hit.score:.3f}\n{hit.garment.caption or hit.garment.id}")
        for hit in result.hits
    ]
    return contact_sheet(tiles, title=f"{result.query}: cosine similarity")
