"""Opening an index: anything missing, changed, swapped or hostile is named."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from zlib import crc32

import numpy as np
import pytest
import torch
from fashion_rag.files import sha256_of_file
from fashion_rag.retriever.open_index import categories_of_index
from fashion_rag.retriever.search import nearest
from fashion_rag.retriever.store import lock
from fashion_rag.retriever.store.filters import parse_filter
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.manifest import encode_rows, read_manifest, write_manifest
from fashion_rag.retriever.store.records import sqlite_uri
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.update import update_index
from PIL import Image
from safetensors.torch import save_file

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)
KINDS = ("embeddings", "records", "thumbnails")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("built")
    build_index(draw_catalogue(base / "photos"), base / "index", ColourEncoder())
    return base


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "copy") / "index"


def path_of(folder: Path, kind: str) -> Path:
    entry = read_manifest(folder)["parts"][0][kind]
    return folder / (entry[0] if kind == "thumbnails" else entry)["name"]


def edit(folder: Path, **changes) -> None:
    """Write a manifest whose checksum is right."""
    write_manifest(folder, json.loads((folder / "manifest.json").read_text()) | changes)


def accept(folder: Path, kind: str) -> None:
    """Make the manifest agree with a file that was tampered with."""
    path = path_of(folder, kind)
    (part,) = read_manifest(folder)["parts"]
    entry = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    edit(folder, parts=[part | {kind: [entry] if kind == "thumbnails" else entry}])


def change_record(folder: Path, **columns) -> None:
    """Tamper with the first record."""
    with sqlite3.connect(path_of(folder, "records")) as connection:
        for name, value in columns.items():
            connection.execute(f'UPDATE garments SET "{name}" = ? WHERE row = 0', [value])
    connection.close()
    accept(folder, "records")


def test_no_index(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="no index in.*fashion-rag index build"):
            GarmentIndex.open(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", '{"schema": 2}', "\xff", "[" * 9999])
def test_manifest_that_is_none(folder, content):
    (folder / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest\.json.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("schema", [0, 1, 999, "3", None])
def test_another_schema(folder, schema):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
    with pytest.raises(
        ValueError, match=f"manifest.json has schema {schema!r}.* reads schema 2 and"
    ):
        GarmentIndex.open(folder)


def test_a_manifest_that_was_changed(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("colour", "coloor"))
    with pytest.raises(ValueError, match=r"manifest\.json was changed or damaged.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_file(folder, kind):
    path = path_of(folder, kind)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path.name} is missing.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_file(folder, kind):
    path = path_of(folder, kind)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{path.name} has .* bytes.*truncated.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_flipped_bit(folder, kind, place):
    path = path_of(folder, kind)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} is not what manifest.json says"):
        GarmentIndex.open(folder)


def test_count_and_dimension(folder):
    edit(folder, count=11)
    with pytest.raises(ValueError, match=r"manifest\.json says 11 garments, its parts hold 12"):
        GarmentIndex.open(folder)
    (part,) = read_manifest(folder)["parts"]
    edit(folder, count=11, parts=[part | {"rows": 11}])
    with pytest.raises(ValueError, match=r"says 11 rows of dimension 8.*12 records.*\(12, 8\)"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("tensor", [torch.zeros(12, 8), torch.zeros(96).half()])
def test_embeddings_of_another_kind(folder, tensor):
    save_file({"embeddings": tensor}, path_of(folder, "embeddings"))
    accept(folder, "embeddings")
    with pytest.raises(ValueError, match=r"embeddings-.*expected float16 of two dimensions"):
        GarmentIndex.open(folder)


def test_embeddings_are_mapped_not_read(folder):
    """The tensor lies on the file's own pages: it is not resizable memory of torch."""
    index = GarmentIndex.open(folder)
    assert index.embeddings.dtype == torch.float16 and index.embeddings.is_contiguous()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert path_of(folder, "embeddings").name in maps.read_text()


@pytest.mark.parametrize("name", ["../manifest.json", "/etc/passwd", "a\\b", "C:x", "", ".."])
def test_files_outside_the_folder(folder, name):
    (part,) = read_manifest(folder)["parts"]
    part["thumbnails"][0]["name"] = name
    edit(folder, parts=[part])
    with pytest.raises(ValueError, match="lacks parts of a manifest"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_verify_finds_any_flipped_bit(folder, kind, large, monkeypatch):
    """Large files are not hashed when the index is opened, but by `verify`."""
    GarmentIndex.open(folder).verify()
    path = path_of(folder, kind)
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)
    if large:
        monkeypatch.setattr("fashion_rag.retriever.store.manifest.HASHED_AT_OPEN", 0)
    with pytest.raises(ValueError, match=f"{path.name} is not what manifest.json says"):
        GarmentIndex.open(folder).verify()


def test_swapped_files(folder, built, tmp_path):
    """Files of the same size, each whole, in each other's place."""
    path = path_of(folder, "thumbnails")
    os.replace(path_of(folder, "embeddings"), path)
    with pytest.raises((ValueError, FileNotFoundError), match="embeddings-.* is missing"):
        GarmentIndex.open(folder)
    shutil.rmtree(folder)
    shutil.copytree(built / "index", folder)
    build_index(built / "photos", tmp_path / "other", ColourEncoder("0ther"))
    shutil.copy(path_of(tmp_path / "other", "embeddings"), path_of(folder, "embeddings"))
    with open(path_of(folder, "embeddings"), "r+b") as file:
        file.seek(600)
        file.write(b"other")
    with pytest.raises(ValueError, match="embeddings-.* is not what manifest.json says"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"text:file": 7},
        {"text:id": 3},
        {"metadata": "[]"},
        {"metadata": '{"price": 3}'},
        {"metadata": "{"},
        {"thumbnail_offset": -5},
        {"thumbnail_length": None},
        {"thumbnail_length": "x"},
        {"content": None},
    ],
)
def test_hostile_records(folder, change):
    change_record(folder, **change)
    index = GarmentIndex.open(folder)
    with pytest.raises(ValueError, match=r"garments-.*sqlite row 0 is not a garment record"):
        index.garment(0)
    assert index.garment(1).file == "001.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thumbnail_offset": 10**9}, r"thumbnails-.*\.bin: the thumbnail of row 0, .* damaged"),
        ({"thumbnail_length": 10**12}, r"thumbnails-.*\.bin: the thumbnail of row 0, .* damaged"),
        ({"thumbnail_crc32": 1}, r"thumbnails-.*\.bin: the thumbnail of row 0, .* damaged"),
        ({"thumbnail_file": 1}, r"row 0 names thumbnail file 1 of 1"),
    ],
)
def test_hostile_places_of_thumbnails(folder, change, message):
    change_record(folder, **change)
    index = GarmentIndex.open(folder)
    with pytest.raises(ValueError, match=message):
        index.thumbnail(index.garment(0))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW other AS SELECT 1",
        "CREATE TRIGGER t AFTER DELETE ON garments BEGIN SELECT 1; END",
    ],
)
def test_records_that_hold_more_than_tables(folder, statement):
    with sqlite3.connect(path_of(folder, "records")) as connection:
        connection.execute(statement)
    connection.close()
    accept(folder, "records")
    with pytest.raises(ValueError, match="garments-.* holds more than tables"):
        GarmentIndex.open(folder)


def rewrite_records(folder: Path, find: str, replace: str) -> None:
    """Write the records into a table that is defined otherwise, by SQL text."""
    path = path_of(folder, "records")
    connection = sqlite3.connect(path, isolation_level=None)
    (defined,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'garments'"
    ).fetchone()
    assert find in defined
    connection.execute("ALTER TABLE garments RENAME TO former")
    connection.execute(defined.replace(find, replace))
    stored = [
        f'"{name}"'
        for _, name, *_, hidden in connection.execute("PRAGMA table_xinfo(garments)")
        if not hidden
    ]
    names = ", ".join(stored)
    connection.execute(f"INSERT INTO garments ({names}) SELECT {names} FROM former")
    connection.execute("DROP TABLE former")
    connection.close()
    accept(folder, "records")


@pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
def test_records_that_are_computed(folder, kind):
    """A short file would fill the memory."""
    computed = f'"text:caption" TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000))) {kind}'
    rewrite_records(folder, '"text:caption"', computed)
    with pytest.raises(ValueError, match=r"garments-.* computes the column 'text:caption'.*--over"):
        GarmentIndex.open(folder)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python's sqlite3 has no limits")
def test_a_value_longer_than_its_file(folder):
    records = GarmentIndex.open(folder).parts[0].records
    with pytest.raises(ValueError, match=r"garments-.* is damaged .*too big"):
        records._all("SELECT hex(zeroblob(100000000))")


@pytest.mark.parametrize("row", ["'x'", "x'00'", "-1", "99.5"])
def test_rows_that_are_no_numbers(folder, row):
    rewrite_records(folder, "row INTEGER PRIMARY KEY", "row")
    connection = sqlite3.connect(path_of(folder, "records"), isolation_level=None)
    last = "DESC" if row != "-1" else ""
    one = f"(SELECT row FROM garments ORDER BY row {last} LIMIT 1)"
    connection.execute(f"UPDATE garments SET row = {row} WHERE row = {one}")
    connection.close()
    accept(folder, "records")
    with pytest.raises(ValueError, match=r"garments-.* has .*row.* is damaged.*--overwrite"):
        GarmentIndex.open(folder)
    assert categories_of_index(folder) == ()


def test_columns_of_other_types(folder):
    change_record(folder, **{"text:category": 7, "text:caption": 1.5, "number:caption": "a"})
    index = GarmentIndex.open(folder)
    for read in (
        index.categories,
        lambda: index.value_counts("category", 9),
        lambda: index.values_at([0], "category"),
        lambda: index.values_of("caption"),
        lambda: index.numbers_of("caption"),
    ):
        with pytest.raises(ValueError, match=r"garments-.* has .*'ca.*is damaged.*--overwrite"):
            read()
    assert categories_of_index(folder) == ()


def test_names_of_columns_that_are_none(folder):
    with sqlite3.connect(path_of(folder, "records")) as connection:
        connection.execute("INSERT INTO columns (name) VALUES (5)")
    connection.close()
    accept(folder, "records")
    with pytest.raises(ValueError, match=r"garments-.* has no text in 'columns': 5 is a int"):
        GarmentIndex.open(folder).columns()


def test_an_index_that_fails_in_an_unknown_way_has_no_categories(folder, monkeypatch, caplog):
    """ComfyUI asks for them while it loads the nodes."""
    monkeypatch.setattr(GarmentIndex, "categories", lambda self: sorted([1, "a"]))
    caplog.set_level("INFO")
    assert categories_of_index(folder) == ()
    assert f"The categories of {folder} are unknown" in caplog.text


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0" + bytes(9000)])
def test_records_that_are_no_database(folder, content):
    path_of(folder, "records").write_bytes(content)
    accept(folder, "records")
    with pytest.raises(ValueError, match=r"garments-.*is damaged.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "..\\secret.png"])
def test_records_that_leave_the_catalogue(folder, file):
    Image.new("RGB", (2, 2)).save(folder.parent / "secret.png")
    change_record(folder, **{"text:file": file})
    index = GarmentIndex.open(folder)
    with pytest.raises(ValueError, match="is not a path inside"):
        index.photo(index.garments[0])


@pytest.mark.parametrize("size", [257, None])
def test_hostile_thumbnail(folder, size):
    """A thumbnail that is larger than thumbnails are, or is none."""
    path = path_of(folder, "thumbnails")
    path.write_bytes(bytes(5000))
    if size:
        Image.new("RGB", (2, size)).save(path, "JPEG")
    data = path.read_bytes()
    accept(folder, "thumbnails")
    place = {"offset": 0, "length": len(data), "crc32": crc32(data)}
    change_record(folder, **{f"thumbnail_{name}": value for name, value in place.items()})
    index = GarmentIndex.open(folder)
    message = rf"\(2, {size}\)" if size else "cannot identify"
    with pytest.raises(ValueError, match=rf"thumbnails-.*'000\.png'.*{message}.*--overwrite"):
        index.thumbnail(index.garments[0])


def test_moved_catalogue(folder, built):
    index = GarmentIndex.open(folder, built / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere.*is gone.*put the catalogue back"):
        index.photo(index.garments[0])
    assert index.thumbnail(index.garments[0]).size == (24, 32)
    index.catalogue_root = folder.parent / "photos"
    assert index.photo(index.garments[0]).size == (24, 32)


def test_another_encoder(folder):
    index = GarmentIndex.open(folder)
    index.check_encoder(ColourEncoder())
    other = ColourEncoder("badc0de")
    other.name = "other"
    with pytest.raises(ValueError, match=r"'colour' \(c0ffee.*'other' \(badc0de.*build the index"):
        index.check_encoder(other)


def test_a_build_that_finishes_while_the_index_is_opened(folder, monkeypatch):
    """The reader has read the former manifest; its files are taken away; it reads the new one."""
    former = read_manifest(folder)
    build_index(folder.parent / "photos", folder, ColourEncoder("next"), overwrite=True)
    manifests = [former]

    def stale(path: Path) -> dict:
        return manifests.pop() if manifests else read_manifest(path)

    monkeypatch.setattr("fashion_rag.retriever.store.index.read_manifest", stale)
    assert GarmentIndex.open(folder).manifest["encoder"]["fingerprint"] == "next"


def test_categories(tmp_path):
    root = draw_catalogue(tmp_path / "photos", 3)
    (root / "garments.csv").write_text("file,category\n000.png,hats\n002.png,coats\n")
    build_index(root, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    assert index.categories() == ["coats", "hats"]
    assert index.rows_where(None, "coats").tolist() == [2]


def test_rows_where(tmp_path):
    root = draw_catalogue(tmp_path / "photos", 6)
    (root / "garments.csv").write_text(
        "file,id,category,price,brand\n000.png,a,hats,10,x\n001.png,b,hats,20.5,y\n"
        "002.png,c,coats,,x\n003.png,d,coats,cheap,\n"
    )
    build_index(root, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    for text, category, rows in [
        ("price < 20.5", None, [0]),
        ("price <= 20.5 and brand != 'x'", None, [1]),
        ("not price < 20", None, [1, 2, 3, 4, 5]),
        ("brand in ['x', '']", None, [0, 2, 3, 4, 5]),
        ("brand in ['x', '']", "coats", [2, 3]),
        ("category = ''", None, [4, 5]),
        ("price = 'cheap'", "hats", []),
        ("10 <= price < 20", None, [0]),
        ("id in ['d', '005.png'] or file = '001.png'", None, [1, 3, 5]),
    ]:
        for _ in range(2):
            found = index.rows_where(parse_filter(text), category)
            assert found.dtype == "int64" and found.tolist() == rows, text
    assert index.rows_where(None, "coats").tolist() == [2, 3]
    assert index.rows_where(None).tolist() == list(range(6))
    assert index.columns() == ["id", "file", "category", "caption", "brand", "price"]
    assert index.row_of("c") == 2 and index.garment(2).metadata == {"price": "", "brand": "x"}
    with pytest.raises(KeyError):
        index.row_of("002.png")
    with pytest.raises(ValueError, match="'colour'; the garments have: id, .*brand, price"):
        index.rows_where(parse_filter("price < 3 and colour = 'red'"))
    with pytest.raises(ValueError, match="'socks'.*'coats', 'hats'"):
        index.rows_where(None, "socks")
    with pytest.raises(IndexError, match="no row 6"):
        index.garment(6)


def test_an_index_on_a_read_only_disk(folder):
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        index = GarmentIndex.open(folder)
        assert index.thumbnail(index.garment(3)).size == (24, 32)
        assert index.rows_where(parse_filter("id = '003.png'")).tolist() == [3]
        index.verify()
    finally:
        folder.chmod(0o755)


def test_an_open_index_outlives_its_files(folder):
    """A writer that replaces the index doesn't disturb those who read it."""
    index = GarmentIndex.open(folder)
    before = index.embeddings.clone()
    build_index(folder.parent / "photos", folder, ColourEncoder("next"), overwrite=True)
    assert torch.equal(index.embeddings, before)
    assert index.thumbnail(index.garment(3)).size == (24, 32)
    assert index.rows_where(parse_filter("id = '003.png'")).tolist() == [3]


def test_removed_rows_that_are_none(folder):
    """What the manifest says of removed rows is checked, also where it unpacks to gigabytes."""
    (part,) = read_manifest(folder)["parts"]
    bomb = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    short = base64.b64encode(zlib.compress(b"")).decode()
    for text, count, message in (("?", 12, "no list"), (short, 12, "another"), (bomb, 12, "12")):
        edit(folder, count=count, parts=[part | {"removed": text}])
        if text != bomb:
            with pytest.raises(ValueError, match=message):
                GarmentIndex.open(folder)
        else:
            assert len(GarmentIndex.open(folder)) == 12
    edit(folder, count=10, parts=[part | {"removed": encode_rows(np.array([3, 11]), 12)}])
    index = GarmentIndex.open(folder)
    assert [g.id for g in index.garments[2:5]] == ["002.png", "004.png", "005.png"]
    assert len(index) == len(index.embeddings) == 10


OLD = Path(__file__).parent.parent / "data" / "index_0_1_0"


def test_an_index_of_version_0_1_0(tmp_path, caplog):
    """It opens as it is, with all that it holds; the next update adds to it and keeps its files."""
    shutil.copytree(OLD, tmp_path / "old")
    folder, catalogue = tmp_path / "old" / "index", tmp_path / "old" / "photos"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with caplog.at_level("INFO"):
        index = GarmentIndex.open(folder, catalogue)
    assert "manifest.json is of version 0.1.0: it is read as one part" in caplog.text
    index.verify()
    held = json.loads((OLD / "holds.json").read_text())
    assert held == [
        [g.id, g.file, g.category, g.caption, dict(g.metadata), vector.tolist()]
        for g, vector in zip(index.garments, index.embeddings, strict=True)
    ]
    assert index.thumbnail(index.garment(index.row_of("new.png"))).getpixel((9, 9)) == (0, 0, 254)
    assert index.rows_where(parse_filter("price <= 20.5")).tolist() == [0, 1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    Image.new("RGB", (24, 32), "red").save(catalogue / "red.png")
    encoder = ColourEncoder()
    report = update_index(folder, encoder, catalogue)
    assert (report.count, report.added, report.left_out) == (12, 1, 1)
    assert encoder.photos_seen == 1 + 8  # and the colour cards, for the least score of a match
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.manifest["schema"] == 3
    assert {garment.id for garment in index.garments} == {row[0] for row in held} | {"red.png"}


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_kinds_that_are_no_longer_there(tmp_path, caplog, kind):
    """An index of such a kind is searched exactly, and says so once."""
    folder = shutil.copytree(OLD / "index", tmp_path / "index")
    former = json.loads((folder / "manifest.json").read_text())
    (folder / "vectors-00000000.faiss").write_bytes(b"a graph")
    entry = {"name": "vectors-00000000.faiss", "bytes": 7, "sha256": ""}
    former |= {"kind": {"name": kind, "effort": 64}, "wanted": {"kind": kind, "memory": 1}}
    former["files"]["vectors"] = entry
    del former["sha256"]
    text = json.dumps(former, sort_keys=True).encode()
    former["sha256"] = hashlib.sha256(text).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(former))
    index = GarmentIndex.open(folder)
    assert index.kind.name == "exact" and index.manifest["wanted"] == "auto"
    assert caplog.text.count(f"the kind '{kind}' is no longer there") == 1
    assert nearest(index, index.embeddings[4:5].float(), 1)[1].tolist() == [[4]]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (
            PureWindowsPath(r"\\NAS\models\my index\g.sqlite"),
            "file:////NAS/models/my%20index/g.sqlite?",
        ),
        (PureWindowsPath(r"C:\Räume\a#b.sqlite"), "file:///C:/R%C3%A4ume/a%23b.sqlite?"),
        (PurePosixPath("/tmp/50%?/g.sqlite"), "file:///tmp/50%25%3F/g.sqlite?"),
    ],
)
def test_uris_as_sqlite_takes_them(path, uri):
    """Of a Windows share too, whose server `as_uri` makes an authority that SQLite refuses."""
    assert sqlite_uri(path) == uri


def test_a_path_that_starts_as_a_share_does(folder):
    """SQLite opens what the URI of a share names: on POSIX two slashes are the root as well."""
    index = GarmentIndex.open(Path(f"/{folder}"))
    uri = sqlite_uri(PurePosixPath(f"/{path_of(folder, 'records')}"), "mode=ro")
    assert uri.startswith("file:////") and len(index) == 12
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM garments").fetchone() == (12,)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_share_without_locks(folder, monkeypatch, number):
    """It is told as that; a lock that is held is told as another build."""

    numbers = [number]

    def refuse(file):
        raise OSError(numbers[0], os.strerror(numbers[0]))

    monkeypatch.setattr(lock, "_lock", refuse)
    with pytest.raises(OSError, match="can't be locked .* network shares.*local disk") as error:
        update_index(folder, ColourEncoder(), folder.parent / "photos")
    assert not isinstance(error.value, BlockingIOError) and error.value.errno == number
    for numbers[0] in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
        with pytest.raises(BlockingIOError, match=r"is being built by process \d+"):
            update_index(folder, ColourEncoder(), folder.parent / "photos")
