"""What only a real Milvus server shows: other processes, time, credentials, and how it breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from fashion_rag.retriever.milvus.connection import CollectionPlace
from fashion_rag.retriever.milvus.server import Server
from fashion_rag.retriever.milvus.sync import push
from fashion_rag.retriever.open_index import open_index

from .milvus_garments import index_of, queries, same
from .milvus_server import MilvusServer, places
from .tcp_proxy import TcpProxy

pymilvus = pytest.importorskip("pymilvus")


@pytest.fixture
def place(milvus_server) -> Iterator[Callable[[str], CollectionPlace]]:
    """Where a collection of a test is on the server, by its name."""
    with places(milvus_server) as place:
        yield place


@pytest.fixture(scope="module")
def own_server(milvus_binaries, tmp_path_factory) -> Iterator[MilvusServer]:
    """A server that may be killed."""
    with MilvusServer(tmp_path_factory.mktemp("own"), milvus_binaries) as server:
        yield server


# --- versions


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v2.3.5-lite", ("Trie", "STL_SORT", False, False, False)),
        ("2.3.22", ("Trie", "STL_SORT", False, False, False)),
        ("v2.4.0-rc.1", ("INVERTED", "INVERTED", True, False, False)),
        ("2.5.4", ("INVERTED", "INVERTED", True, True, True)),
        ("Zilliz Cloud (Compatible with Milvus 2.6)", ("INVERTED",) * 2 + (True,) * 3),
        ("master-20260101-0a1b2c", ("INVERTED",) * 2 + (True,) * 3),
        ("milvus_lite-3.2.2", ("INVERTED", "INVERTED", False, False, True)),
    ],
)  # fmt: skip
def test_what_a_server_of_a_version_knows(version, expected):
    server = Server.of(version, "http://a")
    known = (server.text_index, server.number_index, server.has_half, server.has_parameters)
    assert (*known, server.has_full_text) == expected
    assert server.is_lite == version.startswith("milvus_lite")


@pytest.mark.parametrize("version", ["v2.2.16", "2.0.0-rc8", "v1.1.1"])
def test_a_server_that_is_too_old(version):
    with pytest.raises(ValueError, match=f"at http://a has version {version}; expected 2.3 or new"):
        Server.of(version, "http://a")


# --- other processes and time

COUNT = """
import sys
from pathlib import Path
import numpy as np
from fashion_rag.retriever.open_index import open_index
index = open_index(Path(sys.argv[1]))
query = np.eye(16, dtype=np.float32)[:1]
sys.stdout.write(str(int((index.nearest(query, 500, None, None)[1] >= 0).sum())))
"""


def test_a_push_is_found_by_the_next_search_of_another_process(tmp_path, place):
    push(index_of(440), tmp_path, place("shop"))
    other = subprocess.run([sys.executable, "-c", COUNT, tmp_path], capture_output=True, text=True)
    assert other.stdout == "440", other.stderr


def test_loading_may_take_longer_than_a_request(tmp_path, place, monkeypatch):
    from pymilvus.client.grpc_handler import GrpcHandler

    loaded, since = GrpcHandler.get_loading_progress, {}

    def slow(self, name, *args, **kwargs):
        started = since.setdefault(name, time.monotonic())
        return loaded(self, name, *args, **kwargs) if time.monotonic() > started + 5 else 50

    monkeypatch.setattr(GrpcHandler, "get_loading_progress", slow)
    where = replace(place("shop"), timeout=4)
    push(index_of(40), tmp_path, where)
    client = open_index(tmp_path).connection.client
    client.release_collection("shop_0123abcd_exact")
    since.clear()
    same(index_of(40), open_index(tmp_path), queries(1), 5)
    assert len(since) == 1


def test_a_collection_that_was_released_is_loaded_again(tmp_path, place):
    push(index_of(40), tmp_path, place("shop"))
    index = open_index(tmp_path)
    index.connection.client.release_collection("shop_0123abcd_exact")
    same(index_of(40), index, queries(1), 5)
    index.connection.client.release_collection("shop_0123abcd_exact")
    assert len(index.garments_at(np.array([3]))) == 1


# --- two at once


@pytest.mark.parametrize("generations", [("0123abcd",) * 2, ("0123abcd", "4567cdef")])
def test_two_pushes_at_once(tmp_path, place, generations):
    """Both end, or one says that there was another; the last one is what readers have."""
    indexes = [index_of(2500, generation, seed=n) for n, generation in enumerate(generations)]
    if generations[0] == generations[1]:
        indexes[1] = indexes[0]
    meet = threading.Barrier(2, timeout=30)
    ended: list[Exception | None] = [None, None]

    def work(number: int) -> None:
        def progress(done: int, total: int) -> None:
            if done == 1000 and not meet.broken:
                meet.wait()

        try:
            push(indexes[number], tmp_path / str(number), place("shop"), progress=progress)
        except (ValueError, FileNotFoundError) as error:
            ended[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None in ended, ended
    for error in filter(None, ended):
        assert "push" in str(error)
    last = 1 if ended[1] is None else 0
    push(indexes[last], tmp_path / str(last), place("shop"))
    index = open_index(tmp_path / str(last))
    same(indexes[last], index, queries(2), 30)
    assert len(index.connection.client.list_collections()) == 1


# --- a server that is killed


def test_a_server_that_is_killed_in_a_push(tmp_path, own_server):
    place = CollectionPlace("killed", own_server.uri, timeout=5)
    before, after = index_of(300, "00000001"), index_of(4500, "00000002", seed=1)
    push(before, tmp_path, place)
    seen = []

    def kill(done: int, total: int) -> None:
        seen.append(done)
        if done == 3000:
            own_server.kill()

    with pytest.raises((ConnectionError, TimeoutError), match="Milvus at http"):
        push(after, tmp_path, place, progress=kill)
    own_server.start()
    same(before, open_index(tmp_path), queries(2), 300)
    seen.clear()
    push(after, tmp_path, place, progress=lambda done, total: seen.append(done))
    assert 1000 <= seen[0] <= 3000
    same(after, open_index(tmp_path), queries(2), 40)
    seen.clear()
    push(after, tmp_path, place, progress=lambda done, total: seen.append(done))
    assert seen == [4500]
    assert open_index(tmp_path).connection.client.list_collections() == ["killed_00000002_exact"]


def test_a_server_that_is_killed_in_a_search(tmp_path, own_server):
    local = index_of(300)
    push(local, tmp_path, CollectionPlace("searched", own_server.uri, timeout=5))
    index = open_index(tmp_path)
    timer = threading.Timer(0.3, own_server.kill)
    timer.start()
    with pytest.raises((ConnectionError, TimeoutError), match="Milvus at http"):
        while True:
            same(local, index, queries(2), 5)
    own_server.start()
    same(local, open_index(tmp_path), queries(2), 5)
    same(local, index, queries(2), 5)


# --- a network that is late, or is cut


def test_an_answer_that_is_late(tmp_path, milvus_server, place):
    push(index_of(40), tmp_path, place("shop"))
    with TcpProxy(milvus_server.port) as proxy:
        replace(place("shop"), uri=proxy.uri, timeout=1.5).write(tmp_path)
        index = open_index(tmp_path)
        proxy.delay = 0.2
        same(index_of(40), index, queries(1), 5)
        proxy.delay = 4
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="does not answer within 1.5 s.*raise timeout in"):
            index.nearest(queries(1), 3, None, None)
        assert time.monotonic() - started < 12


def test_a_connection_that_is_cut(tmp_path, milvus_server, place):
    push(index_of(40), tmp_path, place("shop"))
    with TcpProxy(milvus_server.port) as proxy:
        replace(place("shop"), uri=proxy.uri, timeout=3).write(tmp_path)
        index = open_index(tmp_path)
        proxy.cut()  # the client connects again
        same(index_of(40), index, queries(1), 5)
        proxy.closed = True
        proxy.cut()
        with pytest.raises((ConnectionError, TimeoutError), match=f"Milvus at {proxy.uri}"):
            index.nearest(queries(1), 3, None, None)
        proxy.closed = False
        time.sleep(2)  # the client waits longer and longer between its attempts
        same(index_of(40), index, queries(1), 5)


def test_rows_whose_receipt_was_lost_are_there_once(tmp_path, milvus_server, place):
    """The client sends them again, and Milvus doesn't look whether they are there."""
    local = index_of(2500)
    with TcpProxy(milvus_server.port) as proxy:

        def lose(done: int, total: int) -> None:
            proxy.silent = done == 1000
            if done == 1000:
                threading.Timer(1.0, cut).start()

        def cut() -> None:
            proxy.cut()
            proxy.silent = False

        push(local, tmp_path, replace(place("shop"), uri=proxy.uri), progress=lose)
        index = open_index(tmp_path)
        same(local, index, queries(2), 30)
        rows = index.connection.client.query(
            index.collection, filter="", output_fields=["count(*)"]
        )
        assert rows[0]["count(*)"] == 2500


# --- credentials, encryption, room

OPEN = """
import json, os, sys
from pathlib import Path
from fashion_rag.retriever.open_index import open_index
said = []
for token in sys.argv[2:]:
    os.environ["MILVUS_TOKEN"] = token
    try:
        said.append(len(open_index(Path(sys.argv[1]))))
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
sys.stdout.write(json.dumps(said))
"""


def test_authorization_and_encryption(tmp_path, milvus_binaries):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: tmp_path / f"{name}.pem" for name in ("key", "server", "authority")}
    certificate.private_key_pem.write_to_path(paths["key"])
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(paths["server"], append=True)
    authority.cert_pem.write_to_path(paths["authority"])
    settings = {
        "authorization_enabled": True,
        "tls_mode": 1,
        "server_pem_path": str(paths["server"]),
        "server_key_path": str(paths["key"]),
        "ca_pem_path": str(paths["authority"]),
    }
    with MilvusServer(tmp_path / "server", milvus_binaries, settings) as server:
        address = f"https://localhost:{server.port}"
        CollectionPlace("shop", address, timeout=5).write(tmp_path)
        environment = {**os.environ, "MILVUS_URI": address}
        trusting = {**environment, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(paths["authority"])}

        def said(environment: dict[str, str], *tokens: str) -> list:
            command = [sys.executable, "-c", OPEN, str(tmp_path), *tokens]
            ended = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stderr
            return json.loads(ended.stdout)

        right, wrong, none = said(trusting, "root:Milvus", "root:secret", "")
        assert right.startswith("FileNotFoundError: ") and "has no collection 'shop'" in right
        for refused in (wrong, none):
            assert refused.startswith("PermissionError: ") and "MILVUS_TOKEN" in refused
            assert "secret" not in refused
        (unknown,) = said(environment, "root:Milvus")
        assert unknown.startswith("ConnectionError: ")
        assert "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in unknown


def test_a_server_without_room(tmp_path, milvus_binaries):
    settings = {"quotaAndLimits.limitWriting.diskProtection.diskQuota": 1}
    with MilvusServer(tmp_path / "server", milvus_binaries, settings) as server:
        place = CollectionPlace("shop", server.uri, timeout=5)
        before, after = index_of(6000, "00000001"), index_of(4000, "00000002", seed=1)
        push(before, tmp_path, place)
        time.sleep(5)  # the server looks at its disk every three seconds
        with pytest.raises(OSError, match="takes no more rows.*[Mm]ake room"):
            push(after, tmp_path, place)
        same(before, open_index(tmp_path), queries(2), 40)
