"""Writing files in one step; names, hashes and states of files.

A file that is written through `atomic_file` is either whole or not there, and has the permissions
that the process's umask gives. Hashes of large files are remembered by size and time, in memory
and in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

logger = logging.getLogger(__name__)

_BLOCK = 1 << 22
_ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))
_RETRIES = 40  # for two seconds in all
_PAUSE = 0.05
_REMEMBERED_FROM = 16 << 20  # bytes; smaller files are hashed at once
_MOST_REMEMBERED = 1000
_remembered: dict[str, str] = {}
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}  # on Windows, with any ending
_RESERVED |= {f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"}
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; afterwards it becomes `path`, flushed to the disk.

    The folder is made where it is missing. If the block raises, `path` stays as it was.

    Raises:
        OSError: the folder or the file can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, whatever the target's name: file systems limit names to 255 bytes.
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        # safetensors puts a file of its own in this place, which no one else may read.
        os.chmod(temporary, mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        replace_file(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step: the former or the new content is there, whole.

    Raises:
        OSError: it can't be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 file with \\n line ends in one step.

    Raises:
        OSError: it can't be written.
    """
    write_bytes(path, content.encode("utf-8"))


def open_own(path: Path, mode: str) -> BinaryIO:
    """Open a file in a binary mode of `open`, unless its path is a link, which may lead anywhere.

    Raises:
        ValueError: it is a link, or no file.
        OSError: it can't be opened.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(
            f"{path} is a link or no file, expected a file of its own, since it is written to: "
            "remove it and start again."
        )
    return cast(BinaryIO, open(path, mode, opener=_open_no_link))


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)  # Windows has no such flag


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another, or a folder to a new name. On Windows a virus scanner or a reader
    may hold one of them for a moment: the rename is tried again for two seconds.

    Raises:
        PermissionError: another process still holds one of them, or it can't be written.
        OSError: any other failure, at once.
    """
    for attempt in range(_RETRIES):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == _RETRIES - 1:
                raise
            time.sleep(_PAUSE)


def read_text(path: Path, remedy: str = "save it anew as UTF-8") -> str:
    """Read a text file that people write: UTF-8, with a byte order mark or without, or UTF-16.

    UTF-16 is known by its byte order mark, as Windows writes it. Line ends stay as they are.

    Args:
        remedy: what to do about a file in another encoding, for the message.

    Raises:
        OSError: it can't be read.
        ValueError: it is in another encoding.
    """
    content = Path(path).read_bytes()
    try:
        return decode_text(content)
    except UnicodeDecodeError as error:
        expected = "UTF-16, as its first bytes say" if "utf-16" in error.encoding else "UTF-8"
        raise ValueError(f"{path} is no text in {expected} ({error}): {remedy}.") from error


def decode_text(content: bytes) -> str:
    """Decode UTF-16 by its byte order mark, anything else as UTF-8.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return content.decode(next(name for mark, name in _ENCODINGS if content.startswith(mark)))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of anybody's making; bytes are UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists or objects are nested too deeply") from error


def escaped(text: str) -> str:
    """Return a text that can be logged, sent and written, whatever file names it holds.

    On Linux a name may hold bytes that are no UTF-8. Python keeps them as halves of characters,
    which no output takes: they become `\\udcff`.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        remedy: what to do about a damaged file, for the message.

    Raises:
        OSError: it can't be read.
        ValueError: it is no JSON, or no object.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): {remedy}.") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} holds a JSON {kind}, expected an object: {remedy}.")
    return content


def check_file_name(name: str, what: str) -> str:
    """Return `name` if it is fit to be a file or folder name on every system.

    Args:
        what: the name of the input, for the message.

    Raises:
        ValueError: it is empty or too long, has a separator, a reserved character, half a
            character (a byte that is no UTF-8) or a mark that turns the direction of text, starts
            or ends with a dot or space, or is a device of Windows (such as CON or nul.txt).
    """
    bad = sorted(
        {c for c in name if c in '<>:"/\\|?*' or ord(c) < 32 or c in _DIRECTIONS or _is_half(c)}
    )
    trimmed = name.strip().strip(".")
    reason = f" (it holds {' '.join(map(ascii, bad))})" if bad else ""
    if name.split(".")[0].rstrip().upper() in _RESERVED:
        reason = " (it is the name of a device on Windows)"
    if reason or not trimmed or trimmed != name or len(name.encode("utf-8", "surrogatepass")) > 120:
        raise ValueError(
            f"{what} {name!r} can't be a file name{reason}: use 1 to 120 letters, digits, spaces, "
            "'-' and '_', no dot at either end."
        )
    return name


def _is_half(letter: str) -> bool:
    return "\ud800" <= letter <= "\udfff"


def sha256_of_file(path: Path, read_anew: bool = False) -> str:
    """Compute the SHA-256 of a file's content in hex; it is read in blocks.

    A large file is read again only after its size or time has changed, or with `read_anew`.

    Raises:
        OSError: it can't be read.
    """
    path = Path(path)
    if read_anew or path.stat().st_size < _REMEMBERED_FROM:
        return _sha256(path)
    return remembered("sha256", [path], lambda: _sha256(path))


def remembered(purpose: str, paths: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return what `compute` last returned for these files, or call it if one has changed since.

    Args:
        purpose: tells values of the same files apart.
        paths: the files that the value depends on; their sizes and times are compared.

    Raises:
        OSError: a file can't be read.
    """
    state = [purpose]
    for path in paths:
        found = os.stat(path)
        state += [os.path.abspath(path), str(found.st_size), str(found.st_mtime_ns)]
    key = hashlib.sha256("\0".join(state).encode("utf-8", "surrogatepass")).hexdigest()
    if key not in _remembered:
        _remembered.update(_read_remembered())
    if key not in _remembered:
        _remembered[key] = compute()
        _write_remembered()
    return _remembered[key]


def state_of_file(path: Path) -> tuple[str, int, int]:
    """Return plain values that change when the file does: its path, size in bytes, time in ns.

    A file that is not there, or can't be looked at, is a state of its own (size -1).
    """
    try:
        found = os.stat(path)
    except OSError:
        return os.fspath(path), -1, 0
    return os.fspath(path), found.st_size, found.st_mtime_ns


def state_of_folder(folder: Path, passed_over: Collection[str] = ()) -> int:
    """Return a number that changes with the names, sizes and times of the files below a folder.

    It is made to be compared within one process: another gives another number. No file is opened.
    Names that start with a dot are passed over, and links to folders are not followed; a folder
    that can't be listed is a state of its own.

    Args:
        passed_over: names of further folders that don't count, casefolded.
    """
    # Hashes are added up, so that nothing is sorted: looking at the files is then nearly all of the
    # work. They are hashes of texts: those of tuples add up to the same for every eighth pair of
    # files that change places.
    state = 0
    folders = [os.fspath(folder)]
    while folders:
        path = folders.pop()
        inside = 0
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] == ".":
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if name.casefold() not in passed_over:
                            folders.append(entry.path)
                        continue
                    try:
                        found = entry.stat()
                    except OSError:  # a link to nowhere
                        inside += hash(f"{name}\0?")
                    else:
                        inside += hash(f"{name}\0{found.st_size}\0{found.st_mtime_ns}")
        except OSError as error:
            inside = hash(type(error).__name__)
        state += hash(f"{path}\0{inside}")
    return state


def cache_folder() -> Path:
    """Return the folder for what can be made again: FASHION_RAG_CACHE, or the user's cache."""
    if named := os.environ.get("FASHION_RAG_CACHE"):
        return Path(named)
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "fashion-rag"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read_remembered() -> dict[str, str]:
    try:
        content = parse_json((cache_folder() / "hashes.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_remembered() -> None:
    try:
        newest = list((_read_remembered() | _remembered).items())[-_MOST_REMEMBERED:]
        write_text(cache_folder() / "hashes.json", json.dumps(dict(newest)))
    except OSError as error:  # without a cache, files are read again
        logger.debug("hashes are not remembered: %s", error)
