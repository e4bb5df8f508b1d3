"""What the commands share: options of the encoder, progress, and lines for any terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ..miniature import trained
from ..retriever.encoders.open_clip import OpenClipEncoder, load_encoder
from ..retriever.encoders.towers import TowersEncoder

MINIATURE = "miniature"
"""What `--model` and `--encoder` call the trained miniature that comes with the pack."""


def model_folder(name: str) -> Path:
    """The folder that an option names; `miniature` is the shipped one, unless a folder is there."""
    folder = Path(name)
    return trained.WEIGHTS if name == MINIATURE and not folder.exists() else folder


def device_named(name: str) -> torch.device:
    """The device that an option names; `auto` is a CUDA device where there is one, else the CPU.

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
    """Add `--device`, which is checked before anything is loaded; its value is a torch.device."""
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
    """The encoder that the options name, on its device."""
    return load_encoder(args.encoder, args.device, dtype_on(args.device))


def dtype_on(device: torch.device) -> torch.dtype:
    """The precision in which models run on a device."""
    return torch.float16 if device.type == "cuda" else torch.float32


@contextlib.contextmanager
def progress_bar(unit: str = " garments") -> Iterator[Callable[[int, int], None]]:
    """A bar for a function that reports (done, total)."""
    from tqdm import tqdm

    with tqdm(unit=unit, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.initial = done  # what was taken over doesn't count as this run's speed
            bar.update(done - bar.n)

        yield progress


def write(text: str) -> None:
    """Print a line; letters that the terminal doesn't know are escaped."""
    # File names may hold bytes that are no UTF-8, and the terminal may know fewer letters.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
