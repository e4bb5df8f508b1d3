"""A real Milvus server for tests, from the package `milvus`: one executable with its libraries."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from fashion_rag.retriever.milvus.connection import CollectionPlace

PACKAGE = "milvus==2.3.5"

# Names and figures of its configuration; what is not named here is as the package has it.
_SETTINGS = {
    "log.level": "warn",
    # A server that was killed counts as running so many seconds, during which no other starts.
    "common.session.ttl": 3,
}
_ETCD = """\
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
unsafe-no-fsync: true
log-level: error
"""


# It ends with the tests, however these end: PR_SET_PDEATHSIG of Linux.
_START = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@functools.cache
def _package() -> ModuleType:
    # By its place: pytest knows a checkout in a folder called milvus by that name.
    path = importlib.metadata.distribution("milvus").locate_file("milvus/__init__.py")
    spec = importlib.util.spec_from_file_location("milvus_package", path)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def unpack(folder: Path) -> Path:
    """Unpack the executable, 250 MB, into `folder`/bin.

    Raises:
        ImportError: the package is missing.
    """
    _package()._initialize_data_files(str(folder))
    return folder / "bin"


class MilvusServer:
    """A Milvus server that listens on loopback, with its data in a folder. As a context it is
    started, and its data are gone after that.

    binaries: what `unpack` gives. settings: names of the package's configuration, such as
    `tls_mode=1` or `{"common.gracefulTime": 100}`.
    """

    def __init__(self, folder: Path, binaries: Path, settings: dict[str, Any] | None = None):
        self.folder, self.binaries = folder, binaries
        self.process: subprocess.Popen | None = None
        config = _package().MilvusServerConfig(data_dir=str(folder))
        names = [name for name in config.configurable_items if name.endswith("_port")]
        ports = free_ports(len(names) + 2)
        config.update(**dict(zip(names, ports, strict=False)))
        self.port = config.configs["proxy_port"]
        self.uri = f"http://127.0.0.1:{self.port}"
        for name, value in {**_SETTINGS, **(settings or {})}.items():
            config.set(name, value)
        config.resolve()
        etcd = folder / "configs" / "etcd.yaml"
        etcd.write_text(_ETCD.format(client=config.configs["etcd_port"], peer=ports[-2]))
        self._health = f"http://127.0.0.1:{ports[-1]}/healthz"
        self._environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(ports[-1]),
            "ETCD_CONFIG_PATH": str(etcd),
            "LD_LIBRARY_PATH": str(binaries),
        }

    def __enter__(self) -> MilvusServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and return when it serves.

        Raises:
            RuntimeError: it ended, or takes more than two minutes.
        """
        log = self.folder / "logs" / "server.txt"
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(self.binaries / "milvus"), "run", "standalone"],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            if self._serves():
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"Milvus does not serve: {log.read_text(errors='replace')[-2000:]}")

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=5) as answer:
                return b"OK" in answer.read()
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power cut does: nothing is written any more."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def memory(self) -> int:
        """Bytes that are in memory of it alone."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, outside the range that clients' sockets are given."""
    found: set[int] = set()
    while len(found) < count:
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("", port))
            except OSError:
                continue
            found.add(port)
    return list(found)


@contextlib.contextmanager
def places(server: MilvusServer | None) -> Iterator[Callable[[str], CollectionPlace]]:
    """Gives where a collection is, by its name: in a database of its own that is dropped in the
    end, or, without a server, in a file of milvus-lite."""
    if server is None:
        yield lambda name: CollectionPlace(name, "vectors.db")
        return
    from pymilvus import MilvusClient

    database = f"test_{uuid.uuid4().hex[:8]}"
    MilvusClient(server.uri).create_database(database)
    yield lambda name: CollectionPlace(name, server.uri, database=database)
    client = MilvusClient(server.uri, db_name=database)
    for name in client.list_collections():
        for alias in client.describe_collection(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    client.close()
    MilvusClient(server.uri).drop_database(database)
