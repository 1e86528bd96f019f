import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from sslbench.data import augment
from sslbench.data.rng import sample_rng
from tests.data.pil import decibels, photo


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(90, 60), (200, 40), (30, 100)])
@pytest.mark.parametrize("scale", [(0.25, 1.0), (0.05, 0.25)])
def test_boxes_are_distributed_as_torchvisions(size, scale):
    image = Image.new("RGB", size)
    ours = np.array([augment.random_box(size, scale, sample_rng(0, 0, i)) for i in range(1500)])
    torch.manual_seed(0)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(1500)]
    )
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column], method="asymp").pvalue > 1e-4
    areas = ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]
    assert stats.ks_2samp(*areas, method="asymp").pvalue > 1e-4


@pytest.mark.parametrize(("size", "box"), [((400, 4), (0, 197, 4, 5)), ((4, 400), (197, 0, 5, 4))])
def test_extreme_shapes_fall_back_to_a_centred_box(size, box):
    image = Image.new("RGB", size)
    assert augment.random_box(size, (0.9, 1.0), sample_rng(0, 0, 0)) == box
    assert RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3]) == box


def test_crops_equal_torchvisions(image):
    box = (5, 7, 30, 40)
    ours = augment.crop(image, box, 24)
    theirs = TF.resized_crop(image, *box, [24, 24], TF.InterpolationMode.BICUBIC)
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, augment.crop(image, box, 24, augment.LANCZOS))


@pytest.mark.parametrize(("size", "scale"), [(224, (0.25, 1.0)), (96, (0.05, 0.25))])
def test_crops_of_pixels_equal_pils_but_for_a_few_values(size, scale):
    """Enlarged and reduced, at the edges and within."""
    source, rng = photo(500, 375), sample_rng(0, 0, 0)
    pixels = np.asarray(source)
    boxes = [augment.random_box(source.size, scale, rng) for _ in range(30)]
    boxes += [(0, 0, 375, 500), (370, 495, 5, 5), (0, 0, size, size), (0, 3, 1, 400)]
    ours = [augment.crop_pixels(pixels, box, size) for box in boxes]
    theirs = [np.asarray(augment.crop(source, box, size)) for box in boxes]
    for crop, expected in zip(ours, theirs, strict=True):
        assert crop.shape == (size, size, 3) and crop.flags.c_contiguous
        # Pillow 13 resizes the rows of some shapes first, which rounds other intermediate values
        assert decibels(crop, expected) >= 50
        assert np.abs(crop.astype(int) - expected).max() <= 2
    assert np.median([decibels(*pair) for pair in zip(ours, theirs, strict=True)]) >= 70
    assert not np.shares_memory(pixels, ours[-2])


def test_flips(image):
    pixels = np.asarray(image)
    assert np.array_equal(augment.flip(image, 1.0, sample_rng(0, 0, 0)), pixels[:, ::-1])
    assert np.array_equal(augment.flip(image, 0.0, sample_rng(0, 0, 0)), pixels)
