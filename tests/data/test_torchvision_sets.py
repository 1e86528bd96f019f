"""T1: torchvision's sets are known by what their images hold, however they keep them."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from sslbench.data.images import BrokenImage, open_dataset

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


class OfTensors(_Set):
    """As FER2013: pairs of pixels and class number, and no list of labels beside them."""

    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self._samples = [
            (torch.from_numpy(p), k % 2) for k, p in enumerate(np.repeat(self.pixels, 9, axis=1))
        ]
        del self.targets

    def __getitem__(self, index):
        pixels, label = self._samples[index]
        return Image.fromarray(pixels.numpy()), label


def test_pairs_of_image_and_class_number_are_labels(monkeypatch, tmp_path):
    """GTSRB, FER2013, StanfordCars and RenderedSST2 keep their labels in pairs only."""
    prints = []
    for shift in (0, 1):
        monkeypatch.setattr(OfTensors, "shift", shift)
        monkeypatch.setattr(datasets, "FER2013", OfTensors)
        images = open_dataset("torchvision:FER2013", "train", tmp_path)
        assert images.labels.tolist() == [0, 1, 0, 1] and images.classes == ("a", "b")
        prints.append(images.fingerprint)
    assert prints[0] != prints[1]


class Damaged(_Set):
    def __getitem__(self, index):
        raise [struct.error("short"), EOFError(), Image.DecompressionBombError("big")][index % 3]


def test_whatever_a_decoder_raises_is_a_broken_image(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR10", Damaged)
    images = open_dataset("torchvision:CIFAR10", "train", tmp_path)
    for index in range(3):
        with pytest.raises(BrokenImage, match=f"CIFAR10/train/{index}: "):
            images.image(index)
