from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sslbench.data.transform import EvalTransform, ModelTransform

PLAIN = EvalTransform(28, 0.875, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_pillows_resize_and_the_centre(interpolation):
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = photo().resize((48, 32), method[interpolation])
    expected = np.asarray(resized.crop((10, 2, 38, 30)))
    transform = replace(PLAIN, interpolation=interpolation)
    assert np.array_equal(transform(photo()).permute(1, 2, 0), expected)
    assert (interpolation == "bicubic") == np.array_equal(PLAIN(photo()), transform(photo()))


def test_the_interpolation_reaches_a_models_own_transform():
    settings = (28, 0.875, PLAIN.mean, PLAIN.std, "bilinear")
    pixels = EvalTransform(*settings)(photo())
    assert ModelTransform(*settings)(photo()).equal(PLAIN.normalise(pixels[None])[0])


def test_cache_keys_and_records_of_bicubic_are_those_of_before():
    before = {"size": 28, "crop_ratio": 0.875, "mean": PLAIN.mean, "std": PLAIN.std}
    assert PLAIN.settings() == before
    other = replace(PLAIN, interpolation="bilinear")
    assert other.settings() == {**before, "interpolation": "bilinear"}


@pytest.mark.parametrize(
    ("size", "side", "later"),
    [(224, 256, {}), (64, 73, {}), (384, 438, {"side": 438}), (96, 109, {"side": 109})],
)
def test_the_side_before_the_crop_is_rounded_as_the_official_code_does(size, side, later):
    """deit/datasets.py: int(256 / 224 * size); a size that moved is named in keys and records."""
    transform = replace(PLAIN, size=size)
    assert transform.side == side == int(256 / 224 * size)
    before = {"size": size, "crop_ratio": 0.875, "mean": PLAIN.mean, "std": PLAIN.std}
    assert transform.settings() == {**before, **later}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 600, 3), np.uint8))
    resized = picture.resize((int(600 * side / 500), side), Image.Resampling.BICUBIC)
    left, top = round((resized.width - size) / 2), round((side - size) / 2)
    expected = np.asarray(resized.crop((left, top, left + size, top + size)))
    assert np.array_equal(transform(picture).permute(1, 2, 0), expected)
