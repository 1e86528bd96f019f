"""JPEG files become arrays without PIL, with PIL's pixels and words for what is broken."""

import numpy as np
import pytest
from PIL import Image

from sslbench.data.dataset import ArrayImages, FileImages
from sslbench.data.images import open_dataset
from sslbench.data.loader import ViewDataset
from sslbench.data.reading import BrokenImage, decode, decode_array

SMOOTH = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
PHOTO = Image.fromarray(SMOOTH).resize((133, 97), Image.Resampling.BICUBIC)
KINDS = {
    "plain": (PHOTO, {}),
    "full colour": (PHOTO, {"subsampling": 0, "quality": 95}),
    "4:2:2": (PHOTO, {"subsampling": 1, "quality": 50}),
    "4:2:0": (PHOTO, {"subsampling": 2, "quality": 10}),
    "progressive": (PHOTO, {"progressive": True, "optimize": True}),
    "restarts": (PHOTO, {"restart_marker_rows": 1}),
    "rgb": (PHOTO, {"keep_rgb": True}),
    "grey": (PHOTO.convert("L"), {}),
    "cmyk": (PHOTO.convert("CMYK"), {}),
    "narrow": (PHOTO.resize((1, 50)), {}),
    "frames": (PHOTO, {"format": "MPO", "save_all": True, "append_images": [PHOTO.rotate(9)]}),
}


def outcome(read, path):
    """The pixels, or what is wrong with the file."""
    try:
        return np.asarray(read(path))
    except BrokenImage as error:
        return str(error)


def assert_equal(path):
    ours, theirs = outcome(decode_array, path), outcome(decode, path)
    assert type(ours) is type(theirs) and np.array_equal(ours, theirs), ours
    return ours


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_equal_pillows_bit_for_bit(tmp_path, kind):
    image, options = KINDS[kind]
    image.save(tmp_path / "a.jpg", **options)
    pixels = assert_equal(tmp_path / "a.jpg")
    assert pixels.shape == (image.height, image.width, 3) and pixels.dtype == np.uint8
    assert FileImages.array(open_dataset(tmp_path), 0).shape == pixels.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(tmp_path, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    for name in ("a.jpg", "a.png"):
        PHOTO.save(tmp_path / name, exif=tags)
        assert_equal(tmp_path / name)


def test_a_file_cut_short_is_named_as_by_pillow(tmp_path):
    PHOTO.save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    for share in (0, 0.01, 0.1, 0.5, 0.9):
        (tmp_path / "a.jpg").write_bytes(content[: int(share * len(content))])
        assert "a.jpg: " in assert_equal(tmp_path / "a.jpg")


def test_what_pillow_makes_of_damaged_files_stays(tmp_path):
    """Without its end, followed by other bytes, and with wrong bytes within."""
    PHOTO.save(tmp_path / "a.jpg", quality=90)
    content = (tmp_path / "a.jpg").read_bytes()
    rng, seen = np.random.default_rng(1), set()
    for changed in (content[:-2], content + b"more", content + content):
        (tmp_path / "a.jpg").write_bytes(changed)
        assert_equal(tmp_path / "a.jpg")
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(2, len(content), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "a.jpg").write_bytes(damaged)
        seen.add(type(assert_equal(tmp_path / "a.jpg")))
    assert seen == {str, np.ndarray}


def test_views_are_given_arrays_only_if_they_take_them(tmp_path):
    PHOTO.save(tmp_path / "a.jpg")

    class Views:
        def __call__(self, image, rng, epoch):
            return type(image)

    class Takes(Views):
        takes_arrays = True

    data = open_dataset(tmp_path)
    numbers = ArrayImages(pixels=SMOOTH[None], name="n", split="train", names=["0"])
    assert ViewDataset(data, Views(), 0)[0, 0, 0].sample is Image.Image
    for each in (data, numbers):
        assert ViewDataset(each, Takes(), 0)[0, 0, 0].sample is np.ndarray
        assert np.array_equal(each.array(0), each.image(0))
