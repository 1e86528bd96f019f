"""Colours by OpenCV, against torchvision on PIL images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import ColorJitter

from sslbench.data import colours
from sslbench.data.colours import Look
from sslbench.data.rng import sample_rng
from tests.data import pil

NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
SCENES = {
    "photo": np.asarray(pil.photo(224, 224)),
    "smooth": np.asarray(pil.photo(96, 96, noise=0)),
    "noise": NOISE,
    "black": np.zeros((8, 8, 3), np.uint8),
    "white": np.full((8, 8, 3), 255, np.uint8),
}
# change -> its factors, and the least ratio to noise (decibels) that its rounding leaves
CHANGES = {
    colours.BRIGHTNESS: (np.linspace(0.6, 1.4, 17), 51),
    colours.CONTRAST: (np.linspace(0.6, 1.4, 17), 51),
    colours.SATURATION: (np.linspace(0.8, 1.2, 17), 51),
    colours.HUE: (np.linspace(-0.1, 0.1, 17), 46),
}


def both(scene, look):
    """The scene changed here and by PIL."""
    return look(SCENES[scene]), np.asarray(pil.look(Image.fromarray(SCENES[scene]), look))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_equals_torchvisions_but_for_rounding(scene, change):
    factors, least = CHANGES[change]
    shifts = []
    for factor in factors:
        ours, theirs = both(scene, Look(changes=((change, float(factor)),)))
        assert ours.dtype == np.uint8 and ours.shape == theirs.shape
        assert pil.decibels(ours, theirs) >= least
        shifts.append((ours.astype(float) - theirs).mean())
    assert abs(np.mean(shifts)) < 0.3  # of 255: neither brighter nor darker


@pytest.mark.parametrize("scene", ["photo", "smooth", "noise"])
def test_the_blur_is_pils(scene):
    for radius in np.linspace(0.11, 2, 15):
        ours, theirs = both(scene, Look(radius=float(radius)))
        assert pil.decibels(ours, theirs) >= (40 if scene == "noise" else 46)
        assert abs((ours.astype(float) - theirs).mean()) < 0.1


@pytest.mark.parametrize("radius", [0.1, 0.5, 1.3, 2.0, 3.1])
def test_the_kernel_is_what_pil_makes_of_a_point(radius):
    point = Image.new("F", (41, 41))
    point.putpixel((20, 20), 1.0)
    levels = np.zeros((41, 41, 3), np.uint8)
    levels[20] = 255  # a line: one row across is the kernel itself
    blurred = np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(radius)))[:, 20, 0]
    kernel = colours.blur_kernel(radius)
    half = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * np.arange(-half, half + 1.0) ** 2).sum() == pytest.approx(radius**2, rel=0.02)
    assert np.abs(255 * kernel - blurred[20 - half : 21 + half]).max() <= 2


def test_grey_flips_and_solarisation_are_exact():
    for scene in SCENES:
        for look in (Look(solarise=True), Look(flip=True), Look(flip=True, solarise=True)):
            assert np.array_equal(*both(scene, look))
        ours, theirs = both(scene, Look(grey=True))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert np.mean(ours != theirs) < 0.01


def test_a_look_changes_a_copy_and_nothing_is_no_change():
    before = NOISE.copy()
    changes = tuple((k, 0.1) for k in CHANGES)
    look = Look(True, changes, True, 1.0, True)
    assert not np.array_equal(look(NOISE), before)
    assert np.array_equal(NOISE, before) and np.array_equal(Look()(NOISE), before)


def test_whole_looks_equal_pils():
    """All in a row, in orders and strengths as drawn."""
    jitter, ratios, shifts = colours.ColourJitter(0.4, 0.4, 0.2, 0.1), [], []
    for index in range(60):
        rng = sample_rng(0, 0, index)
        draws = rng.random(4)
        radius = 2 * float(draws[3]) if index % 2 else 0.0
        look = Look(draws[0] < 0.5, jitter.draw(rng), draws[1] < 0.2, radius, draws[2] < 0.2)
        ours, theirs = both("photo", look)
        ratios.append(pil.decibels(ours, theirs))
        shifts.append((ours.astype(float) - theirs).mean())
    assert np.median(ratios) >= 46 and np.mean(np.array(ratios) < 40) < 0.15
    assert abs(np.mean(shifts)) < 0.2


class Scripted:
    """Plays back the parameters torchvision drew, in place of a numpy Generator."""

    def __init__(self, order, values):
        self.order, self.values = np.array(order), iter(values)

    def permutation(self, n):
        return self.order

    def random(self):
        return next(self.values)


def test_the_jitter_draws_as_torchvision_does():
    """The same range for each of the same operations, in the order that was drawn."""
    theirs = ColorJitter(0.4, 0.4, 0.2, 0.1)
    bounds = [theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue]
    torch.manual_seed(0)
    for _ in range(5):
        order, *factors = theirs.get_params(*bounds)
        shares = [(factors[k] - bounds[k][0]) / (bounds[k][1] - bounds[k][0]) for k in order]
        changes = colours.ColourJitter(0.4, 0.4, 0.2, 0.1).draw(Scripted(order, shares))
        assert [k for k, _ in changes] == order.tolist()
        assert [f for _, f in changes] == pytest.approx([factors[k] for k in order])


def test_jitter_without_hue_leaves_grey_images_grey():
    grey = np.full((8, 8, 3), 90, np.uint8)
    changes = colours.ColourJitter(0.4, 0.4, 0.4, 0.0).draw(sample_rng(0, 0, 0))
    assert sorted(k for k, _ in changes) == [0, 1, 2]
    out = colours.changed(grey, changes)
    assert (out == out[..., :1]).all() and not np.array_equal(out, grey)


def test_numbers_are_drawn_as_numpy_draws_them():
    ours, theirs = sample_rng(1, 0, 0), sample_rng(1, 0, 0)
    for _ in range(2000):
        low, width = ours.random(2)
        assert np.array_equal(theirs.random(2), (low, width))
        assert colours.uniform(ours, -low, width) == theirs.uniform(-low, width)
