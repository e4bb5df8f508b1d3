"""Opening an index: anything missing, changed, swapped or hostile is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.build import build_index
from fashion_rag.retriever.index import GarmentIndex, read_manifest, sha256
from PIL import Image
from safetensors.torch import save_file

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)
KINDS = ("embeddings", "garments", "thumbnails", "faiss")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("built")
    build_index(draw_catalogue(base / "photos"), base / "index", ColourEncoder())
    return base


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "copy") / "index"


def path_of(folder: Path, kind: str) -> Path:
    return folder / read_manifest(folder)["files"][kind]["name"]


def edit(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def accept(folder: Path, kind: str) -> None:
    """Make the manifest agree with a file that was tampered with."""
    path = path_of(folder, kind)
    files = read_manifest(folder)["files"]
    files[kind] |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    edit(folder, files=files)


def test_no_index(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="no index in.*fashion-rag index build"):
            GarmentIndex.open(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "7", '{"schema": 1}', "\xff"])
def test_manifest_that_is_none(folder, content):
    (folder / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest\.json.*--overwrite"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("schema", [0, 2, 999, "1", None])
def test_another_schema(folder, schema):
    edit(folder, schema=schema)
    with pytest.raises(ValueError, match=f"manifest.json has schema {schema!r}.* reads schema 1"):
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
    with pytest.raises(ValueError, match=r"manifest.json says 11 garments.*12 records.*\(12, 8\)"):
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
    files = read_manifest(folder)["files"]
    files["thumbnails"]["name"] = name
    edit(folder, files=files)
    with pytest.raises(ValueError, match="lacks parts of a manifest"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"file": 7},
        {"id": None},
        {"metadata": []},
        {"metadata": {"price": 3}},
        {"thumbnail": [0, 10**9]},
        {"thumbnail": [-5, 10]},
        {"thumbnail": [10, -5]},
        {"thumbnail": "x"},
    ],
)
def test_hostile_records(folder, change):
    path = path_of(folder, "garments")
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]) + "\n")
    accept(folder, "garments")
    with pytest.raises(ValueError, match=r"garments-.*jsonl line 1 is not a garment record"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "..\\secret.png"])
def test_records_that_leave_the_catalogue(folder, file):
    Image.new("RGB", (2, 2)).save(folder.parent / "secret.png")
    path = path_of(folder, "garments")
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"file": file}), *rest]) + "\n")
    accept(folder, "garments")
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
    length = path.stat().st_size
    records = path_of(folder, "garments")
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    records.write_text("".join(json.dumps(r | {"thumbnail": [0, length]}) + "\n" for r in lines))
    for kind in ("garments", "thumbnails"):
        accept(folder, kind)
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


def test_faiss_of_another_index(folder, built, tmp_path):
    build_index(draw_catalogue(tmp_path / "few", 5), tmp_path / "few index", ColourEncoder())
    shutil.copy(path_of(tmp_path / "few index", "faiss"), path_of(folder, "faiss"))
    accept(folder, "faiss")
    with pytest.raises(ValueError, match=r"vectors-.*5 vectors.*\(12, 8\)"):
        _ = GarmentIndex.open(folder).faiss


def test_a_build_that_finishes_while_the_index_is_opened(folder, monkeypatch):
    """The reader has read the former manifest; its files are taken away; it reads the new one."""
    former = read_manifest(folder)
    build_index(folder.parent / "photos", folder, ColourEncoder("next"), overwrite=True)
    manifests = [former]

    def stale(path: Path) -> dict:
        return manifests.pop() if manifests else read_manifest(path)

    monkeypatch.setattr("fashion_rag.retriever.index.read_manifest", stale)
    assert GarmentIndex.open(folder).manifest["encoder"]["fingerprint"] == "next"


def test_categories(tmp_path):
    root = draw_catalogue(tmp_path / "photos", 3)
    (root / "garments.csv").write_text("file,category\n000.png,hats\n002.png,coats\n")
    build_index(root, tmp_path / "index", ColourEncoder())
    index = GarmentIndex.open(tmp_path / "index")
    assert index.categories() == ["coats", "hats"]
    assert index.rows_of("coats").tolist() == [2]
