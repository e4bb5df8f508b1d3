"""The commands `fashion-rag index` and `fashion-rag encoder`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..retriever.encoders import hub
from ..retriever.milvus.connection import CONFIG
from ..retriever.milvus.index import MilvusIndex
from ..retriever.store.index import GarmentIndex
from ..retriever.store.manifest import data_files
from ..retriever.upkeep.build import build_index
from . import search as query_cli
from . import upkeep
from .terminal import add_encoder_options, encoder_of, progress_bar, write
from .upkeep import add_kind_options, add_processes_option, describe_kind


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `index build|info|search|...` and `encoder list|get`; each sets `run`."""
    _add_index(commands.add_parser("index", help="build, describe and search garment indexes"))
    _add_encoder(commands.add_parser("encoder", help="list and fetch retrieval encoders"))


def _add_index(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    build = actions.add_parser("build", help="encode a catalogue of garment photos")
    build.add_argument("catalogue", type=Path, help="folder of photos, or a Dress Code folder")
    build.add_argument("index", type=Path, help="folder of the index to write")
    add_encoder_options(build)
    build.add_argument("--overwrite", action="store_true", help="replace a finished index")
    build.add_argument("--batch-size", type=int, default=32, metavar="N", help="default: 32")
    build.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="encode the I-th of N parts of the catalogue alone; join them with `index merge`",
    )
    add_kind_options(build)
    add_processes_option(build)
    build.set_defaults(run=_build)

    info = actions.add_parser("info", help="what an index holds")
    info.add_argument("index", type=Path)
    info.set_defaults(run=_info)

    upkeep.add_actions(actions)

    query_cli.add_actions(actions)


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="encoders that can be fetched").set_defaults(run=_list)
    get = actions.add_parser("get", help="fetch an encoder from the Hugging Face hub")
    get.add_argument("tag", metavar="TAG", help="see `fashion-rag encoder list`")
    get.add_argument(
        "--to",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where the encoder's folder goes, such as ComfyUI/models/fashion_rag/encoders "
        "(default: here)",
    )
    get.set_defaults(run=_get)


def _shard(text: str) -> tuple[int, int]:
    try:
        number, of = map(int, text.split("/"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: expected 1/4, say") from error
    return number, of


def _build(args: argparse.Namespace) -> None:
    encoder = encoder_of(args)
    with progress_bar() as progress:
        report = build_index(
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


def _info(args: argparse.Namespace) -> None:
    if (args.index / CONFIG).is_file():
        write(query_cli.describe(MilvusIndex.open(args.index)))
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
        f"{encoder['dim']}, {encoder['color_check']} of 8 colour cards",
        f"kind       {describe_kind(manifest['kind'])}",
        f"catalogue  {manifest['catalogue']['path']}",
        *(f"  {count:>8}  {name}" for name, count in counts.items() if count),
        *(f"left out   {reject['file']}: {reject['reason']}" for reject in manifest["rejects"]),
    ]
    write("\n".join(lines))


def _list(args: argparse.Namespace) -> None:
    for tag, source in hub.SOURCES.items():
        write(f"{tag:<28} {source.description}; licence {source.licence}")


def _get(args: argparse.Namespace) -> None:
    folder = hub.get_encoder(args.tag, args.to / hub.folder_name(args.tag), write)
    write(f"{folder} is ready")
