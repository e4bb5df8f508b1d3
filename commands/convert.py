"""`fashion-rag convert`: converting a U-Net or adapter file to safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..adapter.garment.checkpoints import convert
from .terminal import write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `convert`."""
    parser = commands.add_parser(
        "convert",
        help="turn a U-Net or adapter file into safetensors",
        description="Write a U-Net (LDM names) or an inversion adapter (with metadata) as "
        "safetensors. Pickles are read without running what they hold.",
    )
    parser.add_argument("source", type=Path, help=".pth, .bin or .safetensors")
    parser.add_argument("target", type=Path, help=".safetensors, new")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> None:
    if args.source.is_dir():
        raise IsADirectoryError(
            f"{args.source} is a folder: name the U-Net's or the adapter's file in it, which ends "
            "in .safetensors, .bin or .pth."
        )
    try:
        metadata = convert(args.source, args.target)
    except (KeyError, ValueError) as error:
        if str(args.source) in str(error) or str(args.target) in str(error):
            raise
        raise ValueError(
            f"{args.source} is neither a U-Net nor an inversion adapter that can be converted: "
            f"{error}"
        ) from error
    facts = ", ".join(f"{name} {value}" for name, value in sorted(metadata.items()))
    write(f"{args.target}: {facts}")
