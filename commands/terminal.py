"""What the commands share: options of the encoder, progress, and lines for any terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ..progress import Progress
from ..retriever.encoders.open_clip import OpenClipEncoder, load_encoder


def add_encoder_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--encoder", type=Path, required=required, help="encoder folder (`fashion-rag encoder get`)"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: cuda where there is one)")


def encoder_of(args: argparse.Namespace) -> OpenClipEncoder:
    """The encoder that the options name, on its device."""
    import torch

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    return load_encoder(args.encoder, device, dtype)


@contextlib.contextmanager
def progress_bar(unit: str = " garments") -> Iterator[Progress]:
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
