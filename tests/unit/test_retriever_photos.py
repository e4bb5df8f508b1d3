"""Photos of every kind become upright RGB on white; bad ones are refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.pictures.colours import srgb_profile
from fashion_rag.pictures.photos import (
    MAX_PIXELS,
    SUFFIXES,
    open_photo,
    photo_size,
    to_rgb_on_white,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

RED = np.array([255, 0, 0])


def saved(image: Image.Image, path: Path, **options) -> Image.Image:
    image.save(path, **options)
    return open_photo(path)


def test_transparency_is_white(tmp_path):
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    for name in ("a.png", "a.webp"):
        pixels = np.asarray(saved(image, tmp_path / name, lossless=True))
        assert pixels.shape == (2, 4, 3)
        np.testing.assert_array_equal(pixels[0, 0], 255)
        np.testing.assert_array_equal(pixels[0, 1], 127)
        np.testing.assert_array_equal(pixels[1, 1], RED)


def test_transparency_of_palette_grey_and_colour_key(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    pixels = np.asarray(saved(palette, tmp_path / "p.png", transparency=0))
    np.testing.assert_array_equal(pixels, [[[255] * 3, RED]])
    grey = Image.new("LA", (1, 1), (0, 0))
    np.testing.assert_array_equal(np.asarray(saved(grey, tmp_path / "la.png")), 255)
    keyed = Image.new("RGB", (2, 1), (1, 2, 3))
    keyed.putpixel((1, 0), (255, 0, 0))
    pixels = np.asarray(saved(keyed, tmp_path / "k.png", transparency=(1, 2, 3)))
    np.testing.assert_array_equal(pixels, [[[255] * 3, RED]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """A photo stored in any of the eight ways is upright: red above, blue below, green left."""
    upright = np.zeros((48, 32, 3), dtype=np.uint8)
    upright[:24, :, 0], upright[24:, :, 2], upright[:, :16, 1] = 255, 255, 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    photo = saved(image, tmp_path / "o.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(photo), upright)
    np.testing.assert_array_equal(np.asarray(to_rgb_on_white(photo)), upright)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768, 65278, 65535]], dtype=np.uint16)
    pixels = np.asarray(saved(Image.fromarray(values), tmp_path / "16.png"))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 1, 128, 254, 255])
    np.testing.assert_array_equal(
        np.asarray(to_rgb_on_white(Image.fromarray(values.astype(np.int32)))), pixels
    )


def profile_of(**primaries: tuple[float, float, float]) -> bytes:
    """The sRGB profile with other primaries (XYZ at D50)."""
    data = bytearray(srgb_profile())
    for place in range(132, 132 + 12 * struct.unpack(">I", data[128:132])[0], 12):
        name, start, _ = struct.unpack(">4sII", data[place : place + 12])
        if name.decode() in primaries:
            values = [round(value * 65536) for value in primaries[name.decode()]]
            data[start + 8 : start + 20] = struct.pack(">iii", *values)
    return bytes(data)


P3 = profile_of(
    rXYZ=(0.51512, 0.2412, -0.00105),
    gXYZ=(0.29198, 0.69225, 0.04189),
    bXYZ=(0.1571, 0.06657, 0.78407),
)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_a_colour_profile_is_applied(tmp_path, suffix):
    looks = Image.new("RGB", (16, 16), (192, 16, 32))
    stored = ImageCms.profileToProfile(
        looks, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(P3))
    )
    assert abs(stored.getpixel((0, 0))[0] - 192) > 8
    options = {"icc_profile": P3, "quality": 100}
    stored.save(tmp_path / f"a{suffix}", **options)
    photo = open_photo(tmp_path / f"a{suffix}")
    assert np.abs(np.asarray(photo).astype(int) - (192, 16, 32)).max() <= 4
    assert "icc_profile" not in photo.info  # its numbers are sRGB's now


def test_a_profile_and_transparency(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 255, 0, 255))
    image.save(tmp_path / "a.png", icc_profile=P3)
    pixels = np.asarray(open_photo(tmp_path / "a.png"))
    np.testing.assert_array_equal(pixels[0, 1], 255)
    assert pixels[0, 0, 1] == 255 and pixels[0, 0].max() == 255


@pytest.mark.parametrize("profile", [srgb_profile(), b"no profile", srgb_profile()[:200]])
def test_srgb_and_damaged_profiles_change_nothing(tmp_path, profile):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_photo(tmp_path / "a.png")), pixels)


def test_a_profile_of_another_colour_space_is_left_out(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=P3)
    assert np.abs(np.asarray(open_photo(tmp_path / "a.tif")).astype(int) - RED).max() < 12


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_ending_is_read(tmp_path, suffix):
    path = tmp_path / f"photo{suffix.upper()}"
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF"}
    Image.new("RGB", (16, 16), "red").save(path, kinds.get(suffix, None) or _format(suffix))
    assert np.abs(np.asarray(open_photo(path)).astype(int) - RED).max() < 12
    assert photo_size(path) == (16, 16)


def _format(suffix: str) -> str:
    return Image.registered_extensions()[suffix]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG or a web page"),
        (b"", "empty"),
    ],
)
def test_what_an_unknown_file_is(tmp_path, content, told):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"photo.jpg.*{told}"):
        open_photo(path)


def test_cmyk_jpeg(tmp_path):
    pixels = np.asarray(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / "c.jpg"))
    assert np.abs(pixels.astype(int) - RED).max() < 12


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I"]),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_picture_becomes_rgb_of_its_size(mode, width, height, data):
    image = Image.new(mode, (width, height))
    size = len(image.tobytes())
    image.frombytes(data.draw(st.binary(min_size=size, max_size=size)))
    before = image.copy()
    result = to_rgb_on_white(image)
    assert (result.mode, result.size) == ("RGB", (width, height))
    assert image == before and result is not image
    assert to_rgb_on_white(result) == result


def _encoded(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 4), dtype=np.uint8)
    image = Image.fromarray(pixels[..., :3] if format == "JPEG" else pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    image.save(data, format, exif=exif)
    return data.getvalue()


PHOTOS = {name: _encoded(name) for name in ("JPEG", "PNG", "WEBP")}


@given(st.sampled_from(sorted(PHOTOS)), st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_a_value_error_or_a_picture(tmp_path_factory, format, data):
    """Whatever bytes are changed or missing, a photo is read or refused by its name."""
    content = bytearray(PHOTOS[format])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{format}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        photo = open_photo(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert photo.mode == "RGB"


@pytest.mark.parametrize("format", sorted(PHOTOS))
def test_truncated(tmp_path, format):
    path = tmp_path / f"half.{format}"
    path.write_bytes(PHOTOS[format][: len(PHOTOS[format]) // 2])
    with pytest.raises(ValueError, match="half.*damaged"):
        open_photo(path)


def test_broken_chunk(tmp_path):
    """Pillow reports a chunk of a wrong length as a SyntaxError."""
    path = tmp_path / "chunk.png"
    content = bytearray(PHOTOS["PNG"])
    place = content.index(b"IDAT")
    content[place - 4 : place] = (100).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="chunk.png is damaged.*broken PNG"):
        open_photo(path)


def test_damaged_exif_does_not_cost_the_photo(tmp_path):
    path = tmp_path / "exif.webp"
    content = PHOTOS["WEBP"]
    place = content.index(b"EXIF") + 8
    path.write_bytes(content[:place] + b"XX" + content[place + 2 :])
    assert open_photo(path).size == (30, 40)


def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(path, "ICO")
    with pytest.raises(ValueError, match="picture.png is not a JPEG, PNG, WebP, AVIF"):
        open_photo(path)


def header_only_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 60_000], ids=["over our limit", "over Pillow's"])
def test_decompression_bomb(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(header_only_png(side, side))
    with pytest.raises(ValueError, match=f"bomb.png.*{side * side}.*limit") as error:
        open_photo(path)
    assert side > 9_000 or str(MAX_PIXELS) in str(error.value)


def test_absent(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        open_photo(tmp_path / "absent.jpg")


def test_what_a_decoder_raises_on_a_damaged_file_names_it(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Failed to decode image: Not implemented")  # libavif's

    Image.new("RGB", (9, 9)).save(tmp_path / "a.avif")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ValueError, match="a.avif is damaged .Failed to decode image"):
        open_photo(tmp_path / "a.avif")


def test_a_half_avif_is_not_taken_for_heic(tmp_path):
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B")
    with pytest.raises(ValueError, match="it is AVIF, not whole or for Pillow 11.3"):
        open_photo(tmp_path / "a.avif")
