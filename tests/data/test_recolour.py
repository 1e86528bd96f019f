"""Looks of whole batches, as a GPU makes them, against PIL and against those of single crops."""

import numpy as np
import pytest
import torch
from PIL import Image

from sslbench.data import colours
from sslbench.data.colours import ColourJitter, Look
from sslbench.data.loader import ViewDataset, make_loader
from sslbench.data.recolour import recoloured
from sslbench.data.rng import sample_rng
from sslbench.data.views import MaskConfig, MultiCrop, MultiCropConfig
from tests.data import pil
from tests.data.test_loader import MEAN, STD, images

SCENE = np.array(pil.photo(96, 96))
NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
EXACT = {
    "flip": Look(flip=True),
    "grey": Look(grey=True),
    "solarise": Look(solarise=True),
    **{f"brightness {f}": Look(changes=((colours.BRIGHTNESS, f),)) for f in (0.6, 0.93, 1.37)},
    **{f"contrast {f}": Look(changes=((colours.CONTRAST, f),)) for f in (0.6, 0.93, 1.37)},
    **{f"saturation {f}": Look(changes=((colours.SATURATION, f),)) for f in (0.8, 0.93, 1.17)},
}


def of(crops, looks):
    """uint8 (N, H, W, 3) after their looks."""
    planes = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    rows = torch.from_numpy(np.stack([look.row() for look in looks]))
    return recoloured(planes, rows).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("scene", [SCENE, NOISE], ids=["photo", "noise"])
def test_changes_equal_pils(scene):
    ours = of([scene] * len(EXACT), EXACT.values())
    for (name, look), crop in zip(EXACT.items(), ours, strict=True):
        theirs = np.asarray(pil.look(Image.fromarray(scene), look))
        assert np.mean(crop != theirs) < 1e-3, name  # float products at whole numbers
        assert np.abs(crop.astype(int) - theirs).max() <= 1, name


@pytest.mark.parametrize("scene", [SCENE, NOISE], ids=["photo", "noise"])
def test_the_hue_equals_pils_but_for_a_few_values(scene):
    looks = [Look(changes=((colours.HUE, float(t)),)) for t in np.linspace(-0.499, 0.499, 20)]
    for look, crop in zip(looks, of([scene] * len(looks), looks), strict=True):
        assert pil.decibels(crop, pil.look(Image.fromarray(scene), look)) > 60
    grey = np.repeat(SCENE[..., :1], 3, -1)
    assert np.array_equal(of([grey], looks[:1])[0], grey)


def test_the_blur_is_pils_whatever_radii_meet_in_a_batch():
    radii = [0.0, 0.1, 0.4, 0.99, 1.7, 2.0]
    crops = of([SCENE] * len(radii), [Look(radius=r) for r in radii])
    assert np.array_equal(crops[0], SCENE)
    for radius, crop in zip(radii[1:], crops[1:], strict=True):
        assert pil.decibels(crop, pil.look(Image.fromarray(SCENE), Look(radius=radius))) >= 45


def test_drawn_looks_are_those_of_single_crops_in_any_company():
    jitter, looks = ColourJitter(0.4, 0.4, 0.2, 0.1), []
    for index in range(48):
        rng = sample_rng(0, 0, index)
        flip, grey, blurred, solarise, jittered = rng.random(5) < (0.5, 0.2, 0.5, 0.2, 0.8)
        changes = jitter.draw(rng) if jittered else ()
        radius = float(blurred) * rng.uniform(0.1, 2)
        looks.append(Look(bool(flip), changes, bool(grey), radius, bool(solarise)))
    together = of([SCENE] * len(looks), looks)
    single = np.stack([of([SCENE], [look])[0] for look in looks])
    assert np.abs(together.astype(int) - single).max() <= 1 and np.mean(together != single) < 1e-3
    for other in ([look(SCENE) for look in looks], [pil.look(PHOTO, look) for look in looks]):
        ratios = [pil.decibels(*pair) for pair in zip(together, other, strict=True)]
        assert np.median(ratios) >= 46 and min(ratios) > 33
        assert abs(together.mean() - np.mean([np.asarray(crop) for crop in other])) < 0.3


PHOTO = Image.fromarray(SCENE)
VIEWS = MultiCrop(
    MultiCropConfig(global_size=16, local_size=8, local_crops=2), 4, MaskConfig(ratios=((0.3, 0),))
)


def batches(views, workers=0):
    options = {"mean": MEAN, "std": STD, "workers": workers}
    return [batch for batch, _ in make_loader(images(8), views, 0, 4, 3, **options)]


def test_a_batch_is_the_same_whether_workers_or_the_loader_change_its_colours():
    for ours, theirs in zip(batches(VIEWS.deferred()), batches(VIEWS), strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.masks["global"], theirs.masks["global"])
        for name, crops in theirs.crops.items():
            assert ours.crops[name].shape == crops.shape and ours.crops[name].dtype == torch.uint8
            far = (ours.crops[name].int() - crops.int()).abs().float()
            assert far.mean() < 1.5 and far.quantile(0.99) <= 12  # noise of 12 x 12 pixels


def test_deferred_batches_do_not_depend_on_workers():
    for ours, theirs in zip(batches(VIEWS.deferred(), 2), batches(VIEWS.deferred()), strict=True):
        assert all(torch.equal(ours.crops[name], theirs.crops[name]) for name in theirs.crops)


def test_workers_make_all_but_the_looks():
    sample = ViewDataset(images(8), VIEWS.deferred(), 0)[0, 3, 0].sample
    plain = ViewDataset(images(8), VIEWS, 0)[0, 3, 0].sample
    assert {name: rows.shape for name, rows in sample.looks.items()} == {
        "global": (2, 12),
        "local": (2, 12),
    }
    assert not plain.looks and np.array_equal(sample.masks["global"], plain.masks["global"])


@pytest.mark.parametrize(("kind", "later"), [("cpu", False), ("cuda", True)])
def test_training_on_a_gpu_defers_them(kind, later):
    options = {"mean": MEAN, "std": STD, "device": torch.device(kind)}
    assert make_loader(images(8), VIEWS, 0, 4, 3, **options)._loader.dataset.views.later == later


def test_the_host_reads_nothing_back_from_the_device():
    """Nothing can be read from the device "meta", and its tensors do not mix with the CPU's."""
    jitter = ColourJitter(0.4, 0.4, 0.2, 0.1)
    looks = [Look(True, jitter.draw(sample_rng(0, 0, k)), k == 0, 0.3 * k, k > 2) for k in range(6)]
    rows = torch.from_numpy(np.stack([look.row() for look in looks]))
    out = recoloured(torch.zeros(6, 3, 8, 8, dtype=torch.uint8, device="meta"), rows)
    assert out.device.type == "meta" and out.dtype == torch.uint8 and out.shape == (6, 3, 8, 8)
