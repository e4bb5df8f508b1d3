"""Building an index: every photo of a catalogue is read, encoded and stored once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from .catalogue import Catalogue, Reject, read_catalogue
from .color_check import check_text_image_pair
from .draft import Draft, Photo
from .encoders import Encoder
from .index import MANIFEST

Progress = Callable[[int, int], None]

LOCK = "build.lock"
BATCH_PIXELS = 64_000_000
"""A batch is closed early when its photos hold this many pixels (about 200 MB)."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    count: garments in the index. rejects: what was left out. seconds: the whole build.
    garments_per_second: photos read, encoded and stored a second, those taken over apart.
    resumed: garments taken over from an interrupted build. color_check: see color_check.py.
    """

    count: int
    rejects: tuple[Reject, ...]
    seconds: float
    garments_per_second: float
    resumed: int
    color_check: int

    def summary(self) -> str:
        """The report in words, the rejects one a line."""
        text = (
            f"{self.count} garments indexed in {self.seconds:.1f} s "
            f"({self.garments_per_second:.1f} a second)."
        )
        if self.resumed:
            text += f" {self.resumed} of them were taken over from an interrupted build."
        if self.rejects:
            text += f" {len(self.rejects)} left out:"
        return "\n  ".join([text, *(f"{r.file}: {r.reason}" for r in self.rejects)])


def build_index(
    catalogue_root: Path,
    folder: Path,
    encoder: Encoder,
    *,
    overwrite: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> BuildReport:
    """Encode every photo of a catalogue once and write the index `folder`.

    Args:
        overwrite: replace a finished index; the former stays in use until the new one is complete.
        batch_size: photos encoded at a time, fewer where they are large.
        progress: called with (done, total) before the first batch and after each. It may raise to
            cancel the build: what is done is kept, and the next build goes on from there.

    Raises:
        FileExistsError: there is a finished index and `overwrite` is off.
        BlockingIOError: another build of this index is running.
        FileNotFoundError, NotADirectoryError: the catalogue is no folder.
        ValueError: the catalogue is empty, none of its photos can be read, or the encoder gives
            something else than finite vectors of its dimension.
    """
    started = time.perf_counter()
    folder = Path(folder)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more.")
    if (folder / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} holds a finished index: choose another name, or turn on overwrite "
            "(`--overwrite`) to replace it."
        )
    catalogue = read_catalogue(catalogue_root)
    color_check = check_text_image_pair(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_build(folder), Draft(folder, encoder, catalogue) as draft:
        resumed = len(draft.rows)
        encode_started = time.perf_counter()
        left_out = _encode_missing(catalogue, draft, encoder, batch_size, progress or _silent)
        encode_seconds = time.perf_counter() - encode_started
        rejects = (*catalogue.rejects, *left_out)
        if not draft.rows:
            listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
            raise ValueError(f"No photo of the catalogue {catalogue.root} can be read:{listed}")
        draft.commit(rejects, color_check)
    return BuildReport(
        count=len(draft.rows),
        rejects=rejects,
        seconds=time.perf_counter() - started,
        garments_per_second=(len(draft.rows) - resumed) / max(encode_seconds, 1e-9),
        resumed=resumed,
        color_check=color_check,
    )


def _encode_missing(
    catalogue: Catalogue, draft: Draft, encoder: Encoder, batch_size: int, progress: Progress
) -> list[Reject]:
    left_out: list[Reject] = []
    missing = [garment for garment in catalogue.garments if garment.file not in draft.rows]
    total = len(catalogue.garments)
    progress(len(draft.rows), total)
    photos: list[Photo] = []
    pixels = 0
    for number, garment in enumerate(missing, start=1):
        try:
            photo = Photo.read(catalogue.root, garment.file)
        except (OSError, ValueError) as error:
            # The message starts with the photo's path, which the reject names already.
            reason = str(error).split(garment.file, 1)[-1].lstrip(": ")
            left_out.append(Reject(garment.file, reason))
        else:
            photos.append(photo)
            pixels += photo.image.width * photo.image.height
        if len(photos) == batch_size or pixels >= BATCH_PIXELS or number == len(missing):
            if photos:
                draft.append(photos, _encode(encoder, photos))
            photos, pixels = [], 0
            progress(len(draft.rows) + len(left_out), total)
    return left_out


def _encode(encoder: Encoder, photos: Sequence[Photo]) -> torch.Tensor:
    embeddings = encoder.encode_images([photo.image for photo in photos])
    if embeddings.shape != (len(photos), encoder.dim) or not embeddings.isfinite().all():
        raise ValueError(
            f"The encoder {encoder.name!r} gave embeddings of shape {tuple(embeddings.shape)}, or "
            f"not finite ones, for {photos[0].file} and the photos after it; expected "
            f"{(len(photos), encoder.dim)}. In half precision, try full precision."
        )
    return embeddings.to(torch.float16)


@contextlib.contextmanager
def _only_build(folder: Path) -> Iterator[None]:
    """Refuse a second build of the same index; the system frees the lock of one that is killed."""
    with open(folder / LOCK, "a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            builder = file.read().decode("ascii", "replace") or "unknown"
            raise BlockingIOError(
                f"{folder} is being built by process {builder}: wait for it, or end it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(1 << 20)  # the lock also keeps others from reading the bytes that it covers
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _silent(done: int, total: int) -> None:
    """Report to nobody."""
