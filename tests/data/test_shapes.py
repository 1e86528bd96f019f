"""The generator of `shapes`: what it draws, and that nothing half-made or changed passes."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from sslbench.data import generated, shapes
from sslbench.data.shapes import CLASSES, SPLITS, ShapesConfig, coverage, generate, render, verify
from sslbench.errors import UserError

SMALL = ShapesConfig(image_size=32, train=10, validation=10, test=10)


@pytest.fixture
def made(tmp_path):
    return generate(tmp_path / "shapes", SMALL)


def test_images_are_the_same_on_every_machine():
    sha = hashlib.sha256()
    for split in SPLITS:
        for index in range(10):
            sha.update(render(ShapesConfig(), split, index)[0].tobytes())
    assert sha.hexdigest()[:16] == "4283b56619959d56"


def test_an_image_depends_on_seed_split_and_index():
    images = [
        render(config, split, index)[0].tobytes()
        for config in (SMALL, ShapesConfig(image_size=32, seed=1))
        for split in SPLITS
        for index in (0, 10)
    ]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("name", CLASSES)
def test_every_outline_covers_the_area_of_its_disk(name):
    area = coverage(name, (128.0, 128.0), 40.0, 0.3, 256).sum()
    assert area == pytest.approx(np.pi * 40**2, rel=0.03)


def test_writes_what_it_renders_once(made, monkeypatch):
    pixels, label = render(SMALL, "test", 7)
    with Image.open(made / "test" / CLASSES[label] / "00007.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    verify(made)
    monkeypatch.setattr(shapes, "_write_split", None)  # would fail if anything were drawn again
    assert generate(made, SMALL) == made


def test_another_config_is_refused(made):
    with pytest.raises(UserError, match="another config; remove"):
        generate(made, ShapesConfig(image_size=32, train=20, validation=10, test=10))


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generated, "_publish", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "shapes", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_or_missing_image_is_found(made):
    path = made / "train" / CLASSES[0] / "00000.png"
    Image.new("RGB", (32, 32)).save(path)
    with pytest.raises(UserError, match=r"train images .* were changed"):
        verify(made)
    path.unlink()
    with pytest.raises(UserError, match=r"00000\.png is missing or damaged"):
        verify(made)
