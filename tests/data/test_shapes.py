"""The generator of `shapes`: what it draws, and that nothing half-made or changed passes."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from sslbench.data import generated, shapes
from sslbench.data.shapes import CLASSES, SPLITS, ShapesConfig, coverage, generate, render
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
    monkeypatch.setattr(shapes, "_write_split", None)  # would fail if anything were drawn again
    assert generate(made, SMALL) == made


def test_another_config_is_refused(made):
    with pytest.raises(UserError, match="another config; remove"):
        generate(made, ShapesConfig(image_size=32, train=20, validation=10, test=10))


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generated, "_move", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "shapes", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_damage_of_any_kind_is_drawn_anew(made, caplog):
    """P9: one damaged image of the cached set ended every command."""
    folder = made / "train" / CLASSES[0]
    whole = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    Image.new("RGB", (32, 32)).save(folder / "00000.png")
    other = min((made / "train" / CLASSES[1]).iterdir())
    other.write_bytes(other.read_bytes()[:60])
    shutil.rmtree(made / "test")
    (made / "manifest.json").write_text('{"dataset": "sha')
    generate(made, SMALL)
    assert (
        f"{made} is damaged, changed or of an older version: it is generated again." in caplog.text
    )
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == whole
