"""Reading ahead: in order, within its number of pixels, and ended when nobody asks any more."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.photos import reader as reading
from fashion_rag.retriever.photos.reader import PhotoReader
from PIL import Image

from . import peak

SIDES = [40, 10, 100, 10, 10, 60, 10, 10, 200, 10, 50, 50, 50, 10]


@pytest.fixture
def catalogue(tmp_path):
    for number, side in enumerate(SIDES):
        Image.new("RGB", (side, side), "red").save(tmp_path / f"{number:02}.png")
    (tmp_path / "03.png").write_bytes(b"x")
    return tmp_path


def files_of(catalogue: Path) -> list[str]:
    return sorted(path.name for path in catalogue.iterdir())


@pytest.fixture
def held(monkeypatch):
    """The largest number of pixels that photos held together, by opening and by being taken."""
    lock, now, most = threading.Lock(), [0], [0]
    opened = reading.open_photo

    def open_photo(path):
        photo = opened(path)
        with lock:
            now[0] += photo.width * photo.height
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        return photo

    def take(photo):
        with lock:
            now[0] -= photo.pixels

    monkeypatch.setattr(reading, "open_photo", open_photo)
    monkeypatch.setattr(reading.os, "cpu_count", lambda: 8)
    return most, take


@pytest.mark.parametrize("ahead", [0, 3, 32])
def test_the_pixels_read_ahead_are_limited(catalogue, monkeypatch, held, ahead):
    most, take = held
    monkeypatch.setattr(reading, "AHEAD_PIXELS", 10_000)
    found = []
    with PhotoReader(catalogue, None) as reader:
        for item in reader.read(files_of(catalogue), ahead):
            found.append(item.file)
            if isinstance(item, reading.Photo):
                take(item)
    assert found == files_of(catalogue)
    # The photo of 200x200 alone; one more may be opened between being taken and being counted.
    assert most[0] <= 40_000 + 10_000


def test_prepared_photos_hold_no_pixels(catalogue, monkeypatch):
    monkeypatch.setattr(reading, "PREPARED_PIXELS", 10_000)
    with PhotoReader(catalogue, lambda photo: torch.zeros(3, 1, 1)) as reader:
        found = [item.file for item in reader.read(files_of(catalogue), 32)]
        assert reader._budget._state[0] == 0
    assert found == files_of(catalogue)


def test_leaving_early_does_not_wait_for_what_was_begun(catalogue, monkeypatch):
    monkeypatch.setattr(reading, "AHEAD_PIXELS", 1)
    others = threading.active_count()
    with PhotoReader(catalogue, None) as reader:
        next(reader.read(files_of(catalogue), 32))
    assert threading.active_count() <= others


CAMERA_PHOTOS = """
import sys
from pathlib import Path
from fashion_rag.retriever.photos import reader as reading

reading.os.cpu_count = lambda: 16
root = Path(sys.argv[1])
before = peak()
with reading.PhotoReader(root, None) as reader:
    count = sum(1 for photo in reader.read(sorted(p.name for p in root.iterdir()), 32))
print(count, peak() - before)
"""


@pytest.mark.skipif(not peak.AVAILABLE, reason="the peak is read from Linux' /proc")
def test_the_memory_of_camera_photos(tmp_path, record_figure):
    """20 photos of 24 megapixels (96 MB each), with as many threads as would begin all of them."""
    Image.new("RGB", (4000, 6000), "red").save(tmp_path / "00.jpg")
    for number in range(1, 20):
        os.link(tmp_path / "00.jpg", tmp_path / f"{number:02}.jpg")
    count, megabytes = peak.run(CAMERA_PHOTOS, tmp_path)
    assert count == 20
    record_figure("memory of photos read ahead, MB", megabytes, 1500)
