"""A lock that lets one process at a time write an index; a killed process loses it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...files import open_own

LOCK = "build.lock"

_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_HELD |= {getattr(errno, "EDEADLOCK", errno.EDEADLK)}


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the index `folder` for writing; readers are not kept out.

    Raises:
        BlockingIOError: another process writes it; the message names that process.
        OSError: the file system has no locks, or the folder can't be written to.
        ValueError: the file of the lock is a link.
    """
    with open_own(folder / LOCK, "a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in _HELD:
                raise OSError(
                    error.errno,
                    f"{folder} can't be locked ({error.strerror}), as on some network shares, so "
                    "two builds could spoil each other's work: build on a local disk and copy the "
                    "folder there. Searching needs no lock.",
                ) from error
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
