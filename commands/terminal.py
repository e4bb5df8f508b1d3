"""Shared by the commands: lines for any terminal, progress, argument types, files to write."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import torch
from PIL import Image

from ..files import atomic_file
from ..miniature import trained
from ..pictures.colours import srgb_profile
from ..pictures.photos import SUFFIXES
from ..progress import Progress
from ..retriever.encoders.open_clip import OpenClipEncoder, load_encoder
from ..retriever.encoders.towers import TowersEncoder

MINIATURE = "miniature"
"""What `--model` and `--encoder` call the trained miniature that comes with the pack."""


def model_folder(name: str) -> Path:
    """Return the folder that an option names; `miniature` is the shipped one.

    In a clone a folder `miniature` is there, which is no model: a path such as `./miniature` always
    means a folder.
    """
    return trained.WEIGHTS if name == MINIATURE else Path(name)


def device_named(name: str) -> torch.device:
    """Return the device that an option names; `auto` is CUDA if it is there, else the CPU.

    Raises:
        argparse.ArgumentTypeError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    number = device.index or 0
    if device.type == "cpu" and number == 0:
        return device
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{name}: this PyTorch finds no NVIDIA GPU; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise argparse.ArgumentTypeError(f"{name}: this PyTorch finds no Apple GPU; use cpu")
    if device.type == "xpu" and not torch.xpu.is_available():
        raise argparse.ArgumentTypeError(f"{name}: this PyTorch finds no Intel GPU; use cpu")
    count = {"cuda": torch.cuda.device_count, "mps": lambda: 1, "xpu": torch.xpu.device_count}
    if device.type not in count:
        raise argparse.ArgumentTypeError(f"{name} is no device: expected cpu, cuda, cuda:1 or mps")
    if number >= count[device.type]():
        raise argparse.ArgumentTypeError(
            f"{name}: the last one here is {device.type}:{count[device.type]() - 1}"
        )
    return device


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, a torch.device that is checked before anything is loaded."""
    parser.add_argument(
        "--device",
        type=device_named,
        default="auto",
        help="cpu, cuda, cuda:1, mps (default: cuda where there is one)",
    )


def add_encoder_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add `--encoder` and `--device`; see `encoder_of`."""
    parser.add_argument(
        "--encoder",
        type=model_folder,
        required=required,
        metavar="FOLDER",
        help="encoder folder (`fashion-rag encoder get`), a model folder with both halves of a "
        f"CLIP, or `{MINIATURE}`, which comes with the pack",
    )
    add_device_option(parser)


def encoder_of(args: argparse.Namespace) -> OpenClipEncoder | TowersEncoder:
    """Load the encoder that the options name, on its device."""
    return load_encoder(args.encoder, args.device, dtype_on(args.device))


def dtype_on(device: torch.device) -> torch.dtype:
    """Return the dtype in which models run on a device."""
    return torch.float16 if device.type == "cuda" else torch.float32


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `low` to `high` (None: any)."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a whole number {_range(low, high)}"
            )
        return value

    return read


def number(low: float, high: float | None = None) -> Callable[[str], float]:
    """Return an argparse type for finite numbers from `low` to `high` (None: any)."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= (sys.float_info.max if high is None else high):  # also NaN
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number {_range(low, high)}")
        return value

    return read


def picture_size(text: str) -> tuple[int, int]:
    """Parse `384x512` to (width, height), as an argparse type."""
    width, _, height = text.lower().partition("x")
    sides = [int(side) for side in (width, height) if side.isascii() and side.isdigit()]
    if len(sides) != 2 or not all(8 <= side <= 8192 for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not WIDTHxHEIGHT, such as 384x512, with sides of 8 to 8192"
        )
    return sides[0], sides[1]


def check_file(path: Path, option: str) -> None:
    """Check that a file can be written, before hours are spent on its content.

    Raises:
        IsADirectoryError: it is a folder. OSError: its folder can't be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a folder: name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "it may not be replaced")
    except OSError as error:
        raise type(error)(f"{option} {path} can't be written: {error.strerror}.") from error


def check_picture(path: Path, option: str) -> None:
    """Check that a picture can be written (see `check_file`), and that its ending is a picture's.

    Raises:
        ValueError: the ending is none that a picture can be written with.
        OSError: it can't be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise ValueError(f"{option} {path} has no picture's ending: use .png or .jpg.")
    check_file(path, option)


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write a picture in one step, and return where it is.

    Where writing fails at the last moment, the picture goes to the folder of temporary files, with
    a message.
    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    profile = srgb_profile() if picture.mode == "RGB" else None
    try:
        with atomic_file(path) as temporary:
            picture.save(temporary, format=kind, icc_profile=profile)
        return path
    except OSError as error:
        handle, name = tempfile.mkstemp(prefix=f"{path.stem}_", suffix=".png")
        with open(handle, "wb") as file:
            picture.save(file, format="PNG", icc_profile=profile)
        tell(f"{path} can't be written ({error}); the picture is in {name}")
        return Path(name)


@contextlib.contextmanager
def progress_bar(unit: str = " garments") -> Iterator[Progress]:
    """Make a progress bar for a function that reports (done, total)."""
    from tqdm import tqdm

    with tqdm(unit=unit, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = done  # what was taken over doesn't count as this run's speed
            bar.update(done - bar.n)

        yield progress


def write(text: str) -> None:
    """Print a line of the result; letters that the terminal can't show are escaped."""
    _put(sys.stdout, text + "\n")


def tell(text: str) -> None:
    """Print a line on what is going on, beside the result."""
    _put(sys.stderr, text + "\n")


def tell_progress(text: str, finished: bool) -> None:
    """Rewrite a line on what is going on; without a terminal, only the last one is printed."""
    if finished or sys.stderr.isatty():
        _put(sys.stderr, f"\r{text}" + ("\n" if finished else ""))


def describe_words(searched: bool) -> str:
    """Say whether the texts of an index are searched by their words."""
    return "searched (--words)" if searched else "not searched (--words needs an update or a push)"


def _put(stream: TextIO, text: str) -> None:
    # File names may hold bytes that are no UTF-8, and the terminal may know fewer letters.
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _range(low: float, high: float | None) -> str:
    if high is None:
        return f"of {low:g} or more"
    return f"from {low} to {high}" if isinstance(high, int) else f"from {low:g} to {high:g}"
