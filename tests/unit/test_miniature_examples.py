"""Drawn garments and people as files of a user's own, and those that come with the pack."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("aggdraw")

from fashion_rag.adapter.person.pose import present, read_pose  # noqa: E402
from fashion_rag.comfyui_server.installations import PACK  # noqa: E402
from fashion_rag.miniature import examples  # noqa: E402
from fashion_rag.miniature.world import CATEGORIES, make_garment, split_of  # noqa: E402
from fashion_rag.retriever.photos.catalogue import read_catalogue  # noqa: E402
from PIL import Image  # noqa: E402

SHIPPED = PACK / "miniature" / "examples"


def test_a_catalogue_tells_what_it_holds(tmp_path):
    numbers = range(examples.FIRST_GARMENT, examples.FIRST_GARMENT + 3)
    done = []
    examples.write_catalogue(
        tmp_path, numbers, (48, 64), processes=1, progress=lambda *step: done.append(step)
    )
    garments = read_catalogue(tmp_path).garments
    assert [garment.category for garment in garments] == sorted(CATEGORIES)
    assert done == [(1, 3), (2, 3), (3, 3)]
    for garment in garments:
        truth = examples.garment_of(garment.file)
        assert truth.colour in garment.caption and split_of(truth.number) == "test"


@pytest.mark.parametrize("number", range(examples.FIRST_GARMENT, examples.FIRST_GARMENT + 6))
def test_a_person_for_a_garment(number):
    garment = make_garment(examples.SEED, number)
    worn = make_garment(examples.SEED, examples.person_for(garment))
    assert worn.category == garment.category
    assert worn.cut.endswith("skirt") == garment.cut.endswith("skirt")
    assert worn.colour != garment.colour and worn.pattern != garment.pattern
    assert worn.number >= examples.FIRST_PERSON


def test_what_is_shipped_is_what_the_command_draws(tmp_path):
    """One garment and one person anew: the pixels of the shipped files, but for JPEG's rounding."""
    catalogue = SHIPPED / "catalogues" / examples.CATALOGUE
    garments = read_catalogue(catalogue).garments
    assert len(garments) == examples.SHIPPED
    number = examples.garment_of(garments[0].file).number
    again = examples.write_catalogue(tmp_path / "c", [number], examples.SHIPPED_SIZE, 1)
    assert sorted(path.name for path in (SHIPPED / "people").iterdir()) == sorted(examples.PEOPLE)
    name, person = next(iter(examples.PEOPLE.items()))
    examples.write_person(tmp_path / "p", person)
    for ours, theirs in (
        (again / garments[0].file, catalogue / garments[0].file),
        (tmp_path / "p" / "photo.jpg", SHIPPED / "people" / name / "photo.jpg"),
        (tmp_path / "p" / "mask.png", SHIPPED / "people" / name / "mask.png"),
    ):
        pixels = [np.asarray(Image.open(path), dtype=float) for path in (ours, theirs)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 1, ours.name


@pytest.mark.parametrize("name", examples.PEOPLE)
def test_shipped_people_are_whole(name):
    folder = SHIPPED / "people" / name
    photo, mask = Image.open(folder / "photo.jpg"), np.asarray(Image.open(folder / "mask.png"))
    assert photo.size == mask.shape[::-1] and set(np.unique(mask)) == {0, 255}
    assert 0.05 < (mask > 0).mean() < 0.7
    keypoints, frame = read_pose(folder / "pose.json")
    assert frame == photo.size[::-1] and present(keypoints).sum() >= 9
    assert len(json.loads((folder / "pose.json").read_text())) == 1
