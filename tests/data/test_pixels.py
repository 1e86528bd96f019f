"""Every mode and depth is scaled right or refused by name (fault P15)."""

import re

import numpy as np
import pytest
from PIL import Image

from sslbench.data.reading import BrokenImage, decode
from tests.data.files import RAMP, STORED, pgm, png, tiff

RGB, ALPHA = RAMP[..., None].repeat(3, -1), np.full((64, 64, 1), 65535, np.uint16)
TWELVE = np.stack([RAMP.ravel()[0::2] >> 4, RAMP.ravel()[1::2] >> 4], -1).astype(int)
PACKED = np.stack(
    [TWELVE[:, 0] >> 4, (TWELVE[:, 0] & 15) << 4 | TWELVE[:, 1] >> 8, TWELVE[:, 1] & 255], -1
)
RAMPS = {
    "P5 65535.pgm": pgm(65535),
    **{f"{kind} {top}.ppm": pgm(top, kind) for kind in ("P2", "P3") for top in (200, 1023, 65535)},
    **{
        f"{kind} {top}.pgm": pgm(top, kind) for kind in ("P5", "P6") for top in (1, 100, 1023, 4095)
    },
    "grey.png": png(RAMP, 0),
    "rgb.png": png(RGB, 2),
    "grey and alpha.png": png(np.concatenate([RAMP[..., None], ALPHA], -1), 4),
    "rgb and alpha.png": png(np.concatenate([RGB, ALPHA], -1), 6),
    "little.tif": tiff(RAMP.astype("<u2")),
    "big.tif": tiff(RAMP.astype(">u2")),
    "rgb.tif": tiff(RGB.astype("<u2"), photometric=2),
    "rgb big.tif": tiff(RGB.astype(">u2"), photometric=2),
    "white is zero.tif": tiff(65535 - RAMP.astype("<u2"), photometric=0),
    "white is zero, 8 bits.tif": tiff((255 - (RAMP >> 8)).astype("u1"), photometric=0),
    "12 bits.tif": tiff(PACKED.astype("u1").reshape(64, 96), bits=12),
}


@pytest.mark.parametrize("name", RAMPS)
def test_every_unsigned_depth_is_scaled(tmp_path, name):
    (tmp_path / name).write_bytes(RAMPS[name])
    found = np.asarray(decode(tmp_path / name)).astype(int)
    expected = RAMP[..., None].repeat(3, -1) // 256
    assert abs(found.mean() - 127.5) < 1
    top = re.search(r"P\d (\d+)", name)
    step = 255 / min(int(top[1]), 255) if top else 1
    assert np.abs(found - expected).max() <= (1 if step == 1 else step / 2 + 1.5)


def test_deflated_and_lzw_tiff_pages_are_scaled_too(tmp_path):
    for name in ("tiff_lzw", "tiff_adobe_deflate"):
        Image.fromarray(RAMP).save(tmp_path / "a.tif", compression=name)
        assert np.array_equal(np.asarray(decode(tmp_path / "a.tif"))[..., 0], RAMP >> 8)


FRACTION = np.linspace(0, 1, 64 * 64).reshape(64, 64)
UNDEFINED = {
    "signed 8.tif": tiff((RAMP >> 8).astype("i1"), 2),
    "signed 16.tif": tiff(RAMP.astype("<i2"), 2),
    "signed 16 big.tif": tiff(RAMP.astype(">i2"), 2),
    "unsigned 32.tif": tiff(RAMP.astype("<u4")),
    "unsigned 32 big.tif": tiff(RAMP.astype(">u4")),
    "signed 32.tif": tiff(RAMP.astype("<i4"), 2),
    "signed 32 big.tif": tiff(RAMP.astype(">i4"), 2),
    "float 16.tif": tiff(FRACTION.astype("<f2"), 3),
    "float 32.tif": tiff(FRACTION.astype("<f4"), 3),
    "float 32 to 255.tif": tiff((255 * FRACTION).astype(">f4"), 3),
    "float 64.tif": tiff(FRACTION.astype("<f8"), 3),
    "rgb float.tif": tiff(FRACTION[..., None].repeat(3, -1).astype("<f4"), 3, 2),
    "float.pgm": b"Pf 64 64\n-1.0\n" + FRACTION.astype("<f4").tobytes(),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_numbers_without_black_and_white_are_named_not_guessed(tmp_path, name):
    (tmp_path / name).write_bytes(UNDEFINED[name])
    with pytest.raises(BrokenImage, match=name) as caught:
        decode(tmp_path / name)
    assert re.search(
        r"neither black nor white is defined; save it|TIFF or WEBP image that can be read",
        caught.value.reason,
    )


def test_deep_planes_are_named_as_pillow_mixes_their_bytes_up(tmp_path):
    """Pillow gives channels of mean 127.5 the means 93, 161 and 127."""
    (tmp_path / "planes.tif").write_bytes(
        tiff(RGB.astype("<u2"), photometric=2, more=[(284, 3, 1, 2)])
    )
    with pytest.raises(BrokenImage, match=r"planes\.tif") as caught:
        decode(tmp_path / "planes.tif")
    assert "one after another" in caught.value.reason
    together = tiff(RGB.astype("<u2"), photometric=2, more=[(284, 3, 1, 1)])
    (tmp_path / "together.tif").write_bytes(together)
    assert abs(np.asarray(decode(tmp_path / "together.tif")).mean() - 127.5) < 1


def test_eight_bit_modes_are_as_pillow_converts_them(tmp_path):
    scene = Image.fromarray(STORED)
    half = Image.fromarray((RAMP[:, :48] >> 8).astype("u1"))
    palette = scene.quantize(4)
    see_through = Image.merge("LA", [half, half.transpose(Image.Transpose.ROTATE_180)])
    for name, image, options in [
        ("1.png", half.convert("1"), {}),
        ("la.png", see_through, {}),
        ("la.tif", see_through, {}),
        ("p.png", palette, {}),
        ("trns.png", palette, {"transparency": bytes([0, 128, 255, 7])}),
        ("index.gif", palette, {"transparency": 0}),
        ("rgba.png", Image.merge("RGBA", [half, half, half, see_through.getchannel("A")]), {}),
        ("cmyk.tif", scene.convert("CMYK"), {}),
        ("ycc.tif", scene.convert("YCbCr"), {}),
    ]:
        image.save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as plain:
            expected = np.asarray(plain.convert("RGB"))
        assert np.array_equal(np.asarray(decode(tmp_path / name)), expected), name


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_without_a_warning(tmp_path):
    image = Image.fromarray(STORED).quantize(4)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 7]))
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(image.convert("RGB")))


def test_premultiplied_grey_is_read(tmp_path):
    pixels = np.full((4, 4, 2), [64, 128], np.uint8)  # half of 128, half transparent
    content = tiff(pixels, more=[(338, 3, 1, 1)])
    (tmp_path / "a.tif").write_bytes(content)
    assert np.abs(np.asarray(decode(tmp_path / "a.tif")).astype(int) - 128).max() <= 1


def test_adobes_inverted_cmyk_is_turned_back(tmp_path):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    cyan.save(tmp_path / "a.jpg", quality=100)
    content = (tmp_path / "a.jpg").read_bytes()
    assert b"Adobe" in content
    assert np.abs(np.asarray(decode(tmp_path / "a.jpg"))[0, 0] - [0.0, 255, 255]).max() <= 3


def test_ycck_is_read(tmp_path):
    """Adobe's mark with transform 2: the inks of cyan as luma and chroma of their complement."""
    stored = np.array([76, 85, 255, 255], np.uint8)
    Image.new("CMYK", (16, 16), tuple((255 - stored).tolist())).save(
        tmp_path / "a.jpg", quality=100
    )
    content = (tmp_path / "a.jpg").read_bytes()
    transform = content.index(b"Adobe") + 11
    (tmp_path / "a.jpg").write_bytes(content[:transform] + b"\2" + content[transform + 1 :])
    assert np.abs(np.asarray(decode(tmp_path / "a.jpg"))[0, 0] - [0.0, 255, 255]).max() <= 4


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_frame_or_page_counts(tmp_path, name):
    red, blue = (Image.new("RGB", (24, 16), colour) for colour in ("red", "blue"))
    red.save(tmp_path / name, save_all=True, append_images=[blue], lossless=True)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    assert np.array_equal(np.asarray(decode(tmp_path / name)), np.asarray(red))
