"""Updating, removing, merging and folding: the index is that of the catalogue, and ids stay."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever.milvus.connection import CollectionPlace
from fashion_rag.retriever.photos.reader import PhotoReader, read_photo, thumbnail_of
from fashion_rag.retriever.search import nearest
from fashion_rag.retriever.store.filters import parse_filter
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.manifest import data_files
from fashion_rag.retriever.upkeep import compare as compare_module
from fashion_rag.retriever.upkeep import update as update_module
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.duplicates import find_duplicates
from fashion_rag.retriever.upkeep.merge import merge_indexes
from fashion_rag.retriever.upkeep.refresh import refresh_index
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)


@pytest.fixture
def catalogue(tmp_path) -> Path:
    return draw_catalogue(tmp_path / "photos")


@pytest.fixture
def folder(catalogue, tmp_path) -> Path:
    build_index(catalogue, tmp_path / "index", ColourEncoder())
    return tmp_path / "index"


def paint(path: Path, colour: object) -> None:
    Image.new("RGB", (24, 32), colour).save(path)


def opened(folder: Path) -> GarmentIndex:
    index = GarmentIndex.open(folder)
    index.verify()
    named = {entry["name"] for entry in data_files(index.manifest)}
    assert {p.name for p in folder.iterdir()} == named | {"manifest.json", "build.lock"}
    return index


def check(folder: Path, catalogue: Path, encoder: ColourEncoder) -> GarmentIndex:
    """The index holds each photo of the catalogue once, as the encoder and the thumbnailer do."""
    index = opened(folder)
    assert {g.file for g in index.garments} == {p.name for p in catalogue.glob("*.png")}
    assert len(index) == len({g.id for g in index.garments})
    photos = [Image.open(catalogue / g.file) for g in index.garments]
    assert torch.equal(index.embeddings, encoder.encode_images(photos).half())
    for row, photo in zip(index.rows, photos, strict=True):
        assert index.thumbnail_file(row) == thumbnail_of(photo)
        assert index.row_of(index.garment(row).id) == row
    return index


def test_an_update_encodes_what_changed(catalogue, folder):
    (catalogue / "007.png").unlink()
    paint(catalogue / "005.png", "red")
    (catalogue / "003.png").rename(catalogue / "moved.png")
    paint(catalogue / "new.png", "blue")
    os.utime(catalogue / "000.png", (1, 1))
    (catalogue / "bad.png").write_bytes(b"x")
    (catalogue / "garments.csv").write_text("file,price\n001.png,3\nmoved.png,5\n")
    encoder = ColourEncoder()
    report = update_index(folder, encoder)
    assert encoder.photos_seen == 2
    counts = {name: getattr(report, name) for name in ("added", "changed", "renamed", "removed")}
    assert counts == {"added": 1, "changed": 1, "renamed": 1, "removed": 1}
    assert (report.count, report.described) == (12, 1)
    assert [reject.file for reject in report.rejects] == ["bad.png"]
    assert "12 garments in the index: 1 added" in report.summary()
    (catalogue / "bad.png").unlink()
    index = check(folder, catalogue, encoder)
    assert index.garment(index.row_of("003.png")).file == "moved.png"
    rows = index.rows_where(parse_filter("price <= 5"))
    assert [index.garment(row).id for row in rows] == ["001.png", "003.png"]


def test_nothing_to_do(catalogue, folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    encoder = ColourEncoder()
    report = update_index(folder, encoder)
    assert (report.count, encoder.photos_seen) == (12, 0)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after.pop("build.lock") and before.pop("build.lock") and after == before


def test_a_changed_photo_that_can_not_be_read_is_removed(catalogue, folder):
    (catalogue / "005.png").write_bytes(b"x")
    report = update_index(folder, ColourEncoder())
    counts = (report.added, report.changed, report.removed, len(report.rejects))
    assert (counts, report.count) == ((0, 0, 1, 1), 11)


# --- refreshing


def test_refreshing_builds_and_then_encodes_only_what_is_new(catalogue, tmp_path):
    encoder, folder = ColourEncoder(), tmp_path / "index"
    assert refresh_index(catalogue, folder, encoder).resumed == 0
    assert encoder.photos_seen == 12 + 8  # and the colour cards
    paint(catalogue / "new.png", "blue")
    (catalogue / "001.png").unlink()
    report = refresh_index(catalogue, folder, encoder)
    assert (report.added, report.removed, report.count) == (1, 1, 12)
    assert encoder.photos_seen == 12 + 8 + 1
    first, second, *rest = report.summary().splitlines()
    assert first.startswith("12 garments in the index: 1 added, 0 changed, 0 renamed")
    assert second.startswith("Searched as kind exact") and rest == list(report.notes)
    report = refresh_index(catalogue, folder, encoder)
    assert "nothing added, changed or removed, 0 refused" in report.summary()
    assert refresh_index(catalogue, folder, encoder, overwrite=True).count == 12
    assert encoder.photos_seen == 12 + 8 + 1 + 12 + 8
    check(folder, catalogue, encoder)


def test_refreshing_follows_a_catalogue_that_moved(catalogue, folder):
    moved = catalogue.rename(catalogue.with_name("elsewhere"))
    encoder = ColourEncoder()
    report = refresh_index(moved, folder, encoder)
    assert (report.count, encoder.photos_seen) == (12, 0)
    index = check(folder, moved, encoder)
    assert index.manifest["catalogue"] == {"name": "elsewhere", "path": str(moved)}


def test_refreshing_replaces_no_index_by_mistake(catalogue, folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = ColourEncoder("d1ff")
    other.name = "other"
    with pytest.raises(ValueError, match=r"built with the encoder 'colour'.*'other'.*overwrite"):
        refresh_index(catalogue, folder, other)
    strange = tmp_path / "strange"
    strange.mkdir()
    paint(strange / "a.png", "red")
    with pytest.raises(ValueError, match=r"catalogue 'photos'.*12 garments 0 are in .*overwrite"):
        refresh_index(strange, folder, ColourEncoder())
    with pytest.raises(ValueError, match=r"shard 1/1 .*, not 1/2.*overwrite"):
        refresh_index(catalogue, folder, ColourEncoder(), shard=(1, 2))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert refresh_index(strange, folder, other, overwrite=True).count == 1


def test_no_index_is_built_into_the_folder_of_a_collection(catalogue, tmp_path):
    CollectionPlace("shop", "http://127.0.0.1:9").write(tmp_path)
    with pytest.raises(ValueError, match="stands for a collection.*index push"):
        refresh_index(catalogue, tmp_path, ColourEncoder())


def test_a_shard_stays_a_shard(catalogue, tmp_path):
    folder, encoder = tmp_path / "second", ColourEncoder()
    refresh_index(catalogue, folder, encoder, shard=(2, 3))
    paint(catalogue / "003a.png", "red")  # the second shard now begins with it
    report = refresh_index(catalogue, folder, encoder, shard=(2, 3))
    assert (report.count, report.added, report.removed) == (4, 1, 1)
    assert opened(folder).manifest["shard"] == [2, 3]


def test_content_of_the_same_size_and_time(catalogue, folder):
    photo = catalogue / "005.png"
    stat = photo.stat()
    (catalogue / "006.png").replace(photo)
    data = photo.read_bytes()
    photo.write_bytes(data[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert update_index(folder, ColourEncoder()).changed == 0
    assert update_index(folder, ColourEncoder(), check_content=True).changed == 1


def test_a_name_that_is_used_again(catalogue, folder):
    """A renamed garment keeps the id; what comes under its former name gets another."""
    (catalogue / "003.png").rename(catalogue / "moved.png")
    update_index(folder, ColourEncoder())
    paint(catalogue / "003.png", "red")
    assert update_index(folder, ColourEncoder()).added == 1
    index = check(folder, catalogue, ColourEncoder())
    ids = {g.file: g.id for g in index.garments}
    assert ids["moved.png"] == "003.png" and ids["003.png"].startswith("003.png#")
    assert (
        "nothing added, changed or removed, 0 refused"
        in update_index(folder, ColourEncoder()).summary()
    )
    assert {g.file: g.id for g in GarmentIndex.open(folder).garments} == ids


def test_ids_of_the_table_come_first(catalogue, folder):
    (catalogue / "003.png").rename(catalogue / "moved.png")
    (catalogue / "garments.csv").write_text("file,id\n005.png,003.png\nmoved.png,mine\n")
    report = update_index(folder, ColourEncoder())
    assert (report.renamed, report.described) == (1, 1)
    ids = {g.file: g.id for g in check(folder, catalogue, ColourEncoder()).garments}
    assert (ids["005.png"], ids["moved.png"]) == ("003.png", "mine")


def test_a_folder_that_cannot_be_read(catalogue, tmp_path, monkeypatch):
    """Garments that nobody can see at the moment stay."""
    (catalogue / "hats").mkdir()
    paint(catalogue / "hats" / "a.png", "red")
    build_index(catalogue, tmp_path / "index", ColourEncoder())
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("hats"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr("fashion_rag.retriever.photos.catalogue.os.scandir", refuse)
        (catalogue / "000.png").unlink()
        report = update_index(tmp_path / "index", ColourEncoder())
    assert (report.removed, report.count) == (1, 12)
    assert "can't be read" in report.rejects[0].reason
    assert "hats/a.png" in {g.file for g in GarmentIndex.open(tmp_path / "index").garments}


def test_a_catalogue_that_is_gone(catalogue, folder, tmp_path):
    catalogue.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="is not there any more: .* --catalogue"):
        update_index(folder, ColourEncoder())
    catalogue.mkdir()
    with pytest.raises(ValueError, match="photos holds no garment"):
        update_index(folder, ColourEncoder())
    assert len(opened(folder)) == 12
    assert update_index(folder, ColourEncoder(), tmp_path / "elsewhere").count == 12
    with pytest.raises(ValueError, match=r"built with the encoder 'colour' \(c0ffee"):
        update_index(folder, ColourEncoder("0ther"), tmp_path / "elsewhere")


def test_interrupted_updates_go_on(catalogue, folder):
    draw_catalogue(catalogue, 20)

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(folder, ColourEncoder(), batch_size=2, progress=stop)
    assert len(GarmentIndex.open(folder)) == 12
    encoder = ColourEncoder()
    assert update_index(folder, encoder).added == 8
    assert encoder.photos_seen == 4
    check(folder, catalogue, encoder)


def test_a_second_writer_is_refused(catalogue, folder):
    paint(catalogue / "new.png", "red")

    def second(done: int, total: int) -> None:
        with pytest.raises(BlockingIOError, match=f"by process {os.getpid()}"):
            remove_garments(folder, ["000.png"])
        with pytest.raises(BlockingIOError, match=f"by process {os.getpid()}"):
            merge_indexes([folder], folder, overwrite=True)

    assert update_index(folder, ColourEncoder(), progress=second).count == 13


def test_removed_garments_stay_out(catalogue, folder):
    assert remove_garments(folder, ["003.png", "005.png"]) == 10
    assert len(opened(folder)) == 10
    report = update_index(folder, ColourEncoder())
    assert (report.count, report.left_out) == (10, 2) and "--restore" in report.summary()
    paint(catalogue / "005.png", "red")
    assert update_index(folder, ColourEncoder()).count == 11, "it is another photo now"
    assert update_index(folder, ColourEncoder(), restore=True).count == 12
    check(folder, catalogue, ColourEncoder())
    with pytest.raises(KeyError, match="absent"):
        remove_garments(folder, ["absent"])
    with pytest.raises(ValueError, match="All garments"):
        remove_garments(folder, [g.id for g in GarmentIndex.open(folder).garments])


def test_removed_garments_stay_out_though_they_can_not_be_seen(catalogue, tmp_path, monkeypatch):
    (catalogue / "dresses").mkdir(exist_ok=True)
    paint(catalogue / "dresses" / "red.png", "red")
    paint(catalogue / "blue.png", "blue")
    folder = tmp_path / "index"
    count = build_index(catalogue, folder, ColourEncoder()).count
    remove_garments(folder, ["dresses/red.png", "blue.png"])
    scandir, stat = os.scandir, compare_module._state

    def refuse(path):
        if Path(path).name == "dresses":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        patch.setattr(compare_module, "_state", lambda *a: None if a[1] == "blue.png" else stat(*a))
        assert update_index(folder, ColourEncoder()).left_out == 2
    report = update_index(folder, ColourEncoder())
    assert (report.count, report.left_out) == (count - 2, 2)


def test_an_update_adds_a_part(catalogue, folder):
    """What is there is left as it is, and rows keep their numbers."""
    before = {p.name: (p.stat().st_ino, p.read_bytes()) for p in folder.iterdir()}
    del before["manifest.json"], before["build.lock"]
    for number in range(3):
        paint(catalogue / f"x{number}.png", (number, 9, 99))
        paint(catalogue / f"{number:03}.png", (number, 99, 9))
        update_index(folder, ColourEncoder())
    remove_garments(folder, ["011.png"])
    for name, content in before.items():
        assert ((folder / name).stat().st_ino, (folder / name).read_bytes()) == content
    index = opened(folder)
    assert [len(part.embeddings) for part in index.parts] == [12, 2, 2, 2]
    assert index.rows.tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17]
    assert index.garment(7).id == index.garments[4].id == "007.png"
    assert index.categories() == [] and index.category_counts == {"": 14}
    for row in (0, 11, 18, -1):
        with pytest.raises(IndexError, match=f"no row {row}: .* has 14 garments"):
            index.garment(row)


def test_many_updates_leave_few_parts(catalogue, folder, monkeypatch):
    """The small ones are joined; those of which most is removed are written anew."""
    monkeypatch.setattr(update_module, "MOST_PARTS", 4)
    for number in range(20):
        paint(catalogue / f"x{number:02}.png", (number, 9, 99))
        update_index(folder, ColourEncoder())
        index = opened(folder)
        assert len(index.parts) <= 4
    check(folder, catalogue, ColourEncoder())
    assert [garment.file for garment in index.garments[12:]] == [f"x{n:02}.png" for n in range(20)]
    for path in sorted(catalogue.iterdir())[:18]:
        path.unlink()
    update_index(folder, ColourEncoder())
    index = check(folder, catalogue, ColourEncoder())
    assert sum(len(part.embeddings) for part in index.parts) == len(index)


def test_duplicates(tmp_path):
    root = draw_catalogue(tmp_path / "photos", 6)
    shutil.copy(root / "001.png", root / "010.png")
    Image.open(root / "001.png").resize((48, 64)).save(root / "011.jpg", quality=95)
    shutil.copy(root / "004.png", root / "012.png")
    build_index(root, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    groups = find_duplicates(index, 0.9999)
    names = [[index.garment(row).id for row in group] for group in groups]
    assert names == [["001.png", "010.png", "011.jpg"], ["004.png", "012.png"]]
    assert find_duplicates(index, 1.0) and find_duplicates(index, 0.2)
    with pytest.raises(ValueError, match="threshold is 1.5"):
        find_duplicates(index, 1.5)


@pytest.mark.parametrize("shards", [1, 3, 5])
def test_shards_merge_to_the_whole(catalogue, tmp_path, shards):
    """Whatever their order, to the same rows as of one build; the shards stay usable."""
    (catalogue / "garments.csv").write_text("file,id,price\n002.png,two,3\n011.png,last,4\n")
    (catalogue / "bad.png").write_bytes(b"x")
    build_index(catalogue, tmp_path / "whole", ColourEncoder())
    parts = [tmp_path / f"shard {number}" for number in range(1, shards + 1)]
    for number, part in enumerate(parts, start=1):
        build_index(catalogue, part, ColourEncoder(), shard=(number, shards))
    report = merge_indexes(parts[::-1], tmp_path / "merged")
    assert (report.count, report.repeated) == (12, 0)
    whole, merged = opened(tmp_path / "whole"), opened(tmp_path / "merged")
    assert list(whole.garments) == list(merged.garments)
    assert torch.equal(whole.embeddings, merged.embeddings)
    assert len(merged.parts) == shards
    assert [whole.thumbnail_file(r) for r in range(12)] == [
        merged.thumbnail_file(r) for r in range(12)
    ]
    assert merged.manifest["rejects"] == whole.manifest["rejects"]
    assert "shard" not in merged.manifest
    for part in parts:
        opened(part)
    with pytest.raises(FileExistsError, match="finished index"):
        merge_indexes(parts, tmp_path / "merged")
    (catalogue / "bad.png").unlink()
    assert update_index(tmp_path / "merged", ColourEncoder()).added == 0
    check(tmp_path / "merged", catalogue, ColourEncoder())


def test_merges_that_are_refused(catalogue, tmp_path):
    parts = [tmp_path / name for name in "abcd"]
    build_index(catalogue, parts[0], ColourEncoder(), shard=(1, 2))
    build_index(catalogue, parts[1], ColourEncoder("0ther"), shard=(2, 2))
    build_index(catalogue, parts[2], ColourEncoder())
    build_index(draw_catalogue(tmp_path / "others"), parts[3], ColourEncoder())
    for sources, message in [
        ([parts[0]], "Shard 2/2 is missing.*--shard 2/2"),
        (parts[:2], r"the encoder of the former is 'colour' \(c0ffee\).*0ther"),
        ([parts[0], parts[2]], "not shards of one build"),
        (parts[2:], "the catalogue of the former is 'photos'.*'others'"),
        ([], "name at least one"),
    ]:
        with pytest.raises(ValueError, match=message):
            merge_indexes(sources, tmp_path / "merged")
    (file,) = parts[2].glob("thumbnails*")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{file.name} is not what"):
        merge_indexes([parts[2]], tmp_path / "merged")
    with pytest.raises(FileNotFoundError, match="no index"):
        merge_indexes([tmp_path], tmp_path / "merged")
    with pytest.raises(ValueError, match="5/4 is none"):
        build_index(catalogue, tmp_path / "x", ColourEncoder(), shard=(5, 4))
    with pytest.raises(ValueError, match="shard 1/40 .* has no garment: it has 12"):
        build_index(catalogue, tmp_path / "x", ColourEncoder(), shard=(1, 40))


def test_garments_that_several_parts_have(catalogue, tmp_path):
    build_index(catalogue, tmp_path / "former", ColourEncoder())
    draw_catalogue(catalogue, 15)
    build_index(catalogue, tmp_path / "latter", ColourEncoder())
    report = merge_indexes([tmp_path / "former", tmp_path / "latter"], tmp_path / "merged")
    assert (report.count, report.repeated) == (15, 12) and "12 were in several" in report.summary()
    check(tmp_path / "merged", catalogue, ColourEncoder())


def test_two_read_while_one_writes(catalogue, folder):
    """Each reader finds one whole state of the index, whenever it opens it."""
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            index = GarmentIndex.open(folder)
            files = [garment.file for garment in index.garments]
            photos = [Image.open(io.BytesIO(index.thumbnail_file(r))) for r in index.rows]
            assert len(files) == len(photos) == len(index.embeddings)
            query = index.embeddings[-1:].float()
            found = nearest(index, query, len(index))[1][0].tolist()
            assert sorted(found) == index.rows.tolist()
            seen.append(len(index))
            index.close()

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(10):
                paint(catalogue / f"x{number}.png", (number, 9, 99))
                update_index(folder, ColourEncoder())
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(set(seen)) > 2 and set(seen) <= set(range(12, 23))


@pytest.mark.parametrize("processes", [0, 2])
def test_photos_are_read_in_order(catalogue, processes):
    """On threads and in processes alike; what can't be read is a reject in its place."""
    files = sorted(path.name for path in catalogue.iterdir())
    (catalogue / "005.png").write_bytes(b"x")
    with PhotoReader(catalogue, pil_to_tensor, processes) as reader:
        found = list(reader.read(files, 3))
    assert [item.file for item in found] == files
    assert found[5].reason == "is not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF picture."
    for item in found[:5] + found[6:]:
        expected = read_photo(catalogue, item.file, pil_to_tensor)
        assert torch.equal(item.picture, expected.picture) and item.picture.shape == (3, 32, 24)
        assert (item.content, item.thumbnail) == (expected.content, expected.thumbnail)


def test_an_encoder_that_prepares(catalogue, tmp_path):
    class Prepared(ColourEncoder):
        def prepare(self, photo):
            return torch.from_numpy(np.asarray(photo).copy())

        def encode_prepared(self, pixels):
            return self.encode_images([Image.fromarray(p.numpy()) for p in pixels])

    build_index(catalogue, tmp_path / "index", Prepared(), batch_size=5)
    check(tmp_path / "index", catalogue, ColourEncoder())


operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["paint", "delete", "take out"]), st.integers(0, 7)),
        st.tuples(st.just("rename"), st.integers(0, 7), st.integers(0, 7)),
        st.tuples(st.just("describe"), st.integers(0, 7), st.integers(0, 3)),
        st.tuples(st.just("update"), st.sampled_from(["", "restore"])),
    ),
    min_size=1,
    max_size=14,
)


@given(operations)
@settings(
    max_examples=int(os.environ.get("FASHION_RAG_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_history_against_a_model(tmp_path_factory, steps):
    """A model: a dict of files. After each update, contents, ids, filters and search agree."""
    base = tmp_path_factory.mktemp("history")
    catalogue, folder, encoder = base / "photos", base / "index", ColourEncoder()
    catalogue.mkdir()
    paint(catalogue / "always.png", "white")
    build_index(catalogue, folder, encoder)
    colours = {"always.png": "white"}  # what the catalogue holds
    prices: dict[str, str] = {}
    indexed = dict(colours)  # what the index holds
    ids = {"always.png": "always.png"}
    taken_out: set[object] = set()  # by colour, which is the content
    stamp = 0
    for step in [*steps, ("update", "")]:
        name = f"{step[1]}.png"
        match step:
            case ("paint", _):
                stamp += 1
                colours[name] = (stamp * 7 % 256, stamp * 31 % 256, stamp * 77 % 256)
                paint(catalogue / name, colours[name])
                os.utime(catalogue / name, ns=(stamp, stamp))
            case ("delete", _) if name in colours:
                del colours[name]
                (catalogue / name).unlink()
            case ("rename", _, other) if name in colours and f"{other}.png" not in colours:
                colours[f"{other}.png"] = colours.pop(name)
                (catalogue / name).rename(catalogue / f"{other}.png")
            case ("describe", _, price):
                prices[name] = str(price)
            case ("take out", _) if name in indexed:
                remove_garments(folder, [ids[name]])
                taken_out.add(indexed.pop(name))
                del ids[name]
            case ("update", how):
                lines = [{"file": f, "price": p} for f, p in prices.items() if f in colours]
                (catalogue / "garments.jsonl").write_text("\n".join(map(json.dumps, lines)))
                update_index(folder, encoder, restore=bool(how))
                former_file = {
                    colour: file for file, colour in indexed.items() if file not in colours
                }
                former, before = dict(indexed), dict(ids)
                taken_out = set() if how else taken_out & set(colours.values())
                indexed = {f: c for f, c in colours.items() if c not in taken_out}
                index = opened(folder)
                ids = {g.file: g.id for g in index.garments}
                assert set(ids) == set(indexed)
                for file, colour in indexed.items():
                    if file in before and former[file] == colour:
                        assert ids[file] == before[file]
                    elif file not in before and colour in former_file:
                        assert ids[file] == before[former_file[colour]]
                files = [g.file for g in index.garments]
                photos = [Image.new("RGB", (24, 32), indexed[file]) for file in files]
                exact = encoder.encode_images(photos).half()
                assert torch.equal(index.embeddings, exact)
                cheap = [n for n, f in enumerate(files) if int(prices.get(f) or 9) < 2]
                rows = index.rows_where(parse_filter("price < 2")) if lines else index.rows[:0]
                assert rows.tolist() == index.rows[cheap].tolist()
                query = encoder.encode_texts(["green"])
                scores = exact.double() @ query[0].double()
                for some, those in ((cheap, rows), (range(len(files)), None)):
                    found = nearest(index, query, 2, those)[1][0].tolist()
                    best = sorted(some, key=lambda n: (-float(scores[n].float()), n))[:2]
                    assert found[: len(best)] == index.rows[best].tolist()
    shutil.rmtree(base)


def test_most_garments_are_described_anew(catalogue, folder, monkeypatch):
    """Their records alone are written; vectors, thumbnails and rows stay."""
    before = GarmentIndex.open(folder).manifest["parts"][0]
    lines = [f"{number:03}.png,{number}" for number in range(11)]
    (catalogue / "garments.csv").write_text("\n".join(["file,price", *lines]))
    (catalogue / "011.png").unlink()
    encoder = ColourEncoder()
    report = update_index(folder, encoder)
    assert (report.described, report.removed, encoder.photos_seen) == (11, 1, 0)
    index = check(folder, catalogue, encoder)
    (part,) = index.manifest["parts"]
    assert {name for name in before if part[name] != before[name]} == {"records"}
    assert index.rows_where(parse_filter("price >= 9")).tolist() == [9, 10]
    monkeypatch.setattr(update_module, "MOST_PARTS", 0)
    lines[3:] = [f"{line}0" for line in lines[3:]]
    (catalogue / "garments.csv").write_text("\n".join(["file,price", *lines]))
    assert update_index(folder, ColourEncoder()).described == 8
    index = check(folder, catalogue, ColourEncoder())
    assert index.rows_where(parse_filter("price >= 9")).tolist() == list(range(3, 11))
