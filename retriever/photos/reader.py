"""Reading photos ahead of the encoder: bytes, hash, decoding, thumbnail and preprocessing."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...pictures.photos import open_photo, photo_size
from .catalogue import Reject, safe_path

THUMBNAIL_SIZE = 256

AHEAD_PIXELS = 64_000_000
"""Photos that are being read and those that wait for the encoder hold this many together (4 bytes
each, 256 MB); a larger photo is read alone."""
PREPARED_PIXELS = 192_000_000
"""The same where photos are prepared at once, and so hold their pixels only for a moment."""

Prepare = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Photo:
    """A photo that was read, and what tells whether its file has changed since.

    bytes, mtime_ns: size and time of the file. content: its SHA-256 in hex. thumbnail: the bytes of
    a JPEG file. picture: what the encoder takes, RGB at full size, or the tensor that its `prepare`
    made.
    """

    file: str
    bytes: int
    mtime_ns: int
    content: str
    thumbnail: bytes
    picture: Image.Image | torch.Tensor

    @property
    def pixels(self) -> int:
        """The number of pixels that the picture holds in memory."""
        picture = self.picture
        return picture[0].numel() if torch.is_tensor(picture) else picture.width * picture.height


class PixelBudget:
    """A limit on the pixels that photos hold in memory, shared by all threads or processes.

    Photos are admitted in the order of their turns, so that later ones can't keep out the one that
    is asked for next. A photo larger than the whole budget is admitted when nothing else is held.

    Args:
        pixels: how many may be held.
        condition: a Condition of `threading`, or of a `multiprocessing` context.
        state: three integers that all threads or processes share: pixels held, the next turn, and
            whether the budget is closed.
    """

    def __init__(self, pixels: int, condition: Any, state: Any):
        self._pixels, self._condition, self._state = pixels, condition, state

    def acquire(self, turn: int, pixels: int) -> None:
        """Wait for the turn, then for free pixels, and take them; after `close`, don't wait."""
        with self._condition:
            self._condition.wait_for(lambda: self._admits(turn, pixels))
            self._state[0] += pixels
            self._state[1] = max(self._state[1], turn + 1)
            self._condition.notify_all()

    def release(self, pixels: int) -> None:
        """Give pixels back."""
        with self._condition:
            self._state[0] -= pixels
            self._condition.notify_all()

    def close(self) -> None:
        """Admit everybody at once, since nobody asks for the photos any more."""
        with self._condition:
            self._state[2] = 1
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return bool(self._state[2])

    def _admits(self, turn: int, pixels: int) -> bool:
        held, next_turn, closed = self._state
        fits = held == 0 or held + pixels <= self._pixels
        return bool(closed) or (turn <= next_turn and fits)


def read_photo(root: Path, file: str, prepare: Prepare | None = None) -> Photo:
    """Read one photo of a catalogue.

    Raises:
        OSError: from the file system.
        ValueError: see `open_photo`; or the file leads out of the catalogue.
    """
    path = safe_path(root, file)
    with open(path, "rb") as opened:
        stat = os.fstat(opened.fileno())
        content = hashlib.file_digest(opened, "sha256") if _DIGEST else _digest(opened)
    image = open_photo(path)
    return Photo(
        file,
        stat.st_size,
        stat.st_mtime_ns,
        content.hexdigest(),
        thumbnail_of(image),
        image if prepare is None else prepare(image),
    )


def thumbnail_of(image: Image.Image) -> bytes:
    """Fit an RGB picture into THUMBNAIL_SIZE pixels and return it as the bytes of a JPEG file."""
    small = image.copy() if max(image.size) <= THUMBNAIL_SIZE else image
    if small is image:
        scale = THUMBNAIL_SIZE / max(image.size)
        size = [max(1, round(side * scale)) for side in image.size]
        small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    return data.getvalue()


class PhotoReader:
    """A context manager that reads photos on several threads or processes, in order.

    However many are read ahead, their pixels stay within AHEAD_PIXELS (PREPARED_PIXELS where
    `prepare` makes them small at once). Closing it cancels what has not been read.

    processes: 0 reads on threads, which is what a program that others share wants. More start
    that many interpreters, which pays where decoding is slower than encoding (a fast GPU); the
    main module must then be importable without side effects.
    """

    def __init__(self, root: Path, prepare: Prepare | None, processes: int = 0):
        self._workers = processes or max(1, min(16, os.cpu_count() or 1))
        self._keeps_pixels = prepare is None
        pixels = AHEAD_PIXELS if prepare is None else PREPARED_PIXELS
        self._turns = 0
        self._pool: Executor
        if processes:
            context = multiprocessing.get_context("spawn")
            self._budget = PixelBudget(
                pixels, context.Condition(), context.Array("q", 3, lock=False)
            )
            self._pool = ProcessPoolExecutor(
                processes,
                context,
                initializer=_start_process,
                initargs=(root, prepare, self._budget),
            )
            self._task = _in_process
        else:
            self._budget = PixelBudget(pixels, threading.Condition(), [0, 0, 0])
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="photos")
            self._task = partial(_read_in_turn, root, prepare, self._budget)

    def __enter__(self) -> PhotoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self, files: Sequence[str], ahead: int) -> Iterator[Photo | Reject]:
        """Yield photos in the order of `files`, reading up to `ahead` of them in advance."""
        waiting: deque[Future[tuple[Photo | Reject, int]]] = deque()
        begun = 0
        while waiting or begun < len(files):
            while begun < len(files) and len(waiting) < ahead + self._workers:
                waiting.append(self._pool.submit(self._task, files[begun], self._turns))
                begun += 1
                self._turns += 1
            photo, held = waiting.popleft().result()
            if self._keeps_pixels:
                self._budget.release(held)
            yield photo


def _read_in_turn(
    root: Path, prepare: Prepare | None, budget: PixelBudget, file: str, turn: int
) -> tuple[Photo | Reject, int]:
    """Read a photo, or why it can't be read, and return the pixels that it holds of the budget."""
    try:
        width, height = photo_size(safe_path(root, file))
    except (OSError, ValueError):
        width = height = 0  # reading it says why
    budget.acquire(turn, width * height)
    if budget.closed:
        return Reject(file, "the reading was ended"), width * height
    try:
        return _read_or_reject(root, file, prepare), width * height
    finally:
        if prepare is not None:
            budget.release(width * height)


def _read_or_reject(root: Path, file: str, prepare: Prepare | None) -> Photo | Reject:
    try:
        return read_photo(root, file, prepare)
    except (OSError, ValueError) as error:
        # The message starts with the photo's path, which the reject names already.
        return Reject(file, str(error).split(file, 1)[-1].lstrip(": "))


_DIGEST = hasattr(hashlib, "file_digest")  # Python 3.11


def _digest(opened: io.BufferedReader):
    digest = hashlib.sha256()
    while block := opened.read(1 << 20):
        digest.update(block)
    return digest


_process: tuple[Path, Prepare | None, PixelBudget]


def _start_process(root: Path, prepare: Prepare | None, budget: PixelBudget) -> None:
    global _process
    torch.set_num_threads(1)
    _process = (root, prepare, budget)


def _in_process(file: str, turn: int) -> tuple[Photo | Reject, int]:
    return _read_in_turn(*_process, file, turn)
