"""Connections to Milvus: where a collection is (`milvus.json`), and its errors in plain words.

A folder with `milvus.json` names it, beside the folders of other indexes:

    {"uri": "http://milvus.example:19530", "collection": "garments"}

`uri` may also be a file of milvus-lite in that folder (`vectors.db`); without it, the environment
variable MILVUS_URI says where the server is. `database` and `timeout` (seconds for one request, 10
by default) may be added. Credentials stand in no file: MILVUS_TOKEN ("user:password", or an API
key) is sent to the server that MILVUS_URI names, and to no other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...files import parse_json, write_text
from ..photos.catalogue import safe_path
from .rows import are_parts
from .server import Server

logger = logging.getLogger(__name__)

CONFIG = "milvus.json"
SCHEMA = 1  # read_manifest
TIMEOUT = 10.0

KINDS = ("exact", "hnsw", "hnsw_sq", "diskann")
"""Kinds of index that a collection may have, see `sync.push`."""

_URI, _TOKEN = "MILVUS_URI", "MILVUS_TOKEN"


@dataclass(frozen=True)
class CollectionPlace:
    """Where a Milvus collection is: what `milvus.json` says.

    uri: http(s) address of a server, or a milvus-lite file; empty: MILVUS_URI. timeout: seconds for
    one request.
    """

    collection: str
    uri: str = ""
    database: str = ""
    timeout: float = TIMEOUT

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z_]\w{0,199}", self.collection, re.ASCII):
            raise ValueError(
                f"The collection {self.collection!r} can't be one: expected a letter or '_', and "
                "then letters, digits and '_'."
            )
        if not 0 < self.timeout <= 3600:
            raise ValueError(f"timeout is {self.timeout!r}: expected 0 to 3600 seconds.")
        parts = urlsplit(self.uri)
        if parts.username or parts.password:
            raise ValueError(
                f"The address of the Milvus server holds a password: set {_TOKEN} and {_URI} in "
                "the environment instead."
            )
        if parts.scheme and parts.scheme not in ("http", "https"):
            raise ValueError(
                f"uri is {self.uri!r}: expected http://..., https://... or a .db file."
            )

    @classmethod
    def read(cls, folder: Path) -> CollectionPlace:
        """Read `milvus.json` in `folder`.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is not readable, holds something else, or a password.
        """
        path = Path(folder) / CONFIG
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("not an object")
            expected = {"collection": str, "uri": str, "database": str, "timeout": (int, float)}
            for name, value in values.items():
                if name not in expected or not isinstance(value, expected[name]):
                    raise ValueError(f"{name!r} is {value!r}; expected {', '.join(expected)}")
            return cls(**values)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is missing: it names the collection of a Milvus index."
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is not understood: {error}. An example: "
                '{"uri": "http://localhost:19530", "collection": "garments"}'
            ) from error

    def write(self, folder: Path) -> None:
        """Write `milvus.json` into `folder`, without values that are the defaults."""
        kept = {name: value for name, value in asdict(self).items() if value}
        if kept["timeout"] == TIMEOUT:
            del kept["timeout"]
        write_text(Path(folder) / CONFIG, json.dumps(kept, indent=1) + "\n")

    def address(self, folder: Path) -> str:
        """Return the server's address, or the absolute path of the milvus-lite file.

        Raises:
            ValueError: there is none, or the file is not one in `folder`.
        """
        uri = self.uri or os.environ.get(_URI, "")
        if not uri:
            raise ValueError(
                f"{Path(folder) / CONFIG} names no uri, and {_URI} is not set: add one of them."
            )
        if urlsplit(uri).scheme in ("http", "https"):
            return uri
        if not uri.endswith(".db"):
            raise ValueError(f"uri is {uri!r}: expected http://..., https://... or a .db file.")
        return str(safe_path(Path(folder), uri))


class NotLoadedError(ValueError):
    """The collection is not in the server's memory."""


_LOGGERS = ("pymilvus", "milvus_lite")
_quiet_lock = threading.Lock()
_levels: list[int] = []
_calls = 0


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Silence the client's loggers while a call of ours runs, on any thread.

    They log every failed request with its traceback; the error says it all. Other users of the
    client in this process keep their logs.
    """
    global _calls
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _quiet_lock:
        if _calls == 0:
            _levels[:] = [logger.level for logger in loggers]
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
        _calls += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _calls -= 1
            if _calls == 0:
                for logger, level in zip(loggers, _levels, strict=True):
                    logger.setLevel(level)


class Connection:
    """A client of one Milvus server or milvus-lite file, whose errors say what to do."""

    def __init__(self, folder: Path, place: CollectionPlace):
        """
        Raises:
            ImportError: pymilvus or milvus-lite is missing.
            ConnectionError, TimeoutError, PermissionError, ValueError: see `explained`.
        """
        try:
            import pymilvus
        except ImportError as error:
            raise ImportError("Milvus needs the package pymilvus: pip install pymilvus") from error
        self.folder, self.place = Path(folder), place
        self.address = place.address(folder)
        self.is_embedded = "://" not in self.address
        token = ""
        if self.is_embedded:
            self._check_lite()
        elif self.address.rstrip("/") == os.environ.get(_URI, "").rstrip("/"):
            token = os.environ.get(_TOKEN, "")
        with self.explained():
            self.client = pymilvus.MilvusClient(
                self.address, token=token, db_name=place.database, timeout=place.timeout
            )
            version = self.client.get_server_version(timeout=place.timeout)
        self.server = Server.of(version, self.address)

    def _check_lite(self) -> None:
        try:
            import milvus_lite  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "A Milvus in a file needs the package milvus-lite: pip install milvus-lite"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn Milvus's errors into ones that say what to do.

        Raises:
            ConnectionError: no server answers.
            TimeoutError: it does not answer in time.
            PermissionError: it refuses the credentials.
            FileNotFoundError: there is no such collection or database.
            NotLoadedError: the collection is not loaded.
            OSError: it has no room for more rows.
            ValueError: anything else that the server refuses.
        """
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            with _quiet_loggers():
                yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            message = " ".join(str(getattr(error, "message", "") or error).split())
            # The client says "Fail connecting" of whatever happens to its first request.
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and isinstance(cause, grpc.Call):
                message += f": {cause.code().name}, {cause.details()}"
            raise self._error(message, getattr(error, "code", None)) from error

    def _error(self, message: str, code: Any) -> Exception:
        where, low = f"Milvus at {self.address}", message.lower()
        if any(w in low for w in ("deadline", "timeout", "timed out")) and "connect" not in low:
            return TimeoutError(
                f"{where} does not answer within {self.place.timeout:g} s ({message}): try again, "
                f"or raise timeout in {self.folder / CONFIG}."
            )
        if any(word in low for word in ("auth check", "unauthenticated", "permission", "denied")):
            return PermissionError(
                f"{where} refuses the credentials ({message}): set {_TOKEN} to user:password or "
                f"an API key, and {_URI} to {self.address}, in the environment."
            )
        if any(word in low for word in ("connect", "unavailable", "open local milvus")):
            if self.is_embedded:
                return ConnectionError(
                    f"{where} can't be opened ({message}): another process may have it open, which "
                    "milvus-lite doesn't allow. For several at once use a server."
                )
            if self.address.startswith("https:"):
                return ConnectionError(
                    f"No {where} ({message}): start it, or correct uri in {self.folder / CONFIG}. "
                    "If its certificate is signed by an authority of your own, name the file of "
                    "that in the environment: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH."
                )
            return ConnectionError(
                f"No {where} ({message}): start it, or correct uri in {self.folder / CONFIG}."
            )
        if "quota" in low or "no space" in low:
            return OSError(
                f"{where} takes no more rows ({message}). Make room on its disk or in its memory, "
                "or raise its quota, and push again: a push goes on where it stopped."
            )
        if "index for loaded collection" in low:
            return ValueError(
                f"{where}: another push of this index has just begun ({message}): push again when "
                "it has ended."
            )
        if "not loaded" in low:
            return NotLoadedError(f"{where}: {message}: open the index again.")
        if "not found" in low or "not exist" in low or code == 100:
            return FileNotFoundError(
                f"{where} has no collection {self.place.collection!r} any more, or not yet "
                f"({message}): push an index to it with `fashion-rag index push`; if one was just "
                "pushed, open it again."
            )
        return ValueError(f"{where}: {message}")

    def load(self, collection: str) -> None:
        """Load a collection for searching; a server may have released it meanwhile."""
        with self.explained():
            state = self.client.get_load_state(collection, timeout=self.place.timeout)
            if state["state"].name != "Loaded":
                logger.info("Loading the collection %s at %s", collection, self.address)
                self.client.load_collection(collection, timeout=max(600, self.place.timeout))

    def manifest(self) -> tuple[str, dict[str, Any]]:
        """Return the collection that the alias stands for now, and the manifest that it carries.

        Raises:
            FileNotFoundError: there is no such alias.
            ValueError: the collection was not made by `fashion-rag index push`.
        """
        with self.explained():
            described = self.client.describe_collection(
                self.place.collection, timeout=self.place.timeout
            )
        manifest = read_manifest(described)
        if manifest is None:
            raise ValueError(
                f"The collection {self.place.collection!r} at {self.address} was not made by "
                "`fashion-rag index push`, or by another version of it: push the index again."
            )
        return described["collection_name"], manifest


def read_manifest(described: dict[str, Any]) -> dict[str, Any] | None:
    """Read the manifest in a collection's description; None where there is none of this schema."""
    # Servers keep a description, milvus-lite keeps properties.
    text = described.get("description") or described.get("properties", {}).get("fashion_rag", "")
    try:
        manifest = parse_json(text)
    except ValueError:
        return None
    match manifest:
        case {
            "schema": 1,
            "generation": str(),
            "collection": str(),
            "count": int(),
            "kind": str(kind),
            "catalogue": {"name": str(), "path": str()},
            "encoder": {"name": str(), "fingerprint": str(), "dim": int()},
            "columns": dict() as columns,
            "categories": dict(),
        } if kind in KINDS and all(map(_is_fields, columns.values())):
            if (
                isinstance(manifest.get("rows_in", ""), str)
                and isinstance(manifest.get("words", False), bool)
                and ("parts" not in manifest or are_parts(manifest["parts"]))
            ):
                return manifest
    return None


def _is_fields(pair: Any) -> bool:
    match pair:
        case [str(text), str() | None as number]:
            return bool(re.fullmatch(r"t\d+", text) and re.fullmatch(r"n\d+", number or "n0"))
    return False
