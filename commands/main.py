"""The command `fashion-rag`: its subcommands, one module each, and the messages of their errors."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from . import catalogue, convert, encoder, evaluate, generate, index, mask, miniature, train
from .terminal import tell

COMMANDS = [catalogue, index, encoder, generate, mask, convert, train, evaluate, miniature]
"""The modules in the order of `fashion-rag --help`; each has `add_commands`."""

if find_spec(f"{__package__.rpartition('.')[0]}.demo"):  # in a clone; a wheel has no demo
    from . import demo

    COMMANDS.insert(0, demo)

_LIBRARIES = frozenset(
    "PIL accelerate diffusers grpc httpx huggingface_hub open_clip pymilvus requests safetensors "
    "sqlite3 tokenizers torch transformers".split()
)
_MEMORY = (
    "there is not enough memory. Smaller pictures, a smaller --batch-size, or --device cpu need "
    "less."
)


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong with the arguments, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the whole command line.

    Every subcommand sets `run`, a function of the parsed arguments.
    """
    parser = _Parser(
        prog="fashion-rag",
        description="Retrieve garments by text and paint them onto a person's photo (Fashion-RAG).",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status: 0; 1 for an error that the message explains; 130 for Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # What libraries print must not end a run either, whatever letters the terminal knows.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        return args.run(args) or 0
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        tell("fashion-rag: interrupted; what was finished is kept")
        return 130
    except Exception as error:
        if (message := explanation(error)) is None:
            raise
        logging.getLogger(__name__).info("where it happened:", exc_info=error)
        tell(f"fashion-rag: {message}")
        return 1


def explanation(error: Exception) -> str | None:
    """Return the message for an error of a file, a value, a package or a library.

    None: the error is a fault of the program, whose traceback a report needs.
    """
    library = any(cls.__module__.split(".")[0] in _LIBRARIES for cls in type(error).__mro__)
    text = " ".join(str(error).split("\n\n")[0].splitlines()).strip()
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return f"{text or type(error).__name__}: {_MEMORY}"
    if "database or disk is full" in text:  # SQLite's
        return _FULL
    if isinstance(error, OSError) and error.errno is not None:
        return _of_the_system(error)
    if isinstance(error, (OSError, ValueError, ImportError)):
        return str(error)
    if isinstance(error, (RuntimeError, AssertionError)) and _raised_in_library(error):
        return f"{text} (-v shows where it happened)"
    return f"{type(error).__name__}: {text}" if library else None


_FULL = (
    "The disk is full: free some space, and run the same command again. An index that was being "
    "built goes on from what it has encoded."
)


def _of_the_system(error: OSError) -> str:
    """Return the message for an error that the operating system gave a number.

    It says which file it is, what was expected and what helps, where the error names a file.
    """
    what = error.strerror or type(error).__name__
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return _FULL if error.errno == errno.ENOSPC else str(what)
    name = os.fsdecode(error.filename)
    kind = "a folder" if os.path.isdir(name) else "a file"
    messages = {
        errno.ENOENT: f"{name} does not exist: check the name and the folder",
        errno.EEXIST: f"{name} is there already, as {kind}: choose another name, or remove it",
        errno.EISDIR: f"{name} is a folder, expected a file: name a file in it",
        errno.ENOTDIR: f"{name} is no folder, or lies below a file: check the name and the folder",
        errno.EACCES: f"{name} may not be opened: allow it to this user, or choose another place",
        errno.ENOSPC: f"{name} can't be written, the disk is full: free some space",
        errno.EROFS: f"{name} can't be written, the disk is read-only: choose another place",
        errno.ENAMETOOLONG: f"{name} is too long a name: choose a shorter one",
        errno.ELOOP: f"{name} is a link that leads to itself: name the file itself",
    }
    messages[errno.EPERM] = messages[errno.EACCES]
    return f"{messages.get(error.errno, f'{name}: {what}')}."


def _raised_in_library(error: Exception) -> bool:
    trace, name = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return name.split(".")[0] in _LIBRARIES or not name.startswith(__package__.split(".")[0])
