"""Building: what is in the index, what was left out, interruption at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever.search import search
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.manifest import data_files
from fashion_rag.retriever.upkeep import build as build_module
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image
from safetensors.torch import load_file

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)


class CancelledError(Exception):
    """The user's cancel."""


def stop_after(count: int):
    def progress(done: int, total: int) -> None:
        if done >= count:
            raise CancelledError

    return progress


@pytest.fixture
def catalogue(tmp_path) -> Path:
    return draw_catalogue(tmp_path / "photos")


def contents(index: GarmentIndex) -> list[tuple]:
    """All that an index holds, row by row, to compare two of them."""
    rows = zip(index.garments, index.embeddings, strict=True)
    return [(g, e.numpy().tobytes(), index.thumbnail(g).tobytes()) for g, e in rows]


def test_an_index_holds_the_catalogue(catalogue, tmp_path):
    """Embeddings are the encoder's own in half precision; everything opens and is found."""
    (catalogue / "garments.jsonl").write_text(
        json.dumps({"file": "003.png", "id": "three", "category": "hats", "caption": "a hat"})
    )
    encoder = ColourEncoder()
    report = build_index(catalogue, tmp_path / "index", encoder, batch_size=5)
    index = GarmentIndex.open(tmp_path / "index")
    assert (report.count, report.resumed, report.rejects) == (12, 0, ())
    assert encoder.photos_seen == 12 + 8  # each photo once, and the colour cards
    assert [g.file for g in index.garments] == [f"{n:03}.png" for n in range(12)]
    assert (index.garments[3].id, index.garments[3].category) == ("three", "hats")
    photos = [Image.open(catalogue / g.file) for g in index.garments]
    assert torch.equal(index.embeddings, encoder.encode_images(photos).half())
    for garment, photo in zip(index.garments, photos, strict=True):
        assert index.photo(garment).tobytes() == photo.tobytes()
        thumbnail = np.asarray(index.thumbnail(garment), dtype=int)
        assert thumbnail.shape == (32, 24, 3) and np.abs(thumbnail - photo).max() < 8
    file = tmp_path / "index" / index.manifest["parts"][0]["embeddings"]["name"]
    assert torch.equal(load_file(file)["embeddings"], index.embeddings)
    manifest = index.manifest
    assert manifest["catalogue"] == {"name": "photos", "path": str(catalogue)}
    assert manifest["encoder"]["color_check"] == report.color_check
    assert manifest["encoder"]["preprocessing"] == {"size": 1}
    hits = search(index, index.embeddings.float(), 1)
    assert [hit.position for (hit,) in hits] == list(range(12))


def test_thumbnails_fit_256(tmp_path):
    Image.new("RGB", (600, 300), "red").save(tmp_path / "wide.png")
    build_index(tmp_path, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    assert index.thumbnail(index.garments[0]).size == (256, 128)
    assert index.photo(index.garments[0]).size == (600, 300)


def test_photos_that_cannot_be_read_are_listed(catalogue, tmp_path):
    (catalogue / "004.png").write_bytes(b"not a photo")
    (catalogue / "zz").mkdir()
    data = (catalogue / "001.png").read_bytes()
    (catalogue / "zz" / "half.png").write_bytes(data[: len(data) - 30])
    (catalogue / "garments.csv").write_text("file\ngone.png\n")
    seen = []
    report = build_index(
        catalogue,
        tmp_path / "index",
        ColourEncoder(),
        batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.count == 11
    reasons = {reject.file: reject.reason for reject in report.rejects}
    assert list(reasons) == ["gone.png", "004.png", "zz/half.png"]
    assert reasons["004.png"] == "is not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF picture."
    assert reasons["zz/half.png"].startswith("is damaged")
    assert seen[0] == (0, 13) and seen[-1] == (13, 13) and seen == sorted(seen)
    index = GarmentIndex.open(tmp_path / "index")
    assert len(index) == 11
    assert [r["file"] for r in index.manifest["rejects"]] == list(reasons)
    summary = report.summary()
    assert "11 garments" in summary and "3 refused" in summary and "zz/half.png: is da" in summary


def test_nothing_to_index(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"No photo of the catalogue(.|\n)*a\.jpg: is not a JPEG"):
        build_index(tmp_path, tmp_path / "index", ColourEncoder())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="empty holds no garment"):
        build_index(empty, tmp_path / "index", ColourEncoder())
    with pytest.raises(FileNotFoundError, match="no index"):
        GarmentIndex.open(tmp_path / "index")


def test_a_finished_index_is_kept(catalogue, tmp_path):
    build_index(catalogue, tmp_path / "index", ColourEncoder())
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    with pytest.raises(FileExistsError, match="finished index.*overwrite"):
        build_index(catalogue, tmp_path / "index", ColourEncoder())
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before


def test_only_the_files_of_one_generation_stay(catalogue, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "notes.txt").write_text("mine")
    for _ in range(3):
        build_index(catalogue, tmp_path / "index", ColourEncoder(), overwrite=True)
    index = GarmentIndex.open(tmp_path / "index")
    names = {entry["name"] for entry in data_files(index.manifest)}
    assert {path.name for path in (tmp_path / "index").iterdir()} == names | {
        "manifest.json",
        "build.lock",
        "notes.txt",
    }


def test_large_photos_make_smaller_batches(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "BATCH_PIXELS", 24 * 32 * 2 - 1)
    seen = []
    build_index(
        catalogue, tmp_path / "i", ColourEncoder(), progress=lambda done, _: seen.append(done)
    )
    assert seen == list(range(0, 13, 2))


def test_cancel_keeps_what_is_done(catalogue, tmp_path):
    encoder = ColourEncoder()
    for target in (3, 6, 9):
        with pytest.raises(CancelledError):
            build_index(
                catalogue, tmp_path / "index", encoder, batch_size=3, progress=stop_after(target)
            )
        with pytest.raises(FileNotFoundError, match="no index"):
            GarmentIndex.open(tmp_path / "index")
    report = build_index(catalogue, tmp_path / "index", encoder, batch_size=3)
    assert (report.count, report.resumed) == (12, 9)
    assert "9 of them were taken over" in report.summary()
    assert encoder.photos_seen == 12 + 4 * 8
    build_index(catalogue, tmp_path / "whole", encoder)
    assert contents(GarmentIndex.open(tmp_path / "index")) == contents(
        GarmentIndex.open(tmp_path / "whole")
    )


def interrupted(catalogue: Path, folder: Path, done: int, encoder=None) -> None:
    with pytest.raises(CancelledError):
        build_index(
            catalogue,
            folder,
            encoder or ColourEncoder(),
            overwrite=True,
            batch_size=1,
            progress=stop_after(done),
        )


def repaint(catalogue: Path) -> None:
    Image.new("RGB", (24, 32), "red").save(catalogue / "005.png")


def rename(catalogue: Path) -> None:
    (catalogue / "003.png").rename(catalogue / "999.png")


def shrink(catalogue: Path) -> None:
    for photo in sorted(catalogue.glob("*.png"))[2:]:
        photo.unlink()


def remove_first(catalogue: Path) -> None:
    (catalogue / "000.png").unlink()


def replace_first(catalogue: Path) -> None:
    Image.new("RGB", (24, 32), "blue").save(catalogue / "000.png")


def describe(catalogue: Path) -> None:
    (catalogue / "garments.csv").write_text("file,caption\n000.png,first\n")


@pytest.mark.parametrize(
    ("change", "resumed"),
    [(repaint, 7), (rename, 7), (shrink, 2), (describe, 8), (remove_first, 7), (replace_first, 7)],
)
def test_the_catalogue_changes_between_two_tries(catalogue, tmp_path, change, resumed):
    """Only what changed is encoded anew; the index is that of the catalogue as it is."""
    interrupted(catalogue, tmp_path / "index", 8)
    change(catalogue)
    report = build_index(catalogue, tmp_path / "index", ColourEncoder())
    build_index(catalogue, tmp_path / "whole", ColourEncoder())
    index, whole = GarmentIndex.open(tmp_path / "index"), GarmentIndex.open(tmp_path / "whole")
    assert report.resumed == resumed
    by_file = [sorted(contents(i), key=lambda row: row[0].file) for i in (index, whole)]
    assert by_file[0] == by_file[1]
    assert index.garments[0].caption == ("first" if change is describe else "")
    index.verify()


def test_a_draft_of_another_encoder_is_not_taken_up(catalogue, tmp_path):
    interrupted(catalogue, tmp_path / "index", 8)
    report = build_index(catalogue, tmp_path / "index", ColourEncoder("0ther"))
    assert report.resumed == 0
    assert GarmentIndex.open(tmp_path / "index").manifest["encoder"]["fingerprint"] == "0ther"


@pytest.mark.parametrize("damage", ["cut", "zeros"])
@pytest.mark.parametrize("kind", ["draft", "embeddings", "thumbnails"])
def test_a_damaged_draft(catalogue, tmp_path, kind, damage):
    """What a loss of power may leave: only whole rows are taken over."""
    interrupted(catalogue, tmp_path / "index", 8)
    (path,) = (tmp_path / "index").glob(f"{kind}*")
    content = bytearray(path.read_bytes())
    content[-20:] = b"" if damage == "cut" else bytes(20)
    path.write_bytes(content)
    report = build_index(catalogue, tmp_path / "index", ColourEncoder())
    build_index(catalogue, tmp_path / "whole", ColourEncoder())
    assert 6 <= report.resumed < 8 and report.count == 12
    assert contents(GarmentIndex.open(tmp_path / "index")) == contents(
        GarmentIndex.open(tmp_path / "whole")
    )


@pytest.mark.parametrize(("line", "resumed"), [(0, 0), (3, 2)])
@pytest.mark.parametrize("content", ["[]", "5", '"a"', "null", "{}", '{"thumbnail": [0, -1]}'])
def test_a_draft_of_other_lines(catalogue, tmp_path, line, resumed, content):
    """Only what stands before such a line is taken over."""
    folder = tmp_path / "index"
    interrupted(catalogue, folder, 8)
    lines = (folder / "draft.jsonl").read_text().splitlines()
    lines[line] = content
    (folder / "draft.jsonl").write_text("\n".join(lines) + "\n")
    assert build_index(catalogue, folder, ColourEncoder()).resumed == resumed
    GarmentIndex.open(folder).verify()


@pytest.mark.parametrize(
    "change",
    [
        {"file": 7},
        {"bytes": 1.5},
        {"mtime_ns": "0"},
        {"content": None},
        {"thumbnail": [0, 10**18]},
        {"thumbnail": 3},
        {"thumbnail": "moved"},
    ],
)
def test_a_draft_of_other_values(catalogue, tmp_path, change):
    folder = tmp_path / "index"
    interrupted(catalogue, folder, 8)
    lines = (folder / "draft.jsonl").read_text().splitlines()
    line = json.loads(lines[3])
    if change == {"thumbnail": "moved"}:
        change = {"thumbnail": [line["thumbnail"][0] + 1, line["thumbnail"][1]]}
    lines[3] = json.dumps(line | change)
    (folder / "draft.jsonl").write_text("\n".join(lines) + "\n")
    assert build_index(catalogue, folder, ColourEncoder()).resumed == 2
    GarmentIndex.open(folder).verify()


@pytest.mark.parametrize("word", ["/../../other", "0123456", "0123456g", 12345678, None, ["a"]])
def test_a_draft_that_names_other_files(catalogue, tmp_path, word):
    folder, other = tmp_path / "index", tmp_path / "other.safetensors"
    interrupted(catalogue, folder, 8)
    other.write_bytes(b"weights" * 1000)
    for kind in ("embeddings", "thumbnails"):
        (folder / f"{kind}-").mkdir()
    header, *lines = (folder / "draft.jsonl").read_text().splitlines()
    header = json.dumps(json.loads(header) | {"word": word})
    (folder / "draft.jsonl").write_text("\n".join([header, *lines]) + "\n")
    assert build_index(catalogue, folder, ColourEncoder()).resumed == 0
    assert other.read_bytes() == b"weights" * 1000
    GarmentIndex.open(folder).verify()


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize("kind", ["build.lock", "draft", "embeddings", "thumbnails"])
def test_links_are_not_written_through(catalogue, tmp_path, kind):
    folder, other = tmp_path / "index", tmp_path / "other"
    interrupted(catalogue, folder, 8)
    (path,) = folder.glob(f"{kind}*")
    content = path.read_bytes() + b"of somebody else"
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(ValueError, match=rf"{path.name} is a link.*remove it"):
        build_index(catalogue, folder, ColourEncoder())
    assert other.read_bytes() == content
    path.unlink()
    assert build_index(catalogue, folder, ColourEncoder()).count == 12


@pytest.mark.parametrize(
    ("moment", "resumed"),
    [
        ("journal.tensor_header", 15),
        ("journal.RecordWriter.create", 15),
        ("journal.file_entry", 15),
        ("commit.write_manifest", 15),
        ("manifest.write_bytes", 15),
        ("commit.remove_others", 0),
    ],
)
def test_a_stop_in_the_middle_of_the_commit(catalogue, tmp_path, monkeypatch, moment, resumed):
    """The former index or the new one opens, whole, and the next build has nothing to encode."""
    folder = tmp_path / "index"
    build_index(catalogue, folder, ColourEncoder("former"))
    former = contents(GarmentIndex.open(folder))
    draw_catalogue(catalogue, 15)

    def stop(*arguments):
        raise CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(f"fashion_rag.retriever.store.{moment}", stop)
        with pytest.raises(CancelledError):
            build_index(catalogue, folder, ColourEncoder("next"), overwrite=True)
    found = GarmentIndex.open(folder)
    committed = moment == "commit.remove_others"
    assert found.manifest["encoder"]["fingerprint"] == ("next" if committed else "former")
    assert committed or contents(found) == former
    report = build_index(catalogue, folder, ColourEncoder("next"), overwrite=True)
    assert (report.count, report.resumed) == (15, resumed)
    assert len(list(folder.iterdir())) == 5


def test_an_encoder_that_fails(catalogue, tmp_path):
    class Half(ColourEncoder):
        def encode_images(self, photos):
            embeddings = super().encode_images(photos)
            return embeddings if self.photos_seen < 14 else embeddings * torch.nan

    with pytest.raises(ValueError, match="'colour'.*finite.*003.png"):
        build_index(catalogue, tmp_path / "index", Half(), batch_size=3)
    assert build_index(catalogue, tmp_path / "index", ColourEncoder()).resumed == 3


def test_batches_that_do_not_fit_the_memory(catalogue, tmp_path):
    """They are halved until they do; one photo that doesn't is an error."""

    class Small(ColourEncoder):
        fits = 2

        def encode_images(self, photos):
            if self.fits < len(photos) < 8:  # the colour cards are eight
                raise torch.OutOfMemoryError
            return super().encode_images(photos)

    encoder = Small()
    build_index(catalogue, tmp_path / "index", encoder, batch_size=7)
    build_index(catalogue, tmp_path / "whole", ColourEncoder())
    assert contents(GarmentIndex.open(tmp_path / "index")) == contents(
        GarmentIndex.open(tmp_path / "whole")
    )
    encoder.fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        build_index(catalogue, tmp_path / "none", encoder, batch_size=7)


def test_a_second_build_is_refused(catalogue, tmp_path):
    def second(done: int, total: int) -> None:
        build_index(catalogue, tmp_path / "index", ColourEncoder())

    with pytest.raises(BlockingIOError, match=f"being built by process {os.getpid()}"):
        build_index(catalogue, tmp_path / "index", ColourEncoder(), progress=second)
    assert build_index(catalogue, tmp_path / "index", ColourEncoder()).count == 12


def test_without_faiss(catalogue, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    build_index(catalogue, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    (hits,) = search(index, index.embeddings[4:5].float(), 3)
    assert hits[0].position == 4 and len(hits) == 3


def test_the_catalogue_may_be_a_link_and_read_only(catalogue, tmp_path):
    top = tmp_path / "top"
    try:
        top.symlink_to(catalogue)
    except OSError:
        pytest.skip("links need a privilege here")
    catalogue.chmod(0o555)
    build_index(top, tmp_path / "index", ColourEncoder())
    catalogue.chmod(0o755)
    index = GarmentIndex.open(tmp_path / "index")
    assert index.manifest["catalogue"] == {"name": "top", "path": str(top)}
    assert index.photo(index.garments[0]).size == (24, 32)


def test_strange_names_survive(tmp_path):
    root = draw_catalogue(tmp_path / "photos", 1)
    names = ["new\nline.png", "quote'\".png", "ジーンズ.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        try:
            shutil.copy(root / "000.png", root / name)
        except OSError:
            pytest.skip("this file system refuses such names")
    interrupted(root, tmp_path / "index", 3)
    assert build_index(root, tmp_path / "index", ColourEncoder()).resumed == 3
    index = GarmentIndex.open(tmp_path / "index")
    assert {g.file for g in index.garments} == {"000.png", *names}
    assert all(index.photo(garment).size == (24, 32) for garment in index.garments)


# One interpreter that imports once and forks a process for every build that it is asked for.
BUILDER = """
import os, sys, time
sys.path.insert(0, sys.argv[3])
from retriever_fakes import ColourEncoder
from fashion_rag.retriever.upkeep.build import build_index

def progress(done, total):
    sys.stdout.write(f"{done}\\n")
    sys.stdout.flush()
    time.sleep(0.005)

for _ in sys.stdin:
    builder = os.fork()
    if not builder:
        build_index(sys.argv[1], sys.argv[2], ColourEncoder("next"), overwrite=True, batch_size=2,
                    progress=progress)
        os._exit(0)
    sys.stdout.write(f"process {builder}\\n")
    sys.stdout.flush()
    status = os.waitpid(builder, 0)[1]
    sys.stdout.write(f"ended {os.waitstatus_to_exitcode(status)}\\n")
    sys.stdout.flush()
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_kill_9(tmp_path):
    """Processes killed at several points: the former index opens each time, the build goes on."""
    catalogue, folder = draw_catalogue(tmp_path / "photos", 40), tmp_path / "index"
    build_index(catalogue, folder, ColourEncoder("former"))
    former = contents(GarmentIndex.open(folder))
    command = [sys.executable, "-c", BUILDER, catalogue, folder, Path(__file__).parent]
    reached = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forker:
        for target in (2, 6, 8, 17, 25, 33):
            forker.stdin.write("build\n")
            forker.stdin.flush()
            process, done = None, []
            # The two processes write to one pipe: their lines come in any order.
            while process is None or not done or done[-1] < target:
                words = forker.stdout.readline().split()
                if words[0] == "process":
                    process = int(words[1])
                else:
                    done.append(int(words[0]))
            os.kill(process, signal.SIGKILL)
            while (words := forker.stdout.readline().split())[0] != "ended":
                done.append(int(words[0]))
            assert words[1] == str(-signal.SIGKILL)
            assert reached <= done[0] < 40
            reached = done[-1]
            assert contents(GarmentIndex.open(folder)) == former
        forker.stdin.close()
    report = build_index(catalogue, folder, ColourEncoder("next"), overwrite=True)
    assert reached <= report.resumed <= 40
    index = GarmentIndex.open(folder)
    assert index.manifest["encoder"]["fingerprint"] == "next"
    assert contents(index) == former
