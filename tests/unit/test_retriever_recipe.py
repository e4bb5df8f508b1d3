"""Views and a prompt: the published sums, and an index that keeps its recipe."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.commands import main as cli
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.recipe import (
    PLAIN,
    VIEWS,
    ViewsEncoder,
    as_built,
    views_of,
    with_recipe,
)
from fashion_rag.retriever.query import Query, query_vectors, retrieve
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.merge import merge_indexes
from fashion_rag.retriever.upkeep.refresh import refresh_index
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from .encoder_folders import noise_photos
from .retriever_fakes import ColourEncoder, draw_catalogue, write_tiny_encoder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="module")
def plain(folder):
    return load_encoder(folder)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return noise_photos((90, 60), (33, 47), (32, 32), (20, 200))


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_the_published_sums(plain, photos):
    """Once more in numpy, from views that are cut out of arrays."""
    encoder = with_recipe(plain, VIEWS)
    for photo, found in zip(photos, encoder.encode_images(photos), strict=True):
        pixels = np.asarray(photo)
        height, width = pixels.shape[:2]
        long, short = max(height, width), min(height, width)
        padded = np.full((long, long, 3), 128, np.uint8)
        top, left = (long - height) // 2, (long - width) // 2
        padded[top : top + height, left : left + width] = pixels
        top, left = (height - short) // 2, (width - short) // 2
        cropped = pixels[top : top + short, left : left + short]
        views = [Image.fromarray(array) for array in (pixels, padded, cropped)]
        whole, square, middle = plain.encode_images(views).double().numpy()
        expected = unit(whole + 0.25 * square + 0.25 * middle)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    texts = ["a red coat", "white {shirt}"]
    for text, found in zip(texts, encoder.encode_texts(texts), strict=True):
        said = plain.encode_texts([text, f"a fashion product photo of {text}"]).double().numpy()
        np.testing.assert_allclose(found.numpy(), unit(said[0] + 0.25 * said[1]), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90))
def test_the_views(width, height):
    photo = Image.new("RGB", (width, height), "red")
    whole, padded, cropped = views_of(photo)
    assert whole is photo
    assert padded.size == (max(width, height),) * 2
    assert cropped.size == (min(width, height),) * 2
    colours = dict((colour, count) for count, colour in padded.getcolors())
    assert colours[(255, 0, 0)] == width * height
    assert set(cropped.getcolors()) == {(cropped.width**2, (255, 0, 0))}


def test_what_it_says_of_itself(plain, photos):
    encoder = with_recipe(plain, VIEWS)
    assert (encoder.name, encoder.dim) == (plain.name, plain.dim)
    assert encoder.fingerprint != plain.fingerprint
    assert encoder.fingerprint == ViewsEncoder(plain).fingerprint
    assert encoder.context_length == plain.context_length
    assert encoder.preprocessing == {**plain.preprocessing, "recipe": VIEWS}
    prepare = pickle.loads(pickle.dumps(encoder.prepare))  # as processes get it
    prepared = torch.stack([prepare(photo) for photo in photos])
    found = encoder.encode_prepared(prepared)
    torch.testing.assert_close(found, encoder.encode_images(photos))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match="text is empty"):
        encoder.encode_texts([" "])


def test_an_encoder_without_prepare(photos):
    encoder = with_recipe(ColourEncoder(), VIEWS)
    assert not hasattr(encoder, "prepare")
    assert encoder.encode_images(photos).shape == (4, 8)


def test_choosing(plain):
    views = with_recipe(plain, VIEWS)
    assert with_recipe(plain, PLAIN) is plain and with_recipe(views, VIEWS) is views
    assert as_built(plain, {"name": "x"}) is plain
    assert as_built(views, {"name": "x"}) is views
    with pytest.raises(ValueError, match="'better' is none of plain, views"):
        as_built(plain, {"name": "x", "recipe": "better"})
    with pytest.raises(ValueError, match=r"\['views'\] is none of"):
        as_built(plain, {"name": "x", "recipe": ["views"]})
    with pytest.raises(ValueError, match="can't be used by the recipe 'plain'"):
        with_recipe(views, PLAIN)


@pytest.fixture
def indexes(plain, tmp_path) -> dict[str, Path]:
    """Indexes of one catalogue by both recipes."""
    catalogue = draw_catalogue(tmp_path / "photos", 8)
    folders = {recipe: tmp_path / recipe for recipe in (PLAIN, VIEWS)}
    for recipe, folder in folders.items():
        build_index(catalogue, folder, with_recipe(plain, recipe), batch_size=3)
    return folders


def vectors(folder: Path) -> np.ndarray:
    index = GarmentIndex.open(folder)
    return index.vectors.at(index.rows).float().numpy()


def test_the_manifest(indexes, plain):
    entry = GarmentIndex.open(indexes[PLAIN]).manifest["encoder"]
    assert "recipe" not in entry and entry["fingerprint"] == plain.fingerprint
    entry = GarmentIndex.open(indexes[VIEWS]).manifest["encoder"]
    assert entry["recipe"] == VIEWS and entry["fingerprint"] != plain.fingerprint
    assert np.abs(vectors(indexes[PLAIN]) - vectors(indexes[VIEWS])).max() > 1e-3


def test_queries_take_the_recipe_of_the_index(indexes, plain, photos):
    """The plain encoder is given, as every caller has it; a reference photo has the same views."""
    views = with_recipe(plain, VIEWS)
    queries = [Query("a red coat", k=3), Query(images=(photos[0],), k=3)]
    for recipe, encoder in ((PLAIN, plain), (VIEWS, views)):
        backend = LocalBackend(GarmentIndex.open(indexes[recipe]))
        found = retrieve(backend, plain, queries)
        expected = query_vectors(encoder, queries)
        for result, vector in zip(found, expected, strict=True):
            np.testing.assert_array_equal(result.vector, vector)
    backend = LocalBackend(GarmentIndex.open(indexes[VIEWS]))
    photo = backend.photo(backend.garments_at(np.array([5]))[0])
    (own,) = retrieve(backend, plain, [Query(images=(photo,), k=1)])
    assert own.hits[0].garment.file == "005.png" and own.hits[0].score > 0.999


def test_another_recipe_is_refused_as_another_encoder(indexes, plain, tmp_path):
    views = with_recipe(plain, VIEWS)
    backend = LocalBackend(GarmentIndex.open(indexes[PLAIN]))
    with pytest.raises(ValueError, match=r"'tiny' \(.*comes from 'tiny' with the recipe 'views'"):
        retrieve(backend, views, [Query("a")])
    for folder, encoder, message in (
        (indexes[PLAIN], views, "not with 'tiny' with the recipe 'views'"),
        (indexes[VIEWS], plain, "choose 'tiny' with the recipe 'views' to bring it up to date"),
    ):
        with pytest.raises(ValueError, match=message):
            refresh_index(tmp_path / "photos", folder, encoder)
    refresh_index(tmp_path / "photos", indexes[VIEWS], views)
    with pytest.raises(ValueError, match="former is 'tiny' .* latter 'tiny' with the recipe"):
        merge_indexes(list(indexes.values()), tmp_path / "merged")


def test_a_draft_of_another_recipe_is_not_taken_up(plain, tmp_path):
    catalogue = draw_catalogue(tmp_path / "photos", 6)

    def cancel(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(catalogue, tmp_path / "index", plain, batch_size=3, progress=cancel)
    report = build_index(catalogue, tmp_path / "index", with_recipe(plain, VIEWS), batch_size=3)
    assert report.resumed == 0


def test_an_update_and_a_merge_keep_it(indexes, plain, tmp_path):
    folder = indexes[VIEWS]
    before = vectors(folder)
    shutil.copy(tmp_path / "photos" / "003.png", tmp_path / "photos" / "new.png")
    Image.new("RGB", (24, 32), "purple").save(tmp_path / "photos" / "other.png")
    assert update_index(folder, plain).added == 2
    after = vectors(folder)
    np.testing.assert_array_equal(after[:8], before)
    np.testing.assert_allclose(after[8], before[3], atol=1e-3)
    remove_garments(folder, ["other.png"])
    merge_indexes([folder], tmp_path / "merged")
    for one in (folder, tmp_path / "merged"):
        assert GarmentIndex.open(one).manifest["encoder"]["recipe"] == VIEWS


def test_the_commands(folder, tmp_path, capsys):
    draw_catalogue(tmp_path / "photos", 5)

    def run(*words) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    encoder = ("--encoder", folder, "--device", "cpu")
    build = ("index", "build", tmp_path / "photos", tmp_path / "index", "--unchecked", *encoder)
    assert run(*build, "--recipe", "views")[0] == 0
    code, out, _ = run("index", "info", tmp_path / "index")
    assert code == 0 and "recipe views" in out
    assert run("index", "search", tmp_path / "index", "a red coat", *encoder)[0] == 0
    assert run("index", "update", tmp_path / "index", *encoder)[0] == 0
    code, _, error = run(*build)
    assert code == 1 and "with the recipe 'views'" in error and "--overwrite" in error
    assert run(*build, "--overwrite")[0] == 0
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text("utf-8"))
    assert "recipe" not in manifest["encoder"]
