"""The view of a classifier is timm's, and a pure function of its stream."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing

from sslbench.data import augment
from sslbench.data.recognition import Recognition, RecognitionConfig, drawing_from
from sslbench.errors import UserError
from sslbench.settings import typed


def numpy_state() -> bytes:
    return np.random.get_state()[1].tobytes()  # noqa: NPY002 (what timm draws from)


SMALL = RecognitionConfig(size=32, erasing=0.5)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((120, 96))


def test_a_view_is_a_function_of_its_stream_and_leaves_the_global_ones_alone(image) -> None:
    view = pickle.loads(pickle.dumps(Recognition(SMALL, 16)))
    random.seed(1)
    before = random.getstate(), numpy_state(), torch.get_rng_state()
    first, second = (view(image, np.random.default_rng(5), 0) for _ in range(2))
    random.seed(2)
    third = view(image, np.random.default_rng(5), 3)
    other = view(image, np.random.default_rng(6), 0)
    for sample in (second, third):
        assert (sample.crops["image"] == first.crops["image"]).all()
        assert (sample.masks["erased"] == first.masks["erased"]).all()
    assert (other.crops["image"] != first.crops["image"]).any()
    assert first.crops["image"].shape == (1, 3, 32, 32)
    assert first.masks["erased"].shape == (1, 32, 32)
    random.seed(1)
    assert before[0] == random.getstate()
    assert before[1] == numpy_state()
    assert (before[2] == torch.get_rng_state()).all()


def test_the_image_changes_as_by_timm(image) -> None:
    """The crop and flip are torchvision's with our draws; then timm's own transform, same draws."""
    ours = Recognition(RecognitionConfig(size=32, erasing=0.0), 16)
    theirs = create_transform(
        32, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic",
        color_jitter=0.4, re_prob=0.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    randaugment = theirs.transforms[2]
    assert type(randaugment).__name__ == "RandAugment"
    changed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        box = augment.random_box(image.size, (0.08, 1.0), rng)
        expected = augment.flip(augment.crop(image, box, 32), 0.5, rng)
        plain = augment.to_array(expected)
        with drawing_from(rng):
            expected = augment.to_array(randaugment(expected))
        found = ours(image, np.random.default_rng(seed), 0).crops["image"][0]
        assert (found == expected).all()
        changed += bool((expected != plain).any())
    assert changed > 8  # each of two operations is applied half of the time


def test_no_bit_kept_is_black_whatever_pillow_allows(image) -> None:
    """timm's rand-m10-inc1 posterizes to 0 bits, which Pillow 13 refuses and older ones blacken."""
    config = RecognitionConfig(size=32, erasing=0.0, flip=0.0, randaugment="rand-m10-n1-inc1")
    views = [
        Recognition(config, 16)(image, np.random.default_rng(seed), 0).crops["image"]
        for seed in range(100)
    ]
    assert sum(not view.any() for view in views) > 0  # one operation of 15, half of the time


def test_rectangles_are_erased_as_often_and_as_large_as_by_timm(image) -> None:
    view = Recognition(RecognitionConfig(size=32, erasing=0.25, randaugment=""), 16)
    masks = [view(image, np.random.default_rng(k), 0).masks["erased"][0] for k in range(2000)]
    shares = np.array([mask.mean() for mask in masks])
    random.seed(0)
    erase, plain = RandomErasing(0.25, mode="const", device="cpu"), []
    for _ in range(2000):
        plain.append(float((erase(torch.ones(3, 32, 32)) == 0)[0].float().mean()))
    assert abs((shares > 0).mean() - 0.25) < 0.03
    assert abs(shares.mean() - np.mean(plain)) < 0.006
    for mask in masks[:200]:  # one filled rectangle
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)


def test_the_jitter_takes_the_place_of_randaugment(image) -> None:
    plain = Recognition(RecognitionConfig(size=32, erasing=0, randaugment="", jitter=0.0), 16)
    jittered = Recognition(RecognitionConfig(size=32, erasing=0, randaugment="", jitter=0.4), 16)
    both = Recognition(RecognitionConfig(size=32, erasing=0, jitter=0.4), 16)
    alone = Recognition(RecognitionConfig(size=32, erasing=0, jitter=0.0), 16)
    crops = [v(image, np.random.default_rng(3), 0).crops["image"] for v in (plain, jittered, both)]
    assert (crops[0] != crops[1]).any()
    assert (crops[2] == alone(image, np.random.default_rng(3), 0).crops["image"]).all()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UserError, match="spelt as timm does"):
        typed(RecognitionConfig, {"randaugment": "rnd-m9"}, "method.views")
    with pytest.raises(UserError, match="multiple of the patch size 16"):
        Recognition(RecognitionConfig(size=100), 16)
