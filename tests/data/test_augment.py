import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as TF

from sslbench.data import augment
from sslbench.data.rng import sample_rng


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(90, 60), (200, 40), (30, 100)])
@pytest.mark.parametrize("scale", [(0.25, 1.0), (0.05, 0.25)])
def test_boxes_are_distributed_as_torchvisions(size, scale):
    image = Image.new("RGB", size)
    ours = np.array([augment.random_box(image, scale, sample_rng(0, 0, i)) for i in range(1500)])
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
    assert augment.random_box(image, (0.9, 1.0), sample_rng(0, 0, 0)) == box
    assert RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3]) == box


def test_crops_equal_torchvisions(image):
    box = (5, 7, 30, 40)
    ours = augment.crop(image, box, 24)
    theirs = TF.resized_crop(image, *box, [24, 24], TF.InterpolationMode.BICUBIC)
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, augment.crop(image, box, 24, augment.LANCZOS))


class Scripted:
    """Plays back the parameters torchvision drew, in place of a numpy Generator."""

    def __init__(self, order, factors):
        self.order, self.factors = order, iter(factors)

    def permutation(self, n):
        return self.order

    def uniform(self, low, high):
        value = next(self.factors)
        assert low <= value <= high
        return value


def test_colour_jitter_equals_torchvisions_for_the_same_parameters(image):
    for seed in range(5):
        torch.manual_seed(seed)
        theirs = ColorJitter(0.4, 0.4, 0.2, 0.1)
        order, *factors = theirs.get_params(
            theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue
        )
        torch.manual_seed(seed)
        rng = Scripted(order.tolist(), [factors[k] for k in order])
        ours = augment.ColourJitter(0.4, 0.4, 0.2, 0.1)(image, rng)
        assert np.array_equal(ours, theirs(image))


def test_jitter_without_hue_leaves_grey_images_grey():
    grey = Image.new("RGB", (8, 8), (90, 90, 90))
    out = np.asarray(augment.ColourJitter(0.4, 0.4, 0.4, 0.0)(grey, sample_rng(0, 0, 0)))
    assert (out == out[..., :1]).all() and not np.array_equal(out, grey)


def test_small_operations(image):
    pixels = np.asarray(image)
    solarized = np.asarray(augment.solarize(image))
    assert np.array_equal(solarized, np.where(pixels >= 128, 255 - pixels, pixels))
    grey = np.asarray(augment.grayscale(image))
    assert np.array_equal(grey[..., 0], np.asarray(image.convert("L")))
    assert np.array_equal(augment.flip(image, 1.0, sample_rng(0, 0, 0)), pixels[:, ::-1])
    assert np.array_equal(augment.flip(image, 0.0, sample_rng(0, 0, 0)), pixels)
    blurred = np.asarray(augment.blur(image, sample_rng(0, 0, 0)), dtype=float)
    assert blurred.std() < pixels.std()
