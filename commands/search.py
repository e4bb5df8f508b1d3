"""The commands `fashion-rag index search`, `push` and `pull`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..pictures.contact_sheet import contact_sheet
from ..pictures.photos import open_photo
from ..retriever.milvus.connection import CONFIG, KINDS, TIMEOUT, Place
from ..retriever.milvus.index import MilvusIndex
from ..retriever.milvus.sync import pull, push
from ..retriever.open_index import open_index
from ..retriever.query import CHUNKS, Query, Result, retrieve
from ..retriever.search import BACKENDS
from ..retriever.store.index import GarmentIndex
from .terminal import add_encoder_options, encoder_of, progress_bar, write

EMBEDDED = "vectors.db"


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Add `search`, `push` and `pull` to the actions of `fashion-rag index`."""
    _add_search(actions.add_parser("search", help="find garments by text, by photo, or both"))
    _add_push(actions.add_parser("push", help="copy an index to a Milvus collection"))
    _add_pull(actions.add_parser("pull", help="make a local index of a Milvus collection"))


def describe(index: MilvusIndex) -> str:
    """What a collection holds, for `fashion-rag index info`."""
    manifest, encoder = index.manifest, index.manifest["encoder"]
    counts = {name or "without a category": n for name, n in manifest["categories"].items()}
    return "\n".join(
        [
            f"collection {manifest['collection']!r} at {index.connection.address}: {len(index)} "
            f"garments, searched by {manifest['kind']}",
            f"encoder    {encoder['name']} ({encoder['fingerprint'][:12]}), dimension "
            f"{encoder['dim']}",
            f"catalogue  {manifest['catalogue']['path']}",
            f"columns    {', '.join(manifest['columns'])}",
            *(f"  {count:>8}  {name}" for name, count in counts.items()),
        ]
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument, Query("-")
    add("index", type=Path, help="folder of an index, also of one in Milvus")
    add("text", nargs="+", help="what the garment looks like; each text is a query of its own")
    add_encoder_options(parser)
    add("-k", "--top-k", type=int, default=default.k, metavar="K", help="default: 3")
    add("--chunks", choices=CHUNKS, default=default.chunks, help="parts between commas; see docs")
    add("--negative", default="", metavar="TEXT", help="what it should not look like")
    add(
        "--negative-weight",
        type=float,
        default=default.negative_weight,
        metavar="W",
        help="0 to 2, default: 0.3",
    )
    add("--image", type=Path, action="append", default=[], metavar="FILE", help="reference photo")
    add(
        "--image-weight",
        type=float,
        default=default.image_weight,
        metavar="W",
        help="0 to 1, default: 0.3",
    )
    add("--category", help="search this category alone")
    add("--where", default="", metavar="FILTER", help="such as: price < 80 and brand in ['Acme']")
    add("--min-score", type=float, default=default.min_score, metavar="S", help="least cosine")
    add("--diversity", type=float, default=default.diversity, metavar="D", help="0 to 1, default 0")
    add("--draw-from", type=int, default=0, metavar="N", help="draw K at random from the N best")
    add("--temperature", type=float, default=default.temperature, metavar="T", help="of the draw")
    add("--seed", type=int, default=default.seed, metavar="N", help="of the draw, default: 0")
    add("--pin", action="append", default=[], metavar="ID", help="take this garment in any case")
    add("--exclude", action="append", default=[], metavar="ID", help="never take this garment")
    add("--catalogue", type=Path, help="where the photos are now, if they were moved")
    add("--backend", choices=BACKENDS, default="auto", help="how a local index is searched")
    add("--sheet", type=Path, metavar="FILE", help="save a contact sheet (png, jpg) of each query")
    parser.set_defaults(run=_search)


def _add_push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("index", type=Path, help="folder of a local index")
    add("folder", type=Path, help=f"folder that stands for the collection; it gets a {CONFIG}")
    add("--collection", metavar="NAME", help="default: the folder's name")
    add("--uri", help=f"http://host:19530 (default: {EMBEDDED} in the folder, by milvus-lite)")
    add("--database", default="", metavar="NAME")
    add("--timeout", type=float, default=TIMEOUT, metavar="S", help="of a request, default: 10 s")
    add("--kind", choices=KINDS, default="exact", help="how it is searched, default: exact")
    parser.set_defaults(run=_push)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, help=f"folder with a {CONFIG}")
    add("index", type=Path, help="folder of the index to write")
    add("--catalogue", type=Path, required=True, help="where the photos are")
    add("--overwrite", action="store_true", help="replace a finished index")
    parser.set_defaults(run=_pull)


def _search(args: argparse.Namespace) -> None:
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
    for number, result in enumerate(results):
        if len(results) > 1:
            write(f"{'' if number == 0 else chr(10)}{result.query}")
        write("cosine  file  caption")
        for hit in result.hits:
            write(f"{hit.score:.4f}  {hit.garment.file}  {hit.garment.caption}".rstrip())
        if result.note:
            write(result.note)
        if args.sheet and result.hits:
            many = f"{args.sheet.stem}_{number + 1}{args.sheet.suffix}"
            path = args.sheet if len(results) == 1 else args.sheet.with_name(many)
            _sheet(index, result).save(path)


def _sheet(index, result: Result):
    tiles = [
        (index.thumbnail(hit.garment), f"{hit.score:.3f}\n{hit.garment.caption or hit.garment.id}")
        for hit in result.hits
    ]
    return contact_sheet(tiles, title=f"{result.query}: cosine similarity")


def _push(args: argparse.Namespace) -> None:
    if (args.folder / CONFIG).is_file() and args.uri is None and args.collection is None:
        place = Place.read(args.folder)
    else:
        name = args.collection or re.sub(r"\W", "_", args.folder.resolve().name, flags=re.ASCII)
        uri = EMBEDDED if args.uri is None else args.uri
        place = Place(name, uri, args.database, args.timeout)
    with progress_bar() as progress:
        index = GarmentIndex.open(args.index)
        manifest = push(index, args.folder, place, kind=args.kind, progress=progress)
    write(
        f"{manifest['count']} garments are in the collection {place.collection!r} at "
        f"{place.address(args.folder)}, kind {manifest['kind']}; {args.folder} stands for it."
    )


def _pull(args: argparse.Namespace) -> None:
    with progress_bar() as progress:
        count, rejects = pull(
            args.folder, args.index, args.catalogue, overwrite=args.overwrite, progress=progress
        )
    lines = [f"{count} garments are in the index {args.index}."]
    lines += [f"{len(rejects)} left out:"] if rejects else []
    write("\n  ".join([" ".join(lines), *(f"{r.file}: {r.reason}" for r in rejects)]))
