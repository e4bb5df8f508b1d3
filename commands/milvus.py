"""`fashion-rag index push|pull`: copying an index to a Milvus collection, and back."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..retriever.milvus.connection import CONFIG, KINDS, TIMEOUT, CollectionPlace
from ..retriever.milvus.index import MilvusIndex
from ..retriever.milvus.pull import pull
from ..retriever.milvus.sync import push
from ..retriever.store.index import GarmentIndex
from .terminal import describe_words, number, progress_bar, write

EMBEDDED = "vectors.db"


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Add `push` and `pull` to the actions of `fashion-rag index`."""
    _add_push(actions.add_parser("push", help="copy an index to a Milvus collection"))
    _add_pull(actions.add_parser("pull", help="make a local index of a Milvus collection"))


def describe(index: MilvusIndex) -> str:
    """Write what a collection holds, for `fashion-rag index info`."""
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
            f"words      {describe_words(index.has_words)}",
            *(f"  {count:>8}  {name}" for name, count in counts.items()),
        ]
    )


def _add_push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("index", type=Path, help="folder of a local index")
    add("folder", type=Path, help=f"folder that stands for the collection; it gets a {CONFIG}")
    add("--collection", metavar="NAME", help="default: the folder's name")
    add("--uri", help=f"http://host:19530 (default: {EMBEDDED} in the folder, by milvus-lite)")
    add("--database", default="", metavar="NAME")
    add(
        "--timeout",
        type=number(0.001, 3600),
        default=TIMEOUT,
        metavar="S",
        help="of a request, default: 10 s",
    )
    add("--kind", choices=KINDS, default="exact", help="how it is searched, default: exact")
    parser.set_defaults(run=_push)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, help=f"folder with a {CONFIG}")
    add("index", type=Path, help="folder of the index to write")
    add("--catalogue", type=Path, required=True, help="where the photos are")
    add("--overwrite", action="store_true", help="replace a finished index")
    parser.set_defaults(run=_pull)


def _push(args: argparse.Namespace) -> None:
    if (args.folder / CONFIG).is_file() and args.uri is None and args.collection is None:
        place = CollectionPlace.read(args.folder)
    else:
        name = args.collection or re.sub(r"\W", "_", args.folder.resolve().name, flags=re.ASCII)
        uri = EMBEDDED if args.uri is None else args.uri
        place = CollectionPlace(name, uri, args.database, args.timeout)
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
