"""The command `fashion-rag`; each part of the house brings its own subcommands."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import convert as adapter_cli
from . import demo as demo_cli
from . import evaluate as evaluation_cli
from . import generate
from . import index as retriever_cli
from . import miniature as miniature_cli
from . import train as training_cli


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of every option."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every subcommand sets `run`, a function of the parsed arguments."""
    parser = _Parser(
        prog="fashion-rag",
        description="Retrieve garments by text and paint them onto a person's photo (Fashion-RAG).",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    retriever_cli.add_commands(commands)
    adapter_cli.add_commands(commands)
    generate.add_commands(commands)
    miniature_cli.add_commands(commands)
    demo_cli.add_commands(commands)
    training_cli.add_commands(commands)
    evaluation_cli.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0, 1 for an error that the message explains, 130 for Ctrl-C."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        return args.run(args) or 0
    except (OSError, ValueError, ImportError) as error:
        sys.stderr.write(f"fashion-rag: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("fashion-rag: interrupted; what was finished is kept\n")
        return 130
