import pickle

import numpy as np
import pytest
from PIL import Image

from sslbench.data import augment
from sslbench.data.rng import sample_rng
from sslbench.data.views import (
    CountMaskConfig,
    MaskConfig,
    MultiCrop,
    MultiCropConfig,
    PlainCrop,
    PlainCropConfig,
    TokenizerCrop,
    TokenizerCropConfig,
)
from sslbench.errors import UserError

SMALL = MultiCropConfig(global_size=32, local_size=16, local_crops=3)
MASK = MaskConfig(ratios=((0.4, 0.0),))


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)


def test_multi_crop_shapes_and_layout(image):
    sample = MultiCrop(SMALL, 8, MASK)(image, sample_rng(0, 0, 0), 0)
    assert sample.crops["global"].shape == (2, 3, 32, 32)
    assert sample.crops["local"].shape == (3, 3, 16, 16)
    assert sample.masks["global"].shape == (2, 4, 4) and sample.masks["global"].dtype == bool
    assert all(c.dtype == np.uint8 and c.flags.c_contiguous for c in sample.crops.values())


def test_absent_parts_are_absent(image):
    config = MultiCropConfig(global_size=32, local_crops=0, global_crops=3)
    sample = MultiCrop(config, 8)(image, sample_rng(0, 0, 0), 0)
    assert set(sample.crops) == {"global"} and not sample.masks
    assert sample.crops["global"].shape[0] == 3


@pytest.mark.parametrize(
    "view",
    [
        MultiCrop(SMALL, 8, MASK),
        TokenizerCrop(TokenizerCropConfig(size=32, token_size=16), 8, CountMaskConfig()),
        PlainCrop(PlainCropConfig(size=32)),
    ],
)
def test_views_are_pure_and_picklable(image, view):
    first = view(image, sample_rng(1, 2, 3), 2)
    again = pickle.loads(pickle.dumps(view))(image, sample_rng(1, 2, 3), 2)
    other = view(image, sample_rng(1, 2, 4), 2)
    for name, crop in first.crops.items():
        assert np.array_equal(crop, again.crops[name])
        assert not np.array_equal(crop, other.crops[name])
    for name, mask in first.masks.items():
        assert np.array_equal(mask, again.masks[name])


def test_masks_do_not_change_the_crops(image):
    plain = MultiCrop(SMALL, 8)(image, sample_rng(0, 0, 7), 0)
    masked = MultiCrop(SMALL, 8, MASK)(image, sample_rng(0, 0, 7), 0)
    for name in ("global", "local"):
        assert np.array_equal(plain.crops[name], masked.crops[name])
    assert masked.masks["global"].any() and not plain.masks


def count(monkeypatch, name, calls):
    real = getattr(augment, name)

    def counted(*arguments):
        calls.append(arguments[0].size[0])
        return real(*arguments)

    monkeypatch.setattr(augment, name, counted)


def test_blur_and_solarize_follow_the_kind_of_view(image, monkeypatch):
    blurred, solarized, grey = [], [], []
    count(monkeypatch, "blur", blurred)
    count(monkeypatch, "solarize", solarized)
    count(monkeypatch, "grayscale", grey)
    view, n = MultiCrop(SMALL, 8), 300
    for index in range(n):
        view(image, sample_rng(0, 0, index), 0)
    assert blurred.count(32) / n == pytest.approx(1.1, abs=0.06)  # always, and one in ten
    assert blurred.count(16) / n == pytest.approx(1.5, abs=0.15)
    assert solarized.count(32) / n == pytest.approx(0.2, abs=0.08)
    assert solarized.count(16) == 0
    assert len(grey) / n == pytest.approx(1.0, abs=0.15)  # five views by .2


def test_beit_resamples_both_crops_from_the_jittered_flipped_source(image):
    c = TokenizerCropConfig(size=32, token_size=32)
    sample = TokenizerCrop(c, 8, CountMaskConfig())(image, sample_rng(0, 0, 5), 0)
    rng = sample_rng(0, 0, 5)
    source = augment.ColourJitter(0.4, 0.4, 0.4, 0.0)(image, rng)
    source = augment.flip(source, 0.5, rng)
    top, left, h, w = augment.random_box(source, (0.08, 1.0), rng)
    source = source.crop((left, top, left + w, top + h))
    expected = {
        "image": source.resize((32, 32), Image.Resampling.BICUBIC),
        "tokenizer": source.resize((32, 32), Image.Resampling.LANCZOS),
    }
    for name, crop in expected.items():
        assert np.array_equal(sample.crops[name][0], np.asarray(crop).transpose(2, 0, 1))
    assert sample.masks["image"].shape == (1, 4, 4)


def test_plain_crop_of_everything_is_the_resized_image():
    square = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    view = PlainCrop(PlainCropConfig(size=4, scale=(1.0, 1.0), flip=0.0))
    crops = [view(square, sample_rng(0, 0, i), 0).crops["image"][0] for i in range(10)]
    assert any(np.array_equal(c, np.asarray(square).transpose(2, 0, 1)) for c in crops)


def test_sizes_off_the_patch_grid_are_refused():
    with pytest.raises(UserError, match=r"local crop of 15 pixels .* patch size 8: .* 16\."):
        MultiCrop(MultiCropConfig(global_size=32, local_size=15), 8)
    with pytest.raises(UserError, match="crop of 30 pixels"):
        TokenizerCrop(TokenizerCropConfig(size=30), 8)
