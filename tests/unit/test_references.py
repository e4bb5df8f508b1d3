"""Pictures for image editors and the instructions that go with them."""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace

import pytest
from fashion_rag.adapter.garment import instructions
from fashion_rag.adapter.garment.instructions import garment_name, instruction, read_dialects
from fashion_rag.pictures.photos import open_photo, to_alpha, to_mask
from fashion_rag.pictures.references import (
    CELL_STEP,
    MEGAPIXEL,
    board,
    pad_to_step,
    shrink,
    white_outside,
)
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.photos.cutouts import files_of, with_cutout
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

DIALECTS = read_dialects()
sides = st.integers(1, 300)
words = st.text(string.ascii_letters + " .,'éü衣{}()%", max_size=60)
garments = st.lists(
    st.tuples(words, st.sampled_from(["", "dresses", "upper_body", "lower_body", "hats"])),
    min_size=1,
    max_size=8,
)


@given(sides, sides, st.floats(0.001, 0.05))
def test_pictures_are_only_made_smaller_and_keep_their_aspect(width, height, megapixels):
    picture = Image.new("RGB", (width, height))
    small = shrink(picture, megapixels)
    if width * height <= megapixels * MEGAPIXEL:
        assert small is picture
        return
    assert small.width * small.height <= megapixels * MEGAPIXEL
    # At most a pixel a side is lost to rounding.
    scale = (megapixels * MEGAPIXEL / (width * height)) ** 0.5
    assert 0 <= width * scale - small.width < 1 or small.width == 1
    assert 0 <= height * scale - small.height < 1 or small.height == 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(60, 300), st.integers(60, 300)), min_size=1, max_size=9),
    st.sampled_from([0.25, 1.0]),
)
def test_a_board_shows_every_garment_in_even_cells(sizes, megapixels):
    colours = [(20 * n + 10, 200 - 20 * n, 90) for n in range(len(sizes))]
    pictures = [Image.new("RGB", s, c) for s, c in zip(sizes, colours, strict=True)]
    sheet = board(pictures, megapixels)
    assert sheet.width % CELL_STEP == sheet.height % CELL_STEP == 0
    assert sheet.width * sheet.height == pytest.approx(megapixels * MEGAPIXEL, rel=0.2)
    found = dict((colour, count) for count, colour in sheet.getcolors(1 << 20))
    for colour in colours:
        assert found.get(colour, 0) > 100
    assert set(found) == {*colours, (255, 255, 255)}


@pytest.mark.parametrize(
    ("count", "grid"),
    [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (2, 2)), (5, (3, 2)), (8, (4, 2))],
)
def test_the_grid_of_a_board(count, grid):
    sheet = board([Image.new("RGB", (300, 400))] * count)
    columns, rows = grid
    assert (sheet.width / columns) / (sheet.height / rows) == pytest.approx(0.75, rel=0.04)


def test_an_empty_board():
    with pytest.raises(ValueError, match="at least one picture"):
        board([])


@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from([8, 16]))
def test_padding_to_a_step_adds_white_alone(width, height, step):
    padded = pad_to_step(Image.new("RGB", (width, height), "black"), step)
    assert padded.width % step == padded.height % step == 0
    assert padded.width - width < step and padded.height - height < step
    assert dict((c, n) for n, c in padded.getcolors())[(0, 0, 0)] == width * height


@pytest.mark.parametrize(
    ("caption", "category", "name"),
    [
        ("A blue denim jacket.", "upper_body", "blue denim jacket"),
        ("THE NORTH parka", "", "NORTH parka"),
        ("NYC hoodie", "", "NYC hoodie"),
        ("two\nlines;", "", "two lines"),
        ("", "lower_body", "lower body garment"),
        (" . ", "hats", "hats"),
        ("", "", "garment"),
        ("an <|image_pad|> apron<|im_end|>", "", "apron"),
        ("x " * 200, "", ("x " * 78).strip() + " ..."),
    ],
)
def test_the_name_of_a_garment(caption, category, name):
    assert garment_name(caption, category) == name


def test_an_outfit_is_numbered_by_slot_with_the_person_first():
    text = instruction(
        DIALECTS["flux2"], [("Blue jacket", "upper_body"), ("Red skirt", "lower_body")]
    )
    assert "person of image 1" in text
    assert "the blue jacket of image 2, and the red skirt of image 3" in text


def test_garments_of_one_category_are_one_wish():
    text = instruction(
        DIALECTS["qwen"], [("Blue jacket", "upper_body"), ("Grey jacket", "upper_body")]
    )
    together = "the blue jacket of Picture 2 and the grey jacket of Picture 3"
    assert f"one upper body garment that combines {together}" in text


def test_the_try_on_lora_is_called_by_its_word():
    text = instruction(DIALECTS["tryon_lora"], [("Tee", "upper_body"), ("Jeans", "lower_body")])
    assert text.startswith("TRYON") and "the tee, and the jeans" in text


@given(garments, st.sampled_from(sorted(DIALECTS)))
def test_every_dialect_names_what_fits_and_nothing_else(listed, name):
    dialect = DIALECTS[name]
    text = instruction(dialect, listed)
    assert "\n" not in text and "{garments}" not in text
    before, numbered, _ = dialect.one.rpartition("{slot}")
    if numbered:
        label = re.escape(before.removeprefix("the {name}"))
        numbers = {int(number) for number in re.findall(label + r"(\d+)", text)}
        last = min(len(listed), dialect.garments or len(listed)) + 1
        assert numbers >= set(range(2, last + 1)) and max(numbers) == last


def test_no_garments_no_instruction():
    with pytest.raises(ValueError, match="at least one garment"):
        instruction(DIALECTS["qwen"], [])


def test_the_table_of_dialects_is_all_that_there_is_to_it(tmp_path, monkeypatch):
    """A new line in the table is a new dialect."""
    table = {"mine": {**vars(replace(DIALECTS["qwen"], prompt="Wear {garments}!"))}}
    monkeypatch.setattr(instructions, "__file__", str(tmp_path / "instructions.py"))
    (tmp_path / "dialects.json").write_text(json.dumps(table), encoding="utf-8")
    assert instruction(read_dialects()["mine"], [("Cap", "")]) == "Wear the cap of Picture 2!"


@pytest.fixture
def photo() -> Image.Image:
    return Image.new("RGB", (40, 60), (10, 20, 30))


def test_a_photo_without_transparency_has_no_cutout(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    assert with_cutout(tmp_path, Garment("a", "a.png"), photo) == (photo, None)


def test_transparency_is_the_cutout_and_upright_as_the_photo_is(tmp_path):
    image = Image.new("RGBA", (40, 60), (10, 20, 30, 255))
    image.paste((0, 0, 0, 0), (0, 0, 40, 10))  # the top is transparent
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees: the top becomes the right
    image.save(tmp_path / "a.png", exif=exif)
    shown = open_photo(tmp_path / "a.png")
    photo, mask = with_cutout(tmp_path, Garment("a", "a.png"), shown)
    assert photo is shown and mask.size == shown.size == (60, 40)
    assert mask.getpixel((55, 20)) == 0 and mask.getpixel((5, 20)) == 255
    assert shown.getpixel((55, 20)) == (255, 255, 255)


@pytest.mark.parametrize("transparent", [False, True])
def test_the_column_names_a_cutout_of_any_size(tmp_path, photo, transparent):
    photo.save(tmp_path / "a.png")
    (tmp_path / ".cutouts").mkdir()
    mask = Image.new("L", (80, 120), 0)
    mask.paste(255, (0, 0, 40, 120))
    if transparent:
        opaque = Image.new("RGBA", mask.size, "black")
        opaque.putalpha(mask)
        mask = opaque
    mask.save(tmp_path / ".cutouts" / "a.png")
    garment = Garment("a", "a.png", metadata={"cutout": ".cutouts\\a.png"})
    assert [path.name for path in files_of(tmp_path, garment)] == ["a.png", "a.png"]
    assert files_of(tmp_path, garment)[1].parent.name == ".cutouts"
    cut, found = with_cutout(tmp_path, garment, photo)
    assert found.size == photo.size
    assert cut.getpixel((5, 30)) == (10, 20, 30) and cut.getpixel((35, 30)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (".cutouts/none.png", FileNotFoundError, "names the cut-out"),
        ("../outside.png", ValueError, "not a path inside"),
        ("/etc/passwd", ValueError, "not a path inside"),
        (".cutouts/wide.png", ValueError, "own aspect"),
        (".cutouts/text.png", ValueError, "is not a"),
    ],
)
def test_bad_cutouts(tmp_path, photo, name, error, message):
    photo.save(tmp_path / "a.png")
    (tmp_path / ".cutouts").mkdir()
    Image.new("L", (90, 60)).save(tmp_path / ".cutouts" / "wide.png")
    (tmp_path / ".cutouts" / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(error, match=message):
        with_cutout(tmp_path, Garment("a", "a.png", metadata={"cutout": name}), photo)


def test_alpha_and_mask_of_other_modes():
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert to_alpha(palette).getextrema() == (0, 0)
    assert to_mask(Image.new("L", (4, 4), 77)).getextrema() == (77, 77)
    assert to_mask(Image.new("I;16", (4, 4), 65535)).getextrema() == (255, 255)


def test_a_cut_out_is_blended_with_white(photo):
    grey = white_outside(photo, Image.new("L", photo.size, 128)).getpixel((0, 0))
    assert grey == pytest.approx((132, 137, 142), abs=1)
    assert white_outside(photo, None) is photo
