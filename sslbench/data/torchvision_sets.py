"""Torchvision's datasets by name, e.g. `torchvision:CIFAR10`, from a local copy if there is one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import datasets

from sslbench.data.checks import evenly
from sslbench.data.contents import content_hashes
from sslbench.data.dataset import BrokenImage, ImageDataset, digest
from sslbench.data.reading import upright_rgb
from sslbench.errors import UserError, nearest

# Torchvision's own words for our splits, tried in this order; where a set has no validation split
# the test split stands in and vice versa, as for folders.
SPLIT_WORDS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
}
PREFIX = "torchvision:"
LABEL_FIELDS = ("targets", "labels", "_labels", "y")
FILE_FIELDS = ("samples", "_samples", "imgs", "_image_files", "_images", "images", "data")
PAIRS = ("samples", "_samples", "imgs")  # lists of (image, class number)
DECODED = 20_000


@dataclass(kw_only=True, eq=False, repr=False)
class TorchvisionImages(ImageDataset):
    """A torchvision dataset of (image, class number) as an `ImageDataset`."""

    source: Any

    def image(self, index: int) -> Image.Image:
        try:
            return upright_rgb(self.source[index][0], self.names[index])
        except BrokenImage:
            raise
        except Exception as error:  # decoders raise almost anything on damaged bytes
            reason = f"{type(error).__name__}: {error}"
            raise BrokenImage(self.names[index], reason) from error

    @cached_property
    def fingerprint(self) -> str:
        labels = [] if self.labels is None else self.labels.tolist()
        return digest(self.split, len(self), labels, *self._contents())

    def _contents(self) -> Iterable[object]:
        """What the images hold: their array, their files, or what they decode to.

        A set that shows neither array nor files is decoded; beyond 20,000 images that many at equal
        distances stand for all.
        """
        data = getattr(self.source, "data", None)
        if isinstance(data, np.ndarray | torch.Tensor) and len(data) == len(self):
            array = np.ascontiguousarray(np.asarray(data))
            return array.dtype, array.shape, array.tobytes()
        if files := _files(self.source):
            return content_hashes(Path(), files)
        return map(self._decoded, evenly(range(len(self)), DECODED))

    def _decoded(self, index: int) -> bytes:
        try:
            image = self.image(index)
        except BrokenImage:
            return b"broken"
        return f"{image.size}".encode() + image.tobytes()


def _files(source: Any) -> list[str]:
    """The file of each image where the set lists them, else nothing."""
    for field in FILE_FIELDS:
        entries = getattr(source, field, None)
        if not isinstance(entries, list) or len(entries) != len(source):
            continue
        paths = [e[0] if isinstance(e, tuple | list) and e else e for e in entries]
        if all(isinstance(path, str | Path) and os.path.isfile(path) for path in paths):  # noqa: PTH113 (True or False, whatever the text)
            return [str(path) for path in paths]
    return []


def _wrapped(name: str, split: str, source: Any) -> TorchvisionImages:
    labels = _labels(source)
    classes: tuple[str, ...] = ()
    if labels is not None:
        numbers = range(int(labels.max()) + 1)
        classes = tuple(str(c) for c in getattr(source, "classes", None) or numbers)
    return TorchvisionImages(
        source=source,
        name=f"{PREFIX}{name}",
        split=split,
        names=[f"{name}/{split}/{k}" for k in range(len(source))],
        labels=labels,
        classes=classes,
    )


def _labels(source: Any) -> np.ndarray | None:
    """All labels without decoding images, or None where they are not class numbers."""
    for values in _label_lists(source):
        labels = np.asarray(values)
        if labels.shape == (len(source),) and np.issubdtype(labels.dtype, np.integer):
            return labels.astype(np.int64) if labels.min() >= 0 else None
    return None


def _label_lists(source: Any) -> Iterator[Any]:
    """What may be the labels of all images: a field of their own, or the second of each pair."""
    yield from (found for f in LABEL_FIELDS if (found := getattr(source, f, None)) is not None)
    for field in PAIRS:
        entries = getattr(source, field, None)
        if isinstance(entries, list) and all(
            isinstance(e, tuple | list) and len(e) == 2 and type(e[1]) is int for e in entries
        ):
            yield [e[1] for e in entries]


def open_torchvision(name: str, split: str, root: Path) -> TorchvisionImages:
    """`split` of torchvision's dataset `name`, kept below `root` and downloaded only if missing.

    Raises UserError for an unknown name, a set without that split, and a set that is neither there
    nor can be downloaded.
    """
    if name not in datasets.__all__:
        raise UserError(f"Torchvision has no dataset {name!r}: {nearest(name, datasets.__all__)}.")
    make = getattr(datasets, name)
    known = inspect.signature(make).parameters
    options: dict[str, Any] = {"root": str(root)} if "root" in known else {}
    reasons = []
    for chosen in _split_options(known, split):
        for attempt in [{}, {"download": True}] if "download" in known else [{}]:
            try:
                return _wrapped(name, split, make(**options, **chosen, **attempt))
            except (ValueError, TypeError) as error:  # not one of its splits, or no plain set
                reasons.append(str(error))
                break
            except (OSError, RuntimeError, ImportError) as error:  # not there; then: not to be had
                reasons.append(str(error))
    raise UserError(
        f"Torchvision's {name} ({split}) is neither below {root} nor could it be downloaded "
        f"({_short(reasons)}): put a copy there."
    )


def _split_options(known: Any, split: str) -> list[dict[str, Any]]:
    """Constructor arguments that may select `split`, best first."""
    if "train" in known:
        return [{"train": split == "train"}]
    for parameter in ("split", "image_set"):
        if parameter in known:
            return [{parameter: word} for word in SPLIT_WORDS[split]]
    return [{}]


def _short(reasons: list[str]) -> str:
    return " ".join(reasons[-1].split())[:160] if reasons else "no reason given"
