import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from sslbench.data import augment
from sslbench.data.colours import ColourJitter, Look
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
from tests.data import official, pil
from tests.data.pil import decibels, photo

TOKENS = TokenizerCropConfig(size=32, token_size=32)
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


def test_views_are_those_of_pil_for_the_same_draws():
    """Every operation in the official order, with the parameters that the generator gave."""
    source, ratios, shifts = photo(), [], []
    config = MultiCropConfig(local_crops=3)
    for index in range(12):
        rng, draws = sample_rng(0, 0, index), sample_rng(0, 0, index)
        crops = MultiCrop(config, 16)(source, rng, 0).crops
        ours = [*crops["global"], *crops["local"]]
        for crop, kind in zip(ours, (0, 1, 2, 2, 2), strict=True):
            expected = augment.to_array(pil.view(source, config, kind, draws))
            ratios.append(decibels(crop, expected))
            shifts.append((crop.astype(float) - expected).mean())
        assert rng.random() == draws.random()  # and nothing else was drawn
    assert np.median(ratios) >= 46 and min(ratios) > 30
    assert abs(np.mean(shifts)) < 0.2


def test_pixels_and_images_give_the_same_views(image):
    for view in (MultiCrop(SMALL, 8), TokenizerCrop(TOKENS, 8), PlainCrop(PlainCropConfig(size=8))):
        ours, theirs = (view(x, sample_rng(0, 0, 1), 0).crops for x in (np.asarray(image), image))
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_views_are_distributed_as_the_official_ones():
    """Means, contrasts, sharpness, colourfulness and symmetry of the crops of one picture."""
    source, count = photo(), 150
    torch.manual_seed(0)
    random.seed(0)
    theirs, ours = official.MultiCrop(locals_=2), MultiCrop(MultiCropConfig(local_crops=2), 16)
    mean, std = (np.array(x)[:, None, None] for x in (official.MEAN, official.STD))
    found = {"ours": [], "theirs": []}
    for index in range(count):
        crops = ours(source, sample_rng(3, 0, index), 0).crops
        found["ours"].append([traits(x / 255) for x in (*crops["global"], *crops["local"])])
        found["theirs"].append([traits(x.numpy() * std + mean) for x in theirs(source)])
    ours, theirs = np.array(found["ours"]), np.array(found["theirs"])  # (count, views, traits)
    for k, kind in enumerate((slice(0, 1), slice(1, 2), slice(2, 4))):
        for trait in range(ours.shape[2]):
            pair = ours[:, kind, trait].ravel(), theirs[:, kind, trait].ravel()
            assert stats.ks_2samp(*pair, method="asymp").pvalue > 1e-4, (k, trait)


def traits(x):
    """Of (3, H, W) in [0, 1]: brightness, contrast, sharpness, colourfulness, side of the light."""
    half = x.shape[2] // 2
    sharpness = np.abs(np.diff(x, axis=2)).mean()
    lean = x[:, :, :half].mean() - x[:, :, half:].mean()
    # to a thousandth, because floats of grey pixels are not quite grey
    return np.round([x.mean(), x.std(), sharpness, x.std(axis=0).mean(), lean], 3)


def test_blur_and_solarize_follow_the_kind_of_view(image, monkeypatch):
    seen = []
    monkeypatch.setattr(Look, "__call__", lambda self, crop: seen.append((len(crop), self)) or crop)
    view, n = MultiCrop(SMALL, 8), 300
    for index in range(n):
        view(image, sample_rng(0, 0, index), 0)
    blurred = [size for size, look in seen if look.radius]
    solarized = [size for size, look in seen if look.solarise]
    assert blurred.count(32) / n == pytest.approx(1.1, abs=0.06)  # always, and one in ten
    assert blurred.count(16) / n == pytest.approx(1.5, abs=0.15)
    assert solarized.count(32) / n == pytest.approx(0.2, abs=0.08)
    assert solarized.count(16) == 0
    assert sum(look.grey for _, look in seen) / n == pytest.approx(1.0, abs=0.15)  # 5 views by .2
    assert sum(bool(look.changes) for _, look in seen) / n == pytest.approx(4.0, abs=0.2)
    radii = [look.radius for _, look in seen if look.radius]
    assert min(radii) >= 0.1 and max(radii) <= 2 and np.mean(radii) == pytest.approx(1.05, abs=0.1)


def test_beit_resamples_both_crops_from_the_jittered_flipped_source(image):
    sample = TokenizerCrop(TOKENS, 8, CountMaskConfig())(image, sample_rng(0, 0, 5), 0)
    rng = sample_rng(0, 0, 5)
    changes = ColourJitter(0.4, 0.4, 0.4, 0.0).draw(rng)
    source = pil.look(image, Look(changes=changes, flip=rng.random() < 0.5))
    top, left, h, w = augment.random_box(source.size, (0.08, 1.0), rng)
    source = source.crop((left, top, left + w, top + h))
    expected = {
        "image": source.resize((32, 32), Image.Resampling.BICUBIC),
        "tokenizer": source.resize((32, 32), Image.Resampling.LANCZOS),
    }
    for name, crop in expected.items():
        assert decibels(sample.crops[name][0], augment.to_array(crop)) > 51
    assert not np.array_equal(sample.crops["image"], sample.crops["tokenizer"])
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
