"""`fashion-rag encoder list|get`: the retrieval encoders that can be fetched."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..retriever.encoders import hub
from .terminal import write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `encoder list` and `encoder get`; each sets `run`."""
    parser = commands.add_parser("encoder", help="list and fetch retrieval encoders")
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


def _list(args: argparse.Namespace) -> None:
    for tag, source in hub.SOURCES.items():
        size, licence = f"{source.gigabytes:.2f} GB", f"licence {source.licence}"
        write(f"{tag:<35} {size}  {licence:<18}  {source.description}")


def _get(args: argparse.Namespace) -> None:
    folder = hub.get_encoder(args.tag, args.to / hub.folder_name(args.tag), write)
    write(f"{folder} is ready")
