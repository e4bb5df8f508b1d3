"""The contact sheet: every tile is there, nothing runs over, any caption is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.pictures import contact_sheet as sheet
from fashion_rag.pictures import fonts
from fashion_rag.pictures.contact_sheet import contact_sheet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

COLOURS = ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff", "#00ffff", "#800000"]


def tiles(count: int, size: tuple[int, int] = (60, 80), caption: str = "0.312\na coat"):
    return [(Image.new("RGB", size, COLOURS[number]), caption) for number in range(count)]


def boxes(picture: Image.Image, count: int) -> list[tuple[int, int, int, int]]:
    """Where each tile's colour lies: left, top, right, bottom."""
    pixels = np.asarray(picture)
    found = []
    for colour in COLOURS[:count]:
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        rows, columns = np.nonzero((pixels == rgb).all(axis=2))
        found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return found


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (6, 6), (7, 4)])
def test_tiles_stand_in_order_and_keep_their_shape(count, columns):
    found = boxes(contact_sheet(tiles(count)), count)
    assert all(
        (right - left, bottom - top) == (sheet.PHOTO_WIDTH, sheet.PHOTO_HEIGHT)
        for left, top, right, bottom in found
    )
    assert found == sorted(found, key=lambda box: (box[1], box[0]))
    assert len({top for _, top, _, _ in found}) == -(-count // columns)


def test_wide_photos_are_not_stretched():
    ((left, top, right, bottom),) = boxes(contact_sheet(tiles(1, size=(800, 100))), 1)
    assert (right - left, bottom - top) == (240, 30)


def test_columns():
    found = boxes(contact_sheet(tiles(4), columns=2), 4)
    assert len({left for left, *_ in found}) == 2
    assert contact_sheet(tiles(2), columns=9).size == contact_sheet(tiles(2)).size


def test_caption_and_title_are_drawn():
    bare = contact_sheet(tiles(1, caption=""))
    plain = contact_sheet(tiles(1))
    titled = contact_sheet(tiles(1), title="a coat")
    assert bare.height < plain.height < titled.height
    assert np.asarray(titled)[: sheet.MARGIN + sheet.TITLE_SIZE].min() < 80


def test_long_captions_are_cut_to_their_card():
    picture = contact_sheet(tiles(2, caption="0.3\n" + "word " * 80 + "x" * 300), title="t" * 900)
    pixels = np.asarray(picture)
    (_, _, right, _), (left, _, _, _) = boxes(picture, 2)
    gap = pixels[:, right + sheet.PADDING : left - sheet.PADDING]
    assert gap[sheet.MARGIN + sheet.TITLE_SIZE + 8 :].min() > 200  # no ink between the cards
    assert pixels[:, -sheet.MARGIN // 2 :].min() > 200


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_caption(caption):
    contact_sheet(tiles(1, caption=caption), title=caption)


def test_names_of_no_utf8():
    contact_sheet(tiles(1, caption="caf\udce9.jpg"))


def _pixels(caption: str) -> np.ndarray:
    return np.asarray(contact_sheet(tiles(1, caption=caption), title=caption))


@pytest.mark.parametrize(("one", "other"), [("红色短袖", "蓝色长裤"), ("синяя", "юбкаж")])
def test_captions_of_other_scripts_are_told_apart(one, other):
    assert _pixels(one).shape != _pixels(other).shape or (_pixels(one) != _pixels(other)).any()


def test_letters_of_no_font_stand_as_code_points(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "font_folders", lambda: [])
    for cached in (fonts._font_files, fonts._system_font):
        cached.cache_clear()
    monkeypatch.setattr(fonts, "_told", set())
    try:
        assert fonts.printable("a 红 \N{VARIATION SELECTOR-16}b") == "a [7EA2] b"
        assert fonts.printable("红") == "[7EA2]"
        assert caplog.text.count("U+7EA2") == 1
        assert (_pixels("红色") != _pixels("蓝色")).any()
    finally:
        for cached in (fonts._font_files, fonts._system_font):
            cached.cache_clear()


def test_fonts_that_are_none_are_passed_over(monkeypatch, tmp_path):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    (tmp_path / "b.ttc").write_bytes(b"ttcf" + bytes(30))
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    for cached in (fonts._font_files, fonts._system_font):
        cached.cache_clear()
    try:
        assert fonts._system_font("红") is None
    finally:
        for cached in (fonts._font_files, fonts._system_font):
            cached.cache_clear()


def test_chinese_breaks_between_letters():
    narrow, wide = _pixels("红色短袖"), contact_sheet(tiles(1, caption="红" * 30))
    assert wide.height > contact_sheet(tiles(1, caption="红")).height
    assert narrow.shape[1] == wide.width


def test_no_tiles():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
