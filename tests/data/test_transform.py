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
