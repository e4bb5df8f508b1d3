"""`fashion-rag index update|remove|duplicates|merge|tune|verify`: keeping an index in order."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_text
from ..retriever.encoders.recipe import as_built
from ..retriever.milvus.connection import CONFIG
from ..retriever.store.index import GarmentIndex
from ..retriever.store.manifest import MANIFEST
from ..retriever.upkeep.duplicates import THRESHOLD, find_duplicates
from ..retriever.upkeep.merge import merge_indexes
from ..retriever.upkeep.tune import tune_index
from ..retriever.upkeep.update import remove_garments, update_index
from ..retriever.vectors.approximate import KINDS
from .terminal import add_encoder_options, encoder_of, number, progress_bar, whole_number, write


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Add the commands to those of `index`; each sets `run`."""
    update = actions.add_parser(
        "update", help="encode what is new or changed in the catalogue, drop what is gone"
    )
    update.add_argument("index", type=Path)
    add_encoder_options(update)
    update.add_argument("--catalogue", type=Path, help="where the photos are now, if moved")
    update.add_argument(
        "--batch-size", type=whole_number(1), default=32, metavar="N", help="default: 32"
    )
    update.add_argument(
        "--check-content", action="store_true", help="read every photo, not only size and time"
    )
    update.add_argument(
        "--restore", action="store_true", help="add what `remove` or `duplicates --fold` took out"
    )
    add_processes_option(update)
    update.set_defaults(run=_update)

    remove = actions.add_parser("remove", help="take garments out, though their photos stay")
    remove.add_argument("index", type=Path)
    remove.add_argument("ids", nargs="+", metavar="ID", help="ids of garments")
    remove.set_defaults(run=_remove)

    duplicates = actions.add_parser("duplicates", help="find photos that are nearly the same")
    duplicates.add_argument("index", type=Path)
    duplicates.add_argument(
        "--threshold",
        type=number(-1, 1),
        default=THRESHOLD,
        metavar="C",
        help=f"cosine similarity, default: {THRESHOLD}",
    )
    duplicates.add_argument(
        "--fold", action="store_true", help="keep the first of each group, take the others out"
    )
    duplicates.set_defaults(run=_duplicates)

    merge = actions.add_parser("merge", help="join indexes of parts of one catalogue")
    merge.add_argument("index", type=Path, help="folder of the index to write")
    merge.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help="the parts")
    merge.add_argument("--catalogue", type=Path, help="the whole catalogue, if it is elsewhere")
    add_kind_options(merge)
    merge.add_argument("--overwrite", action="store_true", help="replace a finished index")
    merge.set_defaults(run=_merge)

    verify = actions.add_parser("verify", help="compare every file of an index with its checksum")
    verify.add_argument("index", type=Path)
    verify.set_defaults(run=_verify)

    tune = actions.add_parser(
        "tune", help="choose the search parameters for a wanted recall against exact search"
    )
    tune.add_argument("index", type=Path)
    tune.add_argument(
        "--recall", type=number(0, 1), default=0.95, metavar="R", help="default: 0.95"
    )
    tune.add_argument(
        "-k", "--top-k", type=whole_number(1), default=10, metavar="K", help="default: 10"
    )
    tune.add_argument("--kind", choices=KINDS, help="make the index one of this kind first")
    tune.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="what users ask for, one a line (needs --encoder); otherwise queries are made up",
    )
    add_encoder_options(tune, required=False)
    tune.set_defaults(run=_tune)


def add_kind_options(parser: argparse.ArgumentParser) -> None:
    """Add `--kind`, one of KINDS."""
    parser.add_argument("--kind", choices=KINDS, default="auto", help="of index; auto goes by size")


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add `--processes`; see `PhotoReader`."""
    parser.add_argument(
        "--processes",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="decode photos in N processes rather than on threads, for a fast GPU (default: 0)",
    )


def describe_kind(kind: Mapping[str, Any]) -> str:
    """Say in words which kind a manifest records."""
    rest = (f"{name.replace('_', ' ')} {value}" for name, value in kind.items() if name != "name")
    return ", ".join([kind["name"], *rest])


def _check_local(folder: Path) -> None:
    """Raise ValueError where a folder stands for a collection, which a local index is pushed to."""
    if (folder / CONFIG).is_file() and not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} stands for a collection in Milvus ({CONFIG}): do this with the local index "
            "that was pushed to it, and push that again (`fashion-rag index push`)."
        )


def _update(args: argparse.Namespace) -> None:
    _check_local(args.index)
    encoder = encoder_of(args)
    with progress_bar() as progress:
        report = update_index(
            args.index,
            encoder,
            args.catalogue,
            check_content=args.check_content,
            restore=args.restore,
            batch_size=args.batch_size,
            progress=progress,
            processes=args.processes,
        )
    write(report.summary())


def _remove(args: argparse.Namespace) -> None:
    _check_local(args.index)
    try:
        count = remove_garments(args.index, args.ids)
    except KeyError as error:
        raise ValueError(f"{args.index} has no garment of the id {error.args[0]!r}.") from error
    write(f"{count} garments are left in {args.index}")


def _duplicates(args: argparse.Namespace) -> None:
    _check_local(args.index)
    index = GarmentIndex.open(args.index)
    with progress_bar() as progress:
        groups = find_duplicates(index, args.threshold, progress)
    names = [[index.garment(row).id for row in group] for group in groups]
    for first, *others in names:
        write(f"{first}\n" + "\n".join(f"    {other}" for other in others))
    others = [name for group in names for name in group[1:]]
    write(f"{len(groups)} garments have {len(others)} near-duplicates")
    index.close()
    if args.fold and others:
        count = remove_garments(args.index, others, "near-duplicate")
        write(f"{count} garments are left in {args.index}")


def _merge(args: argparse.Namespace) -> None:
    report = merge_indexes(
        args.sources,
        args.index,
        args.catalogue,
        overwrite=args.overwrite,
        kind=args.kind,
    )
    write(report.summary())


def _tune(args: argparse.Namespace) -> None:
    _check_local(args.index)
    queries = None
    if args.texts is not None:
        if args.encoder is None:
            raise ValueError("--texts needs --encoder, the one that the index was built with.")
        texts = [line for line in read_text(args.texts).splitlines() if line.strip()]
        if not texts:
            raise ValueError(f"{args.texts} holds no text: write one a line.")
        index = GarmentIndex.open(args.index)
        encoder = as_built(encoder_of(args), index.manifest["encoder"])
        index.check_encoder(encoder)
        queries = encoder.encode_texts(texts)
    with progress_bar() as progress:
        report = tune_index(
            args.index,
            args.recall,
            args.top_k,
            kind=args.kind,
            queries=queries,
            progress=progress,
        )
    write(report.summary() if report else f"{args.index} is exact: its recall is 1")


def _verify(args: argparse.Namespace) -> None:
    _check_local(args.index)
    index = GarmentIndex.open(args.index)
    index.verify()
    write(f"{args.index}: {len(index)} garments, every file is whole")
