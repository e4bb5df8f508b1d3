"""Which photos an import takes where names are shared, and what it keeps of a former table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from fashion_rag.retriever.photos.catalogue import read_catalogue
from fashion_rag.retriever.upkeep import feed_photos
from fashion_rag.retriever.upkeep.import_feed import import_feed
from PIL import Image


def picture(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 30), colour).save(path, "PNG")
    return path


@pytest.fixture
def folder(tmp_path):
    """Two photos of one name in two folders, and an import of a feed into another folder."""
    picture(tmp_path / "photos" / "a" / "same.jpg", "red")
    picture(tmp_path / "photos" / "b" / "same.jpg", "blue")
    return tmp_path


def run(folder: Path, feed: str, photos: str | None = "photos", **options):
    (folder / "feed.csv").write_text(feed, encoding="utf-8")
    place = folder / photos if photos else None
    return import_feed(folder / "feed.csv", folder / "shop", place, **options)


def colours(folder: Path) -> dict[str, tuple[int, ...]]:
    """The colour of each garment's photo, by id."""
    text = (folder / "shop" / "garments.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    return {row["id"]: Image.open(folder / "shop" / row["file"]).getpixel((0, 0)) for row in rows}


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 128, 0)


@pytest.mark.parametrize(
    "photo",
    ["a/same.jpg", r"a\same.jpg", "./a/same.jpg", "A/Same.JPG", r"C:\shop\a\same.jpg",
     "https://cdn.example/files/a/same.jpg?v=1", "{photos}/a/same.jpg"],
)  # fmt: skip
def test_a_photo_is_found_by_its_path_as_written(folder, photo):
    run(folder, f"id,file\nX,{photo.format(photos=folder / 'photos')}\n")
    assert colours(folder) == {"X": RED}


def test_a_whole_path_goes_before_the_end_of_a_longer_one(folder):
    picture(folder / "photos" / "0" / "a" / "same.jpg", "green")
    run(folder, "id,file\nX,a/same.jpg\nY,0/a/same.jpg\n")
    assert colours(folder) == {"X": RED, "Y": GREEN}


def test_a_name_alone_counts_where_one_photo_has_it(folder):
    picture(folder / "photos" / "c" / "one.jpg", "green")
    report = run(folder, "id,file\nX,one.jpg\nY,same.jpg\n")
    assert colours(folder) == {"X": GREEN}
    ((photo, reason),) = report.missing
    assert photo == "same.jpg"
    for name in ("a/same.jpg", "b/same.jpg"):
        assert str(folder / "photos" / name) in reason
    assert "line 3" in reason


def test_two_photos_of_one_name_both_come_at_every_import(folder):
    for _ in range(2):
        report = run(folder, "id,file\nX,a/same.jpg\nY,b/same.jpg\n")
        assert (report.written, report.missing) == (2, [])
        assert colours(folder) == {"X": RED, "Y": BLUE}
    run(folder, "id,file\nX,a/same.jpg\nY,b/same.jpg\n", photos=None)
    assert colours(folder) == {"X": RED, "Y": BLUE}
    assert {one.id for one in read_catalogue(folder / "shop").garments} == {"X", "Y"}


def test_a_name_that_two_rows_share_is_not_one_photos_name(folder):
    picture(folder / "photos" / "lone.jpg", "green")
    report = run(folder, "id,file\nX,1/lone.jpg\nY,2/lone.jpg\nZ,a/same.jpg\n")
    assert colours(folder) == {"Z": RED}
    assert len(report.missing) == 2


def test_names_that_are_written_alike_stay_apart(folder):
    picture(folder / "photos" / "p q.jpg", "red")
    picture(folder / "photos" / "p_q.jpg", "blue")
    for _ in range(2):
        run(folder, "id,file\nX,p q.jpg\nY,p_q.jpg\n")
        assert colours(folder) == {"X": RED, "Y": BLUE}
    assert len(list((folder / "shop" / "photos").iterdir())) == 2


def test_another_photo_of_a_former_imports_name_is_not_taken_for_it(folder):
    run(folder, "id,file\nX,a/same.jpg\n")
    run(folder, "id,file\nX,b/same.jpg\n")
    assert colours(folder) == {"X": BLUE}


def test_photos_around_the_catalogue_are_not_found_twice(folder):
    for _ in range(2):
        report = run(folder, "id,file\nX,photos/a/same.jpg\n", photos=".")
        assert (report.missing, colours(folder)) == ([], {"X": RED})


def test_a_photo_is_one_garments(folder):
    report = run(folder, "id,file\nX,a/same.jpg\nY,a/same.jpg\n")
    assert colours(folder) == {"X": RED}
    assert "already the photo of 'X' of line 2" in dict(report.missing)["a/same.jpg"]


@pytest.mark.parametrize("name", ["../../out", "../b/same"])
def test_neither_a_path_nor_an_id_leads_out(folder, name):
    picture(folder / "out.jpg", "green")
    picture(folder / "photos" / "!!!.jpg", "green")
    run(folder, f"id,file\n{name},!!!.jpg\nX,a/same.jpg\nY,{name}.jpg\n")
    outside = {path for path in folder.rglob("*.jpg") if "shop" not in path.parts}
    assert {path.relative_to(folder).as_posix() for path in outside} == {
        "out.jpg", "photos/!!!.jpg", "photos/a/same.jpg", "photos/b/same.jpg"
    }  # fmt: skip
    assert "Y" not in colours(folder) or colours(folder)["Y"] == BLUE


def test_a_linked_photo_comes_whole(folder):
    (folder / "photos" / "link.jpg").symlink_to(Path("a") / "same.jpg")
    run(folder, "id,file\nX,link.jpg\n")
    assert colours(folder) == {"X": RED}
    assert not (folder / "shop" / "photos" / "link.jpg").is_symlink()


def test_what_a_nas_keeps_is_no_photo_of_a_feed(folder):
    picture(folder / "photos" / "@eaDir" / "only.jpg", "blue")
    picture(folder / "photos" / ".trash" / "only.jpg", "blue")
    picture(folder / "photos" / "x" / "only.jpg", "green")
    run(folder, "id,file\nX,only.jpg\n")
    assert colours(folder) == {"X": GREEN}


def test_a_column_file_beside_the_photo_is_kept_under_another_name(folder):
    run(folder, "id,image_link,file\nX,a/same.jpg,note.txt\n")
    assert colours(folder) == {"X": RED}
    (garment,) = read_catalogue(folder / "shop").garments
    assert garment.metadata["original_file"] == "note.txt"


def test_the_users_table_is_kept_and_an_imports_own_is_not(folder):
    """A shop imports every night: its folder does not fill with the tables of the nights before."""
    shop = folder / "shop"
    shop.mkdir()
    (shop / "garments.csv").write_text("file,id\nmine.jpg,mine\n")
    dry = run(folder, "id,file\nX,a/same.jpg\n", dry=True)
    assert (dry.kept, [path.name for path in shop.iterdir()]) == (
        "garments.csv.old", ["garments.csv"]
    )  # fmt: skip
    report = run(folder, "id,file\nX,a/same.jpg\n")
    assert report.kept == "garments.csv.old"
    assert any("garments.csv.old" in line for line in report.lines())
    for identity in "XYZ":
        assert run(folder, f"id,file\n{identity},a/same.jpg\n").kept == "", "an import's own"
    edited = (shop / "garments.csv").read_text().replace("Z", "mine too")
    (shop / "garments.csv").write_text(edited)
    assert run(folder, "id,file\nX,a/same.jpg\n").kept == "garments.csv.old2"
    (shop / "garments.csv").write_text(edited)
    assert run(folder, "id,file\nY,a/same.jpg\n").kept == "garments.csv.old2", "kept already"
    assert (shop / "garments.csv.old").read_text() == "file,id\nmine.jpg,mine\n"
    assert (shop / "garments.csv.old2").read_text() == edited
    assert len(list(shop.glob("*.old*"))) == 2


def test_what_a_new_feed_no_longer_names_is_told(folder):
    picture(folder / "photos" / "c" / "other.jpg", "green")
    run(folder, "id,file\nX,a/same.jpg\nY,c/other.jpg\n")
    report = run(folder, "id,file\nX,a/same.jpg\n")
    (left,) = report.left
    assert (folder / "shop" / left).is_file() and f"  {left}" in report.lines()
    assert any("1 photos of the former table are not in this one" in x for x in report.lines())
    assert run(folder, "id,file\nX,a/same.jpg\nY,c/other.jpg\n").left == []


def test_a_copy_that_was_stopped_is_no_photo(folder, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    def stop(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(feed_photos.os, "link", refuse)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(feed_photos.shutil, "copyfile", stop)
        run(folder, "id,file\nX,a/same.jpg\n")
    assert not [path for path in (folder / "shop").rglob("*") if path.is_file()]
    run(folder, "id,file\nX,a/same.jpg\n")
    assert colours(folder) == {"X": RED}
