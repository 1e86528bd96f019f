"""The base class of image datasets, its implementations, and the limit on broken files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from sslbench.data.contents import content_hashes
from sslbench.data.reading import BrokenImage, decode, decode_array
from sslbench.errors import UserError

__all__ = [
    "ArrayImages",
    "BrokenImage",
    "BrokenLog",
    "FileImages",
    "ImageDataset",
    "InMemoryImages",
    "decode",
    "digest",
]

CROP_RATIO = 0.875  # of photographs: Resize(256), CenterCrop(224)
BROKEN_LIMIT = 0.2  # share of undecodable files above which a run stops
Pair = tuple[Image.Image, int]


def digest(*parts: object) -> str:
    """Return a short SHA-256 of the parts' text (or bytes)."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part if isinstance(part, bytes) else str(part).encode())
        sha.update(b"\0")
    return sha.hexdigest()[:16]


@dataclass(kw_only=True, eq=False, repr=False)
class ImageDataset:
    """Map-style dataset of (PIL RGB image, label), as torch's loaders take it; -1 is no label.

    name: for display; split: "train" | "validation" | "test"; names: one per image, e.g. its path;
    labels: int64 (N,) or None; classes: names of the labels, empty if unlabelled;
    crop_ratio: side of the test-time centre crop relative to the resized image;
    unlabelled: why there are no labels, as part of a sentence, or ""; shortened: few images stand
    for the whole set, whose lists are not for them.
    Items raise `BrokenImage` if they cannot be decoded.
    """

    name: str
    split: str
    names: list[str]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    crop_ratio: float = CROP_RATIO
    unlabelled: str = ""
    shortened: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Pair:
        return self.image(index), -1 if self.labels is None else int(self.labels[index])

    def image(self, index: int) -> Image.Image:
        """Return image `index`, PIL RGB."""
        raise NotImplementedError

    def array(self, index: int) -> np.ndarray:
        """Return the pixels of image `index`, uint8 (H, W, 3), possibly read-only."""
        return np.asarray(self.image(index))

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of the content: equal data have equal fingerprints in any folder."""
        raise NotImplementedError

    def changed(self) -> bool:
        """Return whether files changed since the fingerprint was computed.

        Call it after reading the images: if it is True, the fingerprint does not describe them.
        """
        return False

    def limited(self, count: int) -> ImageDataset:
        """`count` images at equal distances, with a name and a fingerprint of their own.

        All images where there are no more. For smoke tests: no figure of it can pass for one of the
        whole set.
        """
        if count >= len(self):
            return self
        indices = np.arange(count) * len(self) // count
        return replace(self.subset(indices, f"{self.name} ({count} images)"), shortened=True)

    def subset(self, indices: np.ndarray, name: str) -> ImageDataset:
        """The images at `indices`, int64 (M,), as a dataset `name` with its own fingerprint."""
        return replace(
            self,
            name=name,
            names=[self.names[index] for index in indices],
            labels=None if self.labels is None else self.labels[indices],
            **self._content_of(indices),
        )

    def _content_of(self, kept: np.ndarray) -> dict[str, Any]:
        """The fields that hold the images at some indices, beside their names."""
        return {}

    def load(self) -> None:
        """Decode images that are kept in memory now, so that worker processes share one copy."""


@dataclass(kw_only=True, eq=False, repr=False)
class FileImages(ImageDataset):
    """Images in files; `names` are paths relative to `root`. They are decoded at each access."""

    root: Path

    def image(self, index: int) -> Image.Image:
        return decode(self._path(index))

    def array(self, index: int) -> np.ndarray:
        return decode_array(self._path(index))

    def _path(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])  # noqa: PTH118 (hot path)

    @cached_property
    def fingerprint(self) -> str:
        return self._compute_fingerprint()

    def changed(self) -> bool:
        return self._compute_fingerprint() != self.fingerprint

    def _compute_fingerprint(self) -> str:
        labels = [-1] * len(self) if self.labels is None else self.labels.tolist()
        contents = content_hashes(self.root, self.names)
        return digest(self.split, sorted(zip(self.names, contents, labels, strict=True)))


@dataclass(kw_only=True, eq=False, repr=False)
class ArrayImages(ImageDataset):
    """Images in one uint8 array (N, H, W, 3)."""

    pixels: np.ndarray

    def _content_of(self, kept: np.ndarray) -> dict[str, Any]:
        return {"pixels": self.pixels[kept]}

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def array(self, index: int) -> np.ndarray:
        return self.pixels[index]

    @cached_property
    def fingerprint(self) -> str:
        labels = [] if self.labels is None else self.labels.tolist()
        return digest(self.split, labels, self.pixels.shape, self.pixels.tobytes())


@dataclass(kw_only=True, eq=False, repr=False)
class InMemoryImages(FileImages):
    """Small image files, decoded at first use and kept as uint8 (H, W, 3) arrays."""

    @cached_property
    def _pixels(self) -> list[np.ndarray]:
        return [np.asarray(FileImages.image(self, index)) for index in range(len(self))]

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index])

    def array(self, index: int) -> np.ndarray:
        return self._pixels[index]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pixels, because compressed files may differ between machines."""
        labels = [] if self.labels is None else self.labels.tolist()
        shapes = [pixels.shape for pixels in self._pixels]
        return digest(self.split, labels, shapes, *(x.tobytes() for x in self._pixels))

    def changed(self) -> bool:
        return False

    def load(self) -> None:
        len(self._pixels)


class BrokenLog:
    """Counts the broken files of one pass over a dataset and raises when there are too many.

    During the pass the share is an estimate, so it may exceed the limit by five standard deviations
    (1 broken image of the first 3 proves nothing); after the pass the limit applies exactly.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._name = dataset.name
        self._seen = np.zeros(len(dataset), dtype=bool)
        self._broken: dict[int, str] = {}

    def record(
        self, seen: Iterable[int], broken: Mapping[int, str], complete: bool = False
    ) -> list[str]:
        """Record images that were read and broken ones (index -> error message).

        complete: whether the pass is over. Returns the messages not reported before. Raises
        `UserError` above the limit.
        """
        new_messages = [text for index, text in broken.items() if index not in self._broken]
        self._seen[[*seen, *broken]] = True
        self._broken.update(broken)
        if broken or complete:
            count = int(np.count_nonzero(self._seen))
            deviation = 0.0 if complete else (count * BROKEN_LIMIT * (1 - BROKEN_LIMIT)) ** 0.5
            if len(self._broken) > BROKEN_LIMIT * count + 5 * deviation:
                self.fail()
        return new_messages

    def fail(self) -> NoReturn:
        """Raise the `UserError` that names the first broken files."""
        first = "; ".join(list(self._broken.values())[:3])
        raise UserError(
            f"{len(self._broken)} of the {np.count_nonzero(self._seen)} images of {self._name} "
            f"read so far cannot be decoded, more than {BROKEN_LIMIT:.0%}: repair or remove them "
            f"(first: {first})."
        )
