from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def make_folder(tmp_path):
    """make_folder(names, broken=...) writes tiny images, the broken ones cut short."""

    def make(names, broken=()):
        for seed, name in enumerate(names):
            write_image(tmp_path / name, seed)
        for name in broken:
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
        return tmp_path

    return make
