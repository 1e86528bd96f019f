"""T1: torchvision's sets are known by what their images hold, however they keep them."""

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from sslbench.data.images import open_dataset

SIDE = 6


class _Set(datasets.VisionDataset):
    """Four images of two classes; `shift` exchanges their contents and leaves all else."""

    shift = 0

    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        pixels = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
        self.pixels = np.roll(pixels, self.shift, axis=0)
        self.targets, self.classes = [0, 1, 0, 1], ["a", "b"]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return Image.fromarray(self.pixels[index]), self.targets[index]


class OfAnArray(_Set):
    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self.data = self.pixels


class OfFiles(_Set):
    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self._samples = []
        for k, pixels in enumerate(self.pixels):
            path = f"{root}/{k}.bmp"
            Image.fromarray(pixels).save(path)
            self._samples.append((path, self.targets[k]))


class OfSomethingElse(_Set):
    """Read in a way that only the set itself knows."""


@pytest.mark.parametrize("kind", [OfAnArray, OfFiles, OfSomethingElse])
def test_other_contents_are_another_set(kind, monkeypatch, tmp_path):
    prints = []
    for place, shift in (("one", 0), ("two", 0), ("one", 1)):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.setattr(kind, "shift", shift)
        monkeypatch.setattr(datasets, "CIFAR10", kind)
        prints.append(open_dataset("torchvision:CIFAR10", "train", tmp_path / place).fingerprint)
    assert prints[0] == prints[1] != prints[2]
