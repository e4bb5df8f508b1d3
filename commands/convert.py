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
    metadata = convert(args.source, args.target)
    facts = ", ".join(f"{name} {value}" for name, value in sorted(metadata.items()))
    write(f"{args.target}: {facts}")
