"""One writer at a time: the system frees the lock of a process that is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK = "build.lock"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the index `folder` for writing; readers are not kept out.

    Raises:
        BlockingIOError: another process writes it; the message names that process.
    """
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
