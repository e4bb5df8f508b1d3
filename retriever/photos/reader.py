"""Reading photos ahead of the encoder: bytes, hash, decoding, thumbnail and preprocessing."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ...pictures.photos import open_photo
from .catalogue import Reject, safe_path

THUMBNAIL_SIZE = 256

AHEAD_PIXELS = 64_000_000
"""No further photo is begun while those that wait for the encoder hold this many (200 MB)."""

Prepare = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Photo:
    """A photo that was read, and what tells whether its file has changed since.

    bytes, mtime_ns: of the file. content: its sha256. thumbnail: a JPEG file.
    picture: what the encoder takes, RGB at full size, or what its `prepare` made of that.
    """

    file: str
    bytes: int
    mtime_ns: int
    content: str
    thumbnail: bytes
    picture: Image.Image | torch.Tensor

    @property
    def pixels(self) -> int:
        picture = self.picture
        return picture[0].numel() if torch.is_tensor(picture) else picture.width * picture.height


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
    """An RGB picture fitted into THUMBNAIL_SIZE, as a JPEG file."""
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

    processes: 0 reads on threads, which is what a program that others share wants. More start
    that many interpreters, which pays where decoding is slower than encoding (a fast GPU); the
    main module must then be importable without side effects.
    """

    def __init__(self, root: Path, prepare: Prepare | None, processes: int = 0):
        self._root, self._prepare = root, prepare
        self._workers = processes or max(1, min(16, os.cpu_count() or 1))
        self._pool: Executor
        if processes:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                processes, context, initializer=_start_process, initargs=(root, prepare)
            )
            self._task = _in_process
        else:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="photos")
            self._task = self._in_thread

    def __enter__(self) -> PhotoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self, files: Sequence[str], ahead: int) -> Iterator[Photo | Reject]:
        """Photos in the order of `files`, with up to `ahead` read before they are asked for."""
        waiting: deque[tuple[str, Future[Photo | Reject]]] = deque()
        begun = 0
        while waiting or begun < len(files):
            while begun < len(files) and len(waiting) < ahead + self._workers:
                if waiting and self._pixels_ready(waiting) > AHEAD_PIXELS:
                    break
                waiting.append((files[begun], self._pool.submit(self._task, files[begun])))
                begun += 1
            yield waiting.popleft()[1].result()

    def _in_thread(self, file: str) -> Photo | Reject:
        return _read_or_reject(self._root, file, self._prepare)

    def _pixels_ready(self, waiting: deque[tuple[str, Future[Photo | Reject]]]) -> int:
        if self._prepare is not None:
            return 0  # prepared pictures are small, and as many as a batch has anyway
        done = (future.result() for _, future in waiting if future.done())
        return sum(photo.pixels for photo in done if isinstance(photo, Photo))


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


_process: tuple[Path, Prepare | None] = (Path(), None)


def _start_process(root: Path, prepare: Prepare | None) -> None:
    global _process
    torch.set_num_threads(1)
    _process = (root, prepare)


def _in_process(file: str) -> Photo | Reject:
    return _read_or_reject(_process[0], file, _process[1])
