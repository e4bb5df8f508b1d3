"""Tables as people's programs write them, and folders as data sets and NAS leave them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from fashion_rag.retriever.photos.catalogue import Catalogue, read_catalogue


def catalogue(root: Path, photos: str, table: str | bytes = "", name: str = "garments.csv"):
    """Read a folder with empty photos, named with blanks between, and a table."""
    for photo in photos.split():
        (root / photo).parent.mkdir(parents=True, exist_ok=True)
        (root / photo).write_bytes(b"")
    if table:
        (root / name).write_bytes(table if isinstance(table, bytes) else table.encode())
    return read_catalogue(root)


def captions(found: Catalogue) -> dict[str, str]:
    return {garment.file: garment.caption for garment in found.garments if garment.caption}


def reasons(found: Catalogue) -> dict[str, str]:
    return {reject.file: reject.reason for reject in found.rejects}


PLAIN = "file,id,caption\na.jpg,A,red\n"


@pytest.mark.parametrize(
    "table",
    [
        PLAIN,
        "File, ID ,Caption\na.jpg, A, red\n",
        'file, id, caption\na.jpg, A, "red"\n',
        "file;id;caption\na.jpg;A;red\n",
        "file\tid\tcaption\na.jpg\tA\tred\n",
        "sep=;\nfile;id;caption\na.jpg;A;red\n",
        "file,id,caption,,\na.jpg,A,red,,,\n,,,\n",
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("a.jpg", ".\\a.jpg"),
        PLAIN.replace("a.jpg", "C:\\shop\\photos\\a.jpg"),
        PLAIN.replace("a.jpg", "A.JPG"),
        PLAIN.replace("file,", "file_name,"),
    ],
)
def test_every_way_to_write_the_same_table(tmp_path, table):
    found = catalogue(tmp_path, "a.jpg b.jpg", table)
    assert [(g.id, g.caption, g.metadata) for g in found.garments] == [
        ("A", "red", {}),
        ("b.jpg", "", {}),
    ]
    assert not found.rejects


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("Garments.CSV", PLAIN),
        ("products.csv", PLAIN),
        ("feed.tsv", PLAIN.replace(",", "\t")),
        ("metadata.jsonl", '{"file_name": "a.jpg", "ID": "A", "caption": "red"}\n'),
        ("garments.json", '[{"file": "a.jpg", "id": "A", "caption": "red"}]'),
    ],
)
def test_a_table_under_another_name(tmp_path, name, table):
    found = catalogue(tmp_path, "a.jpg", table, name)
    assert captions(found) == {"a.jpg": "red"} and not found.rejects


def test_tables_that_are_not_read_are_told(tmp_path):
    (tmp_path / "orders.csv").write_text("number,total\n1,2\n")
    (tmp_path / "prices.xlsx").write_bytes(b"PK")
    found = catalogue(tmp_path, "a.jpg", PLAIN, "one.csv")
    assert captions(found) == {"a.jpg": "red"}
    assert "'number', 'total'" in reasons(found)["orders.csv"]
    assert "garments.csv (UTF-8)" in reasons(found)["prices.xlsx"]
    found = catalogue(tmp_path, "a.jpg", PLAIN, "two.csv")
    assert captions(found) == {} and "one.csv and two.csv" in reasons(found)["one.csv"]
    (tmp_path / "captions.json").write_text('{"a": ["red shirt"]}')
    found = catalogue(tmp_path, "a.jpg", PLAIN, "garments.csv")
    assert captions(found) == {"a.jpg": "red"}
    assert reasons(found)["one.csv"] == "not read: garments.csv is the table"
    assert not {"captions.json", "orders.csv"} & set(reasons(found))
    found = catalogue(tmp_path, "a.jpg sub/b.jpg", PLAIN, "sub/garments.csv")
    assert "own folder" in reasons(found)["sub/garments.csv"]


def test_unicode_forms_and_letter_case(tmp_path):
    composed, decomposed = "é.jpg", unicodedata.normalize("NFD", "é.jpg")
    table = f"file,caption\n{composed},accent\nX.JPG,exact\nx.jpg,case\n"
    found = catalogue(tmp_path, f"{decomposed} X.JPG", table)
    assert captions(found) == {decomposed: "accent", "X.JPG": "exact"}
    assert "line 4 names it a second time" in reasons(found)["X.JPG"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('a.jpg,A,"red shirt', 'a quote (") is not closed'),
        ("a.jpg,A,“red, shirt”", "4 values for 3 columns"),
        ('a.jpg,A,"12" sleeve, blue"', "stands inside a text in quotes"),
        (",A,red", "not a row with a file"),
        ("sub/a.jpg,A,red", "a.jpg is there: name it with its folder"),
        ("notes.txt,A,red", "no photo that is read"),
        ("z.jpg,A,red", "there is no such photo"),
    ],
)
def test_a_bad_row_costs_no_other(tmp_path, line, reason):
    (tmp_path / "notes.txt").write_text("")
    table = f'file,id,caption\n{line}\nb.jpg,B,"blue, long"\nc.jpg,C,"two\nlines"\n'
    found = catalogue(tmp_path, "a.jpg b.jpg c.jpg", table)
    assert captions(found) == {"b.jpg": "blue, long", "c.jpg": "two\nlines"}
    ((place, told),) = [r for r in reasons(found).items()]
    assert reason in told and ("line 2" in place or "line 2" in told)


def test_rows_of_one_product(tmp_path):
    table = "file,id,caption\nz_front.jpg,P,red shirt\na_back.jpg,P,\n"
    found = catalogue(tmp_path, "z_front.jpg a_back.jpg", table)
    assert captions(found) == {"z_front.jpg": "red shirt"}
    assert "already that of z_front.jpg" in reasons(found)["a_back.jpg"]


def test_what_a_nas_and_other_data_sets_keep_is_accounted_for(tmp_path):
    found = catalogue(
        tmp_path,
        "a.jpg b.avif @eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg #recycle/o.jpg Thumbs.db h.heic r.txt "
        ".hidden.jpg vt/cloth/1.jpg vt/cloth-mask/1.jpg vt/image/1.jpg vt/mine/1.jpg",
    )
    assert [g.file for g in found.garments] == [
        "a.jpg",
        "b.avif",
        "vt/cloth/1.jpg",
        "vt/mine/1.jpg",
    ]
    assert list(reasons(found)) == ["h.heic"]
    (account,) = found.notes
    for words in ("folder 12:", "photos 4", "system 3", "data set 2", "not read 1 (.heic)"):
        assert words in account
    assert "other files 1 (.txt)" in account and "a dot 1" in account


def test_a_shops_own_folders_are_no_dress_code(tmp_path):
    photos = "dresses/images/summer.jpg dresses/images/000001_1.jpg dresses/images/000001_0.jpg"
    found = catalogue(
        tmp_path, f"{photos} dresses/skeletons/000001_5.jpg Upper_Body/x.jpg new/y.jpg"
    )
    assert [(g.file, g.category) for g in found.garments] == [
        ("Upper_Body/x.jpg", "upper_body"),
        ("dresses/images/000001_1.jpg", "dresses"),
        ("dresses/images/summer.jpg", "dresses"),
        ("new/y.jpg", ""),
    ]


def test_categories_and_strengths_as_people_write_them(tmp_path):
    table = "file,category,strength\na.jpg,Upper Body,medium\nb.jpg,Shoes,1.5\n"
    found = catalogue(tmp_path, "a.jpg b.jpg", table)
    assert [garment.category for garment in found.garments] == ["upper_body", "Shoes"]
    assert "'medium', garments.csv line 2" in found.notes[-1] and "1 values" in found.notes[-1]


def test_a_long_description_costs_no_row(tmp_path):
    """csv's own limit is 131,072 characters a cell; a longer text than ours is told."""
    long, longer = "é" * 200_000, "x" * 1_100_000
    table = f'file,caption\na.jpg,"{long}, long"\nb.jpg,"{longer}, longer"\nc.jpg,"red, short"\n'
    found = catalogue(tmp_path, "a.jpg b.jpg c.jpg", table)
    assert captions(found) == {"a.jpg": f"{long}, long", "c.jpg": "red, short"}
    assert reasons(found) == {
        "garments.csv line 3": "a text of more than 1,048,576 characters: shorten it"
    }


def test_a_table_in_another_encoding_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"garments.csv is no text in UTF-8 .*'CSV UTF-8'"):
        catalogue(tmp_path, "a.jpg", "file,caption\na.jpg,é\n".encode("latin-1"))
