"""Milvus, embedded and as a real server: the same garments as the local exact index, and what goes
wrong on the way. What only a server shows is in test_milvus_server.py."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.milvus.connection import CollectionPlace, Connection
from fashion_rag.retriever.milvus.filters import Fields, to_expression
from fashion_rag.retriever.milvus.index import MilvusIndex
from fashion_rag.retriever.milvus.sync import push
from fashion_rag.retriever.open_index import open_index, state_of_index, unanswered
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.store.filters import And, Comparison, Filter, Membership, Not, Or
from fashion_rag.retriever.store.index import GarmentIndex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .milvus_garments import BRANDS, DIM, garments, index_of, queries, same
from .milvus_server import places

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


class WordEncoder:
    """Every text has a random vector of its own."""

    name, dim, preprocessing = "memory", DIM, {}

    def __init__(self, fingerprint: str = ""):
        self.fingerprint = fingerprint

    def encode_texts(self, texts) -> torch.Tensor:
        seeds = [sum(text.encode()) for text in texts]
        vectors = [torch.randn(DIM, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.nn.functional.normalize(torch.stack(vectors), dim=1)


@pytest.fixture(scope="module")
def local() -> GarmentIndex:
    return index_of(240)


@pytest.fixture(scope="module")
def folder(local, milvus, tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("far")
    with places(milvus) as place:
        push(local, folder, place("shop"))
        yield folder


@pytest.fixture(scope="module")
def far(folder) -> MilvusIndex:
    index = open_index(folder)
    assert isinstance(index, MilvusIndex)
    return index


def test_it_finds_what_the_local_exact_index_finds(local, far):
    assert len(far) == 240
    vectors = np.concatenate([queries(5), local.embeddings[:1].float().numpy()])
    for k in (1, 7, 15, 240, 300):
        same(local, far, vectors, k)
    for category in ("upper_body", "lower_body"):
        same(local, far, vectors, 20, category)


texts = st.sampled_from([*BRANDS, "a", "café", '" or row >= 0 or "', "n/a", "12"]) | st.text(
    max_size=6
)
numbers = st.sampled_from([12, 80, -3.5, 0, 1e300, float("inf"), -float("inf")]) | st.floats(
    -1e300, 1e300
)
columns = st.sampled_from(["price", "br and", "size", "id", "file", "category", "caption"])
terms = st.builds(
    Comparison, columns, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), texts | numbers
) | st.builds(Membership, columns, st.lists(texts | numbers, max_size=3).map(tuple), st.booleans())
filters = st.recursive(
    terms,
    lambda part: (
        st.builds(Not, part)
        | st.builds(And, st.tuples(part, part))
        | st.builds(Or, st.tuples(part, part))
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=filters)
def test_filters_select_what_they_select_locally(local, far, where: Filter):
    expected = local.rows_where(where)
    _, rows = far.nearest(queries(1), 240, None, where)
    assert sorted(rows[rows >= 0].tolist()) == expected.tolist()


@given(where=filters)
def test_no_value_enters_an_expression(where: Filter):
    """What a server gets: fields, operators and parameters, of types that pymilvus can send."""
    pairs = {
        name: Fields(f"t{n}", f"n{n}" if name == "price" else None)
        for n, name in enumerate(["price", "br and", "size", "id", "file", "category", "caption"])
    }
    expression, parameters = to_expression(where, pairs)
    words = re.findall(r"[^\s()]+", expression)
    allowed = re.compile(r'[tn]\d|row|0|""|and|or|not|in|==|!=|<=?|>=?|\{p\d+\}')
    assert all(allowed.fullmatch(word) for word in words), expression
    assert set(re.findall(r"\{(p\d+)\}", expression)) == set(parameters)
    from pymilvus.client.prepare import Prepare

    sent = Prepare.prepare_expression_template(parameters)
    assert set(sent) == set(parameters)


def test_queries_with_every_option(local, far, folder):
    plain = Query("coat", k=5)
    wanted = [
        plain,
        replace(plain, category="lower_body", where="price <= 80", k=9),
        replace(plain, pinned=("id 3", "café\udce9 7"), excluded=("id 4", "id 5")),
        replace(plain, draw_from=60, temperature=0.3, seed=5),
        replace(plain, diversity=0.5, negative="fur"),
        replace(plain, min_score=0.3, k=240),
        replace(plain, where="`br and` = 'nothing'"),
    ]
    encoder = WordEncoder()
    ours = retrieve(far, encoder, wanted)
    theirs = retrieve(LocalBackend(local), encoder, wanted)
    for one, other in zip(ours, theirs, strict=True):
        assert one.hits == other.hits and one.note == other.note
    assert ours[2].hits[1].garment.metadata == garments(8)[7].metadata


def test_views_of_one_product_are_one_garment(tmp_path, place):
    views = [
        Garment(f"{n}", f"{n}.png", metadata={"item_group_id": f"p{n % 9}" if n % 10 else ""})
        for n in range(180)
    ]
    index = index_of(180)
    index = GarmentIndex.in_memory(views, index.embeddings.float())
    index.manifest |= {"generation": "0123abcd", "catalogue": {"name": "shop", "path": "/shop"}}
    push(index, tmp_path, place("views"))
    wanted = [Query("coat", k=20), Query("coat", k=4, pinned=("1",), excluded=("2",))]
    ours = retrieve(open_index(tmp_path), WordEncoder(), wanted)
    theirs = retrieve(LocalBackend(index), WordEncoder(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        assert one.hits == other.hits and one.note == other.note
        products = [hit.garment.metadata["item_group_id"] for hit in one.hits]
        assert len(set(filter(None, products))) == len(list(filter(None, products)))


def test_vectors_and_ids(local, far):
    rows = np.array([5, 0, 239])
    np.testing.assert_array_equal(far.vectors_at(rows), local.embeddings[rows].float().numpy())
    assert far.rows_of_ids(["id 5", "id", "café\udce9 0", "café\\udce9 0"]).tolist() == [
        5,
        -1,
        0,
        -1,
    ]
    assert far.garments_at(rows)[2] == garments(240)[239]


def test_half_precision_as_a_server_sends_it(far):
    """milvus-lite has none: what pymilvus makes of a server's answers to search and query."""
    from pymilvus.client.search_result import SearchResult
    from pymilvus.client.types import HybridExtraList
    from pymilvus.grpc_gen import schema_pb2

    vectors = queries(2).astype(np.float16)
    field = schema_pb2.FieldData(type=schema_pb2.DataType.Float16Vector, field_name="vector")
    field.vectors.dim, field.vectors.float16_vector = DIM, vectors.tobytes()
    data = schema_pb2.SearchResultData(num_queries=1, top_k=2, scores=[2, 1], topks=[2])
    data.primary_field_name, data.output_fields[:] = "row", ["vector"]
    data.ids.int_id.data.extend([5, 7])
    data.fields_data.append(field)
    lines = HybridExtraList([field], [{"vector": None}, {"vector": None}], extra={})
    for found in (
        [hit["entity"]["vector"] for hit in SearchResult(data)[0]],
        [line["vector"] for line in lines],
    ):
        np.testing.assert_array_equal(far._vectors(found), vectors.astype(np.float32))


@pytest.mark.parametrize("kind", ["hnsw", "hnsw_sq"])
def test_graphs_give_exact_scores(local, tmp_path, place, milvus, kind):
    if milvus and kind == "hnsw_sq":
        with pytest.raises(ValueError, match="'hnsw_sq': Milvus has it from version 2.5.*2.3.5"):
            push(local, tmp_path, place("graph"), kind=kind)
        return
    push(local, tmp_path, place("graph"), kind=kind)
    found, rows = open_index(tmp_path).nearest(queries(4), 10, None, None)
    expected, best = LocalBackend(local, "exact").nearest(queries(4), 10, None, None)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(rows, best, strict=True)]) > 9
    exact = local.embeddings.float().numpy() @ queries(4).T
    np.testing.assert_allclose(found, np.take_along_axis(exact.T, rows, 1), atol=1e-6)


# --- push


class StoppedError(Exception):
    pass


def test_a_push_that_stops_changes_nothing_and_is_taken_up(tmp_path, place):
    place = place("shop")
    push(index_of(40, "00000001"), tmp_path, place)
    before = open_index(tmp_path)
    state = state_of_index(tmp_path)
    larger = index_of(2500, "00000002", seed=1)
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2000:
            raise StoppedError

    with pytest.raises(StoppedError):
        push(larger, tmp_path, place, progress=stop)
    assert len(open_index(tmp_path)) == 40 and state_of_index(tmp_path) == state
    same(index_of(40), before, queries(2), 40)
    seen.clear()
    push(larger, tmp_path, place, progress=lambda *done: seen.append(done))
    assert seen[0] == (2000, 2500) and seen[-1] == (2500, 2500)
    after = open_index(tmp_path)
    assert len(after) == 2500 and state_of_index(tmp_path) != state
    same(larger, after, queries(3), 50)
    client = after.connection.client
    assert client.list_collections() == ["shop_00000002_exact"]
    with pytest.raises(FileNotFoundError, match="open it again"):
        before.nearest(queries(1), 1, None, None)
    push(larger, tmp_path, place, kind="hnsw")
    assert client.list_collections() == ["shop_00000002_hnsw"]
    assert len(open_index(tmp_path)) == 2500


def test_the_name_of_a_collection_of_others_is_left_alone(local, tmp_path, place):
    place = place("theirs")
    connection = Connection(tmp_path, place)
    connection.client.create_collection("theirs", dimension=4)
    with pytest.raises(FileExistsError, match="'theirs' that was made by something else"):
        push(local, tmp_path, place)
    place.write(tmp_path)
    with pytest.raises(ValueError, match="'theirs' .* was not made by"):
        open_index(tmp_path)


def test_what_milvus_does_not_take(local, tmp_path, place, milvus):
    place = place("shop")
    with pytest.raises(ValueError, match="kind is 'ivf'"):
        push(local, tmp_path, place, kind="ivf")
    if not milvus:
        with pytest.raises(ValueError, match="'diskann': milvus-lite"):
            push(local, tmp_path, place, kind="diskann")
    wide = Garment("a", "a.png", metadata={f"column {n}": "x" for n in range(80)})
    index = GarmentIndex.in_memory([wide], torch.eye(DIM)[:1])
    with pytest.raises(ValueError, match="84 columns.*at most 64"):
        push(index, tmp_path, place)
    long = Garment("a", "a.png", caption="x" * 70_000)
    index = GarmentIndex.in_memory([long], torch.eye(DIM)[:1])
    with pytest.raises(ValueError, match="'a' has a text of 70"):
        push(index, tmp_path, place)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "manifest.json").touch()
    with pytest.raises(FileExistsError, match="holds a local index"):
        push(local, tmp_path / "local", place)


# --- errors


def test_another_encoder(far):
    with pytest.raises(ValueError, match=r"'shop' at .*built with the encoder 'memory'.*c0ffee"):
        retrieve(far, WordEncoder("c0ffee"), [Query("coat")])


def test_category_column_and_k(far):
    with pytest.raises(ValueError, match="'hats'; it has: 'lower_body', 'upper_body'"):
        far.nearest(queries(1), 3, "hats", None)
    with pytest.raises(ValueError, match="column 'colour'; the garments have: id, file"):
        far.nearest(queries(1), 3, None, Comparison("colour", "=", "red"))
    with pytest.raises(ValueError, match="k is 20000: Milvus gives at most 16384"):
        far.nearest(queries(1), 20_000, None, None)


def test_a_missing_photo_and_one_outside(far, tmp_path):
    far.catalogue_root = tmp_path
    with pytest.raises(FileNotFoundError, match="f/1.png is not there.*'shop'"):
        far.photo(Garment("a", "f/1.png"))
    with pytest.raises(ValueError, match="not a path inside"):
        far.photo(Garment("a", "../1.png"))


def server_file(tmp_path: Path, uri: str, timeout: float = 1.0) -> Path:
    CollectionPlace("shop", uri, timeout=timeout).write(tmp_path)
    return tmp_path


def test_a_server_that_is_down(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    folder = server_file(tmp_path, address)
    started = time.perf_counter()
    with pytest.raises(ConnectionError, match=f"No Milvus at {address}.*milvus.json"):
        open_index(folder)
    assert time.perf_counter() - started < 20
    assert state_of_index(folder)[2] == "ConnectionError"


def test_a_silent_server_is_waited_for_once(tmp_path):
    """The page asks for every picture, and must not wait for the server each time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        folder = server_file(tmp_path, address, timeout=3600)
        started = time.perf_counter()
        state = state_of_index(folder)
        assert time.perf_counter() - started < 30
        started = time.perf_counter()
        assert all(state_of_index(folder) == state for _ in range(10))
        assert "Milvus at" in str(unanswered(folder))
        assert time.perf_counter() - started < 1


def test_a_server_that_does_not_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        folder = server_file(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises((ConnectionError, TimeoutError), match="Milvus at http://127.0.0.1"):
            open_index(folder)


def test_a_server_that_goes_away_and_comes_back(local, tmp_path):
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(tmp_path / "data"))
    folder = tmp_path / "far"
    place = CollectionPlace("shop", f"http://127.0.0.1:{port}", timeout=2)
    push(local, folder, place)
    index = open_index(folder)
    same(local, index, queries(2), 5, None, Comparison("price", "<", 80))
    server.stop(0).wait()
    database.close()
    with pytest.raises((ConnectionError, TimeoutError), match=f"Milvus at {place.uri}"):
        index.nearest(queries(1), 3, None, None)
    server, database, _ = start_server_in_thread(str(tmp_path / "data"), port=port)
    time.sleep(2)  # the client waits longer and longer between its attempts
    same(local, open_index(folder), queries(2), 5)
    same(local, index, queries(2), 5)
    server.stop(0).wait()
    database.close()


def test_a_search_that_takes_too_long(local, tmp_path, monkeypatch):
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.adapter.grpc.servicer import MilvusServicer

    monkeypatch.setattr(MilvusServicer, "Search", lambda *_: time.sleep(3))
    server, database, port = start_server_in_thread(str(tmp_path / "data"))
    place = CollectionPlace("shop", f"http://127.0.0.1:{port}")
    push(local, tmp_path, place)
    server_file(tmp_path, place.uri, timeout=1.0)
    with pytest.raises(TimeoutError, match="does not answer within 1 s.*raise timeout in"):
        open_index(tmp_path).nearest(queries(1), 3, None, None)
    server.stop(0).wait()
    database.close()


def test_a_file_that_another_process_has_open(tmp_path):
    from milvus_lite.db import MilvusLite

    database = MilvusLite(str(tmp_path / "vectors.db"))  # its lock is the same for any opener
    CollectionPlace("shop", "vectors.db").write(tmp_path)
    with pytest.raises(ConnectionError, match="another process may have it open"):
        open_index(tmp_path)
    database.close()


def test_a_collection_that_is_not_there(folder):
    with pytest.raises(FileNotFoundError, match="no collection 'nothing'.*index push"):
        Connection(folder, replace(CollectionPlace.read(folder), collection="nothing")).manifest()


def test_credentials_go_to_the_server_of_the_environment_alone(tmp_path, monkeypatch):
    sent = []

    def client(uri, token, db_name, timeout):
        sent.append((uri, token))
        return SimpleNamespace(get_server_version=lambda timeout: "2.6.4")

    monkeypatch.setattr(pymilvus, "MilvusClient", client)
    monkeypatch.setenv("MILVUS_TOKEN", "me:secret")
    monkeypatch.setenv("MILVUS_URI", "https://milvus.example:19530/")
    Connection(tmp_path, CollectionPlace("shop", "https://milvus.example:19530"))
    Connection(tmp_path, CollectionPlace("shop"))
    Connection(tmp_path, CollectionPlace("shop", "https://elsewhere.example"))
    assert [token for _, token in sent] == ["me:secret", "me:secret", ""]
    monkeypatch.delenv("MILVUS_URI")
    Connection(tmp_path, CollectionPlace("shop", "https://milvus.example:19530"))
    assert sent[-1][1] == ""
    with pytest.raises(ValueError, match="names no uri, and MILVUS_URI is not set"):
        Connection(tmp_path, CollectionPlace("shop"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (pymilvus.MilvusException(1, "<_MultiThreadedRendezvous: Deadline Exceeded>"), TimeoutError,
         "within 10 s.*timeout in .*milvus.json"),
        (pymilvus.MilvusException(16, "auth check failure, please check"), PermissionError,
         "MILVUS_TOKEN to user:password"),
        (pymilvus.MilvusException(100, "collection not found[collection=shop]"), FileNotFoundError,
         "no collection 'shop'"),
        (pymilvus.MilvusException(1100, "invalid search params"), ValueError,
         "Milvus at .*: invalid search params"),
    ],
)  # fmt: skip
def test_what_a_server_says_is_explained(far, error, kind, words):
    connection = Connection(far.connection.folder, far.connection.place)
    with pytest.raises(kind, match=words), connection.explained():
        raise error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not understood"),
        ("[]", "not an object"),
        ("[" * 5000, "is not understood.*nested too deeply"),
        ('{"uri": "http://a"}', "collection"),
        ('{"collection": "shop", "password": "x"}', "'password'"),
        ('{"collection": "shop", "timeout": "10"}', "'timeout' is '10'"),
        ('{"collection": "shop", "timeout": 0}', "timeout is 0"),
        ('{"collection": "a b"}', "'a b' can't be one"),
        ('{"collection": "shop", "uri": "ftp://a"}', "'ftp://a'"),
        ('{"collection": "shop", "uri": "https://me:secret@a"}', "holds a password"),
        ('{"collection": "shop", "uri": "../x.db"}', "not a path inside"),
        ('{"collection": "shop", "uri": "/tmp/x.db"}', "not a path inside"),
        ('{"collection": "shop", "uri": "notes.txt"}', "'notes.txt': expected http"),
    ],
)
def test_a_bad_milvus_json(tmp_path, text, words):
    (tmp_path / "milvus.json").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        open_index(tmp_path)
    assert "secret" not in str(caught.value)


def test_milvus_json_holds_what_was_given(tmp_path):
    place = CollectionPlace("shop", "http://a:19530", database="d", timeout=3.5)
    place.write(tmp_path)
    assert CollectionPlace.read(tmp_path) == place
    CollectionPlace("shop").write(tmp_path)
    assert json.loads((tmp_path / "milvus.json").read_text()) == {"collection": "shop"}
    with pytest.raises(FileNotFoundError, match="milvus.json is missing"):
        MilvusIndex.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("module", "package"), [("pymilvus", "pymilvus"), ("milvus_lite", "milvus-lite")]
)
def test_a_missing_package(tmp_path, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    CollectionPlace("shop", "vectors.db").write(tmp_path)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        open_index(tmp_path)
