"""Torchvision's datasets by name, e.g. `torchvision:CIFAR10`, from a local copy if available."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import loadmat
from torchvision import datasets

from sslbench.data.checks import evenly
from sslbench.data.contents import content_hashes
from sslbench.data.dataset import BrokenImage, ImageDataset, digest
from sslbench.data.places import OFFICIAL, TORCHVISION, TRAINVAL, place_and_option
from sslbench.data.reading import upright_rgb
from sslbench.errors import UserError, nearest

# Torchvision's names of the splits, tried in this order; validation and test replace each other if
# one is missing, as for folders.
SPLIT_WORDS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation", "test"),
    "test": ("test", "val", "valid", "validation"),
}
LABEL_FIELDS = ("targets", "labels", "_labels", "y")
FILE_FIELDS = ("samples", "_samples", "imgs", "_image_files", "_images", "images", "data")
PAIRS = ("samples", "_samples", "imgs")  # lists of (image, class number)
MAX_DECODED = 20_000  # images


@dataclass(kw_only=True, eq=False, repr=False)
class TorchvisionImages(ImageDataset):
    """A torchvision dataset of (image, class number) as an `ImageDataset`."""

    source: Any
    indices: np.ndarray | None = None  # of the images in `source`; None: all

    def _content_of(self, kept: np.ndarray) -> dict[str, Any]:
        return {"indices": kept if self.indices is None else self.indices[kept]}

    def image(self, index: int) -> Image.Image:
        place = index if self.indices is None else int(self.indices[index])
        try:
            return upright_rgb(self.source[place][0], self.names[index])
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
        """Return the content of the images: their array, hashes of their files, or their pixels.

        A set without a known array or files is decoded; of more than 20,000 images, only that many
        at equal distances.
        """
        kept = slice(None) if self.indices is None else self.indices
        data = getattr(self.source, "data", None)
        if isinstance(data, np.ndarray | torch.Tensor) and len(data) == len(self.source):
            array = np.ascontiguousarray(np.asarray(data)[kept])
            return array.dtype, array.shape, array.tobytes()
        if files := _files(self.source):
            return content_hashes(Path(), np.array(files)[kept].tolist())
        return map(self._decoded, evenly(range(len(self)), MAX_DECODED))

    def _decoded(self, index: int) -> bytes:
        try:
            image = self.image(index)
        except BrokenImage:
            return b"broken"
        return f"{image.size}".encode() + image.tobytes()


def _files(source: Any) -> list[str]:
    """Return the file of each image if the set lists them, else []."""
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
        name=f"{TORCHVISION}{name}",
        split=split,
        names=[f"{name}/{split}/{k}" for k in range(len(source))],
        labels=labels,
        classes=classes,
    )


def _labels(source: Any) -> np.ndarray | None:
    """Return all labels without decoding images; None if they are not class numbers."""
    for values in _label_lists(source):
        labels = np.asarray(values)
        if labels.shape == (len(source),) and np.issubdtype(labels.dtype, np.integer):
            return labels.astype(np.int64) if labels.min() >= 0 else None
    return None


def _label_lists(source: Any) -> Iterator[Any]:
    """Yield possible label lists: a field of labels, or the second element of each pair."""
    yield from (values for f in LABEL_FIELDS if (values := getattr(source, f, None)) is not None)
    for field in PAIRS:
        entries = getattr(source, field, None)
        if isinstance(entries, list) and all(
            isinstance(e, tuple | list) and len(e) == 2 and type(e[1]) is int for e in entries
        ):
            yield [e[1] for e in entries]


def open_torchvision(text: str, split: str, root: Path) -> TorchvisionImages:
    """Open `split` of torchvision's dataset `text`, stored below `root`; download it if missing.

    Two sets have an option, which their name then shows, for what iBOT does
    (evaluation/semi_supervised/eval_cls.py): "Flowers102?train=trainval" trains on both of its
    train and val split, and both others are test; "StanfordCars?labels=official" numbers the
    classes from 1 on and has one output per distinct value of field 4, the lower edge of the box.

    Raises UserError for an unknown name, a set without that split, and a set that is neither stored
    nor can be downloaded.
    """
    place, option = place_and_option(TORCHVISION + text)
    name = place.removeprefix(TORCHVISION)
    if name not in datasets.__all__:
        raise UserError(f"Torchvision has no dataset {name!r}: {nearest(name, datasets.__all__)}.")
    if option == TRAINVAL:
        source = _source(name, split if split == "train" else "test", root)
        if split == "train":
            validation = _source(name, "validation", root)
            source._image_files += validation._image_files
            source._labels += validation._labels
    else:
        source = _source(name, split, root)
    images = _wrapped(text, split, source)
    return _as_official(images, root) if option == OFFICIAL else images


def _as_official(images: TorchvisionImages, root: Path) -> TorchvisionImages:
    """Return Stanford Cars with the labels and the number of classes of iBOT's CarsDataset."""
    path = root / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    if images.labels is None or not path.is_file():
        raise UserError(f"{images.name} needs class numbers and {path}: complete the copy.")
    annotations = np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"])
    count = len(np.unique(annotations["bbox_y2"].astype(np.int64)))
    labels = images.labels + 1
    if labels.max() >= count:
        raise UserError(
            f"The official loader gives {images.name} {count} classes, but a label is "
            f"{labels.max()}: leave out ?{OFFICIAL}."
        )
    names = ["", *images.classes]
    classes = [names[k] if 0 < k < len(names) else f"unused {k}" for k in range(count)]
    return replace(images, labels=labels, classes=tuple(classes))


def _source(name: str, split: str, root: Path) -> Any:
    make = getattr(datasets, name)
    parameters = inspect.signature(make).parameters
    options: dict[str, Any] = {"root": str(root)} if "root" in parameters else {}
    reasons = []
    for split_option in _split_options(parameters, split):
        for attempt in [{}, {"download": True}] if "download" in parameters else [{}]:
            try:
                return make(**options, **split_option, **attempt)
            except (ValueError, TypeError) as error:  # an unknown split, or an unusual constructor
                reasons.append(str(error))
                break
            except (OSError, RuntimeError, ImportError) as error:  # missing, or download failed
                reasons.append(str(error))
    raise UserError(
        f"Torchvision's {name} ({split}) is neither below {root} nor could it be downloaded "
        f"({_last(reasons)}): put a copy there."
    )


def _split_options(parameters: Any, split: str) -> list[dict[str, Any]]:
    """Return constructor arguments that may select `split`, best first."""
    if "train" in parameters:
        return [{"train": split == "train"}]
    for parameter in ("split", "image_set"):
        if parameter in parameters:
            return [{parameter: word} for word in SPLIT_WORDS[split]]
    return [{}]


def _last(reasons: list[str]) -> str:
    return " ".join(reasons[-1].split())[:160] if reasons else "no reason given"
