"""Mixing and erasing: timm's values in groups, wherever the images of a batch are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from sslbench.backbones.sampling import Place, set_place
from sslbench.data.recognition import drawing_from
from sslbench.method import true_places
from sslbench.methods.mixing import Erasing, Mixing

CLASSES, GROUP = 5, 4


def batch(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=rng), torch.arange(count) % CLASSES


def mixing(**changes) -> Mixing:
    values = dict(smoothing=0.1, mixup=0.8, cutmix=1.0, probability=1.0, switch=0.5, group=GROUP)
    return Mixing(CLASSES, **(values | changes))


def test_each_group_is_mixed_as_timm_mixes_a_batch() -> None:
    images, labels = batch()
    kinds = set()
    for seed in range(20):
        torch.manual_seed(seed)
        x, y = mixing()(images, labels)
        torch.manual_seed(seed)
        seeds = torch.randint(2**62, (2,)).tolist()
        for k in range(2):
            rows = slice(GROUP * k, GROUP * (k + 1))
            with drawing_from(np.random.default_rng(seeds[k])):
                expected = Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=CLASSES)(
                    images[rows].clone(), labels[rows]
                )
            assert torch.equal(x[rows], expected[0])
            assert torch.equal(y[rows], expected[1])
            whole = (x[rows] == images[rows]).flatten(1).float().mean()
            kinds.add("cutmix" if 0 < whole < 1 else "mixup")
    assert kinds == {"cutmix", "mixup"}


def test_mixup_is_the_formula() -> None:
    """x = l x_i + (1 - l) x_j and y alike, j counted from the end; l read off the targets."""
    images, labels = batch(4)
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = mixing(cutmix=0.0, smoothing=0.0)(images, labels)
        share = y[0, labels[0]].double()
        reverse = images.flip(0)
        assert torch.allclose(
            x.double(), share * images.double() + (1 - share) * reverse.double(), atol=1e-6
        )
        assert torch.allclose(y.sum(1), torch.ones(4))
        assert 0 < share < 1


def test_cutmix_labels_follow_the_area() -> None:
    images, labels = batch(4)
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = mixing(mixup=0.0, smoothing=0.0)(images, labels)
        kept = (x == images).all(1)[0].float().mean()  # no pixel of two images is equal
        assert torch.allclose(y[0, labels[0]], kept, atol=1e-6)


def test_draws_are_the_batch_s_wherever_its_groups_are_computed() -> None:
    images, labels = batch(16)
    module = mixing()
    torch.manual_seed(3)
    set_place(module, Place(0, 16, 16))
    whole = module(images, labels)
    for count in (4, 8):
        for first in range(0, 16, count):
            torch.manual_seed(3)
            set_place(module, Place(first, count, 16))
            part = module(images[first : first + count], labels[first : first + count])
            for found, expected in zip(part, whole, strict=True):
                assert torch.equal(found, expected[first : first + count])


def test_without_mixing_labels_are_smoothed() -> None:
    images, labels = batch()
    x, y = mixing(probability=0.0)(images, labels)
    assert torch.equal(x, images)
    expected = torch.full((8, CLASSES), 0.1 / CLASSES)
    expected[torch.arange(8), labels] += 0.9
    assert torch.allclose(y, expected)


def test_erased_pixels_are_noise_of_the_image_wherever_it_is() -> None:
    images = torch.zeros(8, 3, 32, 32)
    erased = torch.zeros(8, 32, 32, dtype=torch.bool)
    erased[2, 4:20, 4:28] = erased[5] = True
    module = Erasing()
    torch.manual_seed(0)
    whole = module(images, erased, true_places(erased))
    assert (whole[0] == 0).all() and (whole[2][:, ~erased[2]] == 0).all()
    assert (images == 0).all()
    noise = whole[5].flatten()
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
    for first in (0, 4):
        torch.manual_seed(0)
        set_place(module, Place(first, 4, 8))
        mine = erased[first : first + 4]
        part = module(images[first : first + 4], mine, true_places(mine))
        assert torch.equal(part, whole[first : first + 4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_stay(dtype: torch.dtype) -> None:
    images, labels = batch(4)
    assert mixing()(images.to(dtype), labels)[0].dtype == dtype
    erased = torch.ones(4, 8, 8, dtype=torch.bool)
    assert Erasing()(images.to(dtype), erased, true_places(erased)).dtype == dtype
