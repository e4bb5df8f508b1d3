"""Catalogues as they come: plain folders, tables, Dress Code, links, strange names."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from fashion_rag.retriever.photos.catalogue import Garment, read_catalogue, safe_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 3)).save(path)
    return path


def files(root: Path) -> list[str]:
    return [garment.file for garment in read_catalogue(root).garments]


def test_folder_of_any_depth(tmp_path):
    for name in ("b.PNG", "a/c.jpg", "a/x/y/d.webp", "a/e.JPEG", ".hidden.jpg", ".git/f.jpg"):
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    catalogue = read_catalogue(tmp_path)
    assert files(tmp_path) == ["a/c.jpg", "a/e.JPEG", "a/x/y/d.webp", "b.PNG"]
    assert catalogue.garments[0] == Garment("a/c.jpg", "a/c.jpg", "", "", {})
    assert catalogue.rejects == ()


def test_category_is_the_top_folder_if_it_is_one(tmp_path):
    for name in ("dresses/x/a.jpg", "coats/b.jpg", "upper_body.jpg"):
        photo(tmp_path / name)
    garments = read_catalogue(tmp_path).garments
    assert [g.category for g in garments] == ["", "dresses", ""]


def write_csv(root: Path, rows: list[list[str]]) -> None:
    with open(root / "garments.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)


def write_jsonl(root: Path, rows: list[list[str]]) -> None:
    with open(root / "garments.jsonl", "w", encoding="utf-8") as file:
        for row in rows[1:]:
            file.write(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n")


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_table(tmp_path, write):
    for name in ("a.jpg", "s/b.jpg", "dresses/c.jpg"):
        photo(tmp_path / name)
    write(
        tmp_path,
        [
            ["file", "id", "category", "caption", "price"],
            ["a.jpg", "A", "hats", "a hat, “red”", "3"],
            ["s\\b.jpg", "", "", "", ""],
            ["./dresses/c.jpg", "C", "", "a dress", "80"],
        ],
    )
    catalogue = read_catalogue(tmp_path)
    assert catalogue.garments == (
        Garment("A", "a.jpg", "hats", "a hat, “red”", {"price": "3"}),
        Garment("C", "dresses/c.jpg", "dresses", "a dress", {"price": "80"}),
        Garment("s/b.jpg", "s/b.jpg", "", "", {"price": ""}),
    )
    assert catalogue.rejects == ()


def test_table_rows_that_cannot_be_used(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photo(tmp_path / name)
    photo(tmp_path.parent / "outside.jpg")
    rows = [
        {"file": "a.jpg", "id": "same"},
        {"file": "b.jpg", "id": "same"},
        {"file": "a.jpg", "id": "again"},
        {"file": "gone.jpg"},
        {"file": "../outside.jpg"},
        {"id": "no file"},
        ["a list"],
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "not json\n\n"
    (tmp_path / "garments.jsonl").write_text(text)
    catalogue = read_catalogue(tmp_path)
    assert [g.id for g in catalogue.garments] == ["same", "c.jpg"]
    reasons = {(r.file, r.reason.split(":")[0].split(",")[0]) for r in catalogue.rejects}
    assert reasons == {
        ("b.jpg", "its id 'same' is already that of a.jpg"),
        ("a.jpg", "garments.jsonl line 3 names it a second time; the first row holds"),
        ("gone.jpg", "garments.jsonl line 4 names it"),
        ("../outside.jpg", "garments.jsonl line 5 names it"),
        ("garments.jsonl line 6", "not a row with a file"),
        ("garments.jsonl line 7", "not a row with a file"),
        ("garments.jsonl line 8", "not a row with a file"),
    }


def test_csv_rows_of_another_length(tmp_path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "garments.csv").write_text("file,id,colour\na.jpg,A\na.jpg,A,red,too,many\n")
    catalogue = read_catalogue(tmp_path)
    assert catalogue.garments == (Garment("A", "a.jpg", metadata={"colour": ""}),)
    assert catalogue.rejects[0].file == "garments.csv line 3"


def test_jsonl_values_that_are_no_text(tmp_path):
    photo(tmp_path / "a.jpg")
    row = {"file": "a.jpg", "id": 7, "caption": None, "price": 9.5, "tags": ["x", "ü"]}
    (tmp_path / "garments.jsonl").write_text(json.dumps(row))
    metadata = {"price": "9.5", "tags": '["x", "ü"]'}
    assert read_catalogue(tmp_path).garments == (Garment("7", "a.jpg", metadata=metadata),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("garments.csv", b"name;id\n", "garments.csv.*'name', 'id'.*'file'"),
        ("garments.csv", b"", "garments.csv.*'file'"),
        ("garments.csv", b"file,id\n\xff\xfe,1\n", "garments.csv.*UTF-8"),
        ("garments.jsonl", b'{"file": "\xff"}\n', "garments.jsonl.*UTF-8"),
    ],
)
def test_table_that_is_none(tmp_path, name, content, message):
    photo(tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_catalogue(tmp_path)


def test_two_tables(tmp_path):
    photo(tmp_path / "a.jpg")
    for name in ("garments.csv", "garments.jsonl"):
        (tmp_path / name).write_text("file\n")
    with pytest.raises(ValueError, match=r"garments\.csv and garments\.jsonl: keep one"):
        read_catalogue(tmp_path)


def test_dress_code(tmp_path):
    for name in (
        "dresses/images/000001_0.jpg",
        "dresses/images/000001_1.jpg",
        "dresses/images/000002_1.jpg",
        "dresses/cleaned_inshop_imgs/000002_1.png",
        "dresses/skeletons/000001_5.jpg",
        "upper_body/images/000003_1.jpg",
        "lower_body/images/000003_1.jpg",
        "lower_body/label_maps/000003_1.png",
    ):
        photo(tmp_path / name)
    garments = read_catalogue(tmp_path).garments
    assert [(g.file, g.category) for g in garments] == [
        ("dresses/cleaned_inshop_imgs/000002_1.png", "dresses"),
        ("dresses/images/000001_1.jpg", "dresses"),
        ("lower_body/images/000003_1.jpg", "lower_body"),
        ("upper_body/images/000003_1.jpg", "upper_body"),
    ]


def test_empty_and_absent(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        ValueError, match=f"{tmp_path.name} holds no garment: .*jpg.*other files 1 .\\.txt"
    ):
        read_catalogue(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent is not a folder"):
        read_catalogue(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match="notes.txt is not a folder"):
        read_catalogue(tmp_path / "notes.txt")


needs_links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@needs_links
def test_links(tmp_path):
    outside = tmp_path / "outside"
    photo(outside / "secret.jpg")
    root = tmp_path / "store"
    photo(root / "real" / "a.jpg")
    (root / "inside.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "leaves.jpg").symlink_to(outside / "secret.jpg")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    top = tmp_path / "top"
    top.symlink_to(root)
    for folder in (root, top):
        catalogue = read_catalogue(folder)
        assert [g.file for g in catalogue.garments] == ["inside.jpg", "real/a.jpg"]
        assert {r.file: r.reason for r in catalogue.rejects} == {
            "leaves.jpg": "a link that leaves the catalogue; not followed",
            "folder": "a link that leaves the catalogue; not followed",
            "loop": "a link to a folder; not followed",
            "dangling.jpg": "a link that leads to no file: mend or remove it",
        }
        assert "photos left out 4" in catalogue.notes[0]
        assert safe_path(folder, "inside.jpg") == (root / "real" / "a.jpg").resolve()
        for file in ("leaves.jpg", "folder/secret.jpg"):
            with pytest.raises(ValueError, match="leads out of"):
                safe_path(folder, file)


@needs_links
def test_what_is_neither_file_nor_folder_is_told(tmp_path):
    """The report accounts for pipes, and for links to themselves, which can't be looked at."""
    photo(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    catalogue = read_catalogue(tmp_path)
    assert [g.file for g in catalogue.garments] == ["a.jpg"]
    reasons = {r.file: r.reason for r in catalogue.rejects}
    assert set(reasons) == {"pipe.jpg", "self.jpg"}
    assert reasons["pipe.jpg"] == "no file but a pipe, a socket or a device; not opened"
    assert "photos left out 2" in catalogue.notes[0]


ABSOLUTE = ["/etc/passwd", "C:\\x", "C:x", "\\\\h\\s\\x", "\\x"]
UPWARDS = ["..", "../x", "a/..", "a/../../x", "a\\..\\..\\x"]


@pytest.mark.parametrize("relative", ["", ".", "a\0b", *ABSOLUTE, *UPWARDS])
def test_safe_path_refuses(tmp_path, relative):
    with pytest.raises(ValueError, match="is not a path inside"):
        safe_path(tmp_path, relative)


@given(st.text(st.sampled_from("ab./\\ :\0~é"), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_safe_path_never_leaves(tmp_path, relative):
    try:
        path = safe_path(tmp_path, relative)
    except ValueError:
        return
    assert path.is_relative_to(tmp_path.resolve())


STRANGE = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
)


@needs_links
@given(st.lists(st.lists(STRANGE, min_size=1, max_size=3), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_strange_names_are_found_and_opened(tmp_path_factory, names):
    """Quotes, newlines, non-Latin letters; each photo is listed once, under a path that opens."""
    root = tmp_path_factory.mktemp("strange")
    expected = set()
    for parts in names:
        parts = [part for part in parts if not part.startswith(".")] or ["x"]
        path = root.joinpath(*parts).with_name(parts[-1] + ".jpg")
        if len(os.fsencode(path.name)) > 255 or ".." in path.as_posix().replace("\\", "/"):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        expected.add(path.relative_to(root).as_posix())
    if expected:
        assert files(root) == sorted(expected)
        ours = [name for name in expected if "\\" not in name and ":" not in name]
        assert all(safe_path(root, name) == (root / name).resolve() for name in ours)


@needs_links
def test_names_of_255_bytes_and_of_no_utf8(tmp_path):
    long = "ü" * 125 + "x.jpg"
    assert len(long.encode()) == 255
    photo(tmp_path / long)
    photo(tmp_path / os.fsdecode(b"caf\xe9.jpg"))
    assert set(files(tmp_path)) == {long, os.fsdecode(b"caf\xe9.jpg")}


def test_100000_files_in_one_folder(tmp_path):
    for number in range(100_000):
        os.close(os.open(f"{tmp_path}/{number}.jpg", os.O_CREAT))
    catalogue = read_catalogue(tmp_path)
    assert len({garment.id for garment in catalogue.garments}) == 100_000
    assert not catalogue.rejects
