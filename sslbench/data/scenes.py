"""The embedded dense set: scenes of several objects, as a COCO and as an ADE20K tree.

A scene shows five to ten outlines of `shapes`, in three scenes of four all of one class, on its
dark clouds: as in the images of `shapes`, what surrounds an object says something of it. They hide
one another, and what is annotated is what can be seen; in some scenes a crowd (small overlapping
copies of one class) is one annotation with `iscrowd`. The clutter dots belong to the ground. An
object is about one and a half times as large, relative to a patch of a ViT, as it is in `shapes`. A
scene is a pure function of (seed, split, index).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sslbench.data.generated import identity, publish
from sslbench.data.shapes import (
    CLASSES,
    ROTATION,
    SPLITS,
    backdrop,
    between,
    coverage,
    developed,
    image_rng,
    integer,
    paint,
)

VERSION = "1"
COCO_SPLITS = {"train": "train2017", "validation": "val2017", "test": "test2017"}
ADE20K_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
ADE20K_CLASSES = ("ground", *CLASSES)
CATEGORY_IDS = tuple(k + k // 4 + 1 for k in range(len(CLASSES)))  # with gaps, as COCO's have

BLOCK = 16  # keeps the streams of scenes apart from those of shapes
COUNT = (5, 10)  # objects per scene, inclusive
SINGLE = 0.75  # share of scenes whose objects are all of one class; the others mix two
RADIUS = (0.055, 0.115)  # radius of the disk of equal area, relative to the side
MARGIN = 0.08  # least distance of a centre from the frame, relative to the side
VISIBLE = (0.3, 0.9)  # least share of an object's area that stays visible, drawn per object
ATTEMPTS = 20  # places tried for an object before the scene goes without it
CROWDED = 0.15  # share of scenes with a crowd
COPIES = (5, 8)  # in a crowd, inclusive
COPY_RADIUS = (0.036, 0.05)  # of one of them
SPREAD = 0.085  # largest distance of a copy from the middle of its crowd, along either axis
OBLONG = 0.25  # share of scenes that are not square ...
CUT = 0.75  # ... but have one side shortened to this
QUALITY = 95  # of the JPEG files

Array = np.ndarray


@dataclass(frozen=True)
class ScenesConfig:
    """Longer side of the images in pixels, images per split and the seed."""

    image_size: int = 128
    train: int = 600
    validation: int = 100
    test: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """pixels: uint8 (h, w, 3); owner: (h, w), the number of the object seen at each pixel, from 1,
    or 0 for the ground; labels: the objects' class numbers; crowds: which of them are crowds."""

    pixels: Array
    owner: Array
    labels: tuple[int, ...]
    crowds: tuple[bool, ...]


@dataclass
class _Canvas:
    """A scene in the making: `image` (h, w, 3) in [0, 1], the rest as in `Scene`."""

    side: int
    kinds: tuple[int, ...]  # the classes it may hold
    image: Array
    owner: Array
    labels: list[int] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    least: list[float] = field(default_factory=list)  # pixels that must stay visible

    def add(self, rng: np.random.Generator, crowd: bool) -> None:
        """Lay one more object, or crowd, over the others where it hides none of them too far."""
        label = self.kinds[integer(rng, (0, len(self.kinds) - 1))]
        share = between(rng, VISIBLE)
        for _ in range(ATTEMPTS):
            masks, area = self._copies(rng, CLASSES[label], crowd)
            owner = np.where(np.max(masks, axis=0) >= 0.5, len(self.labels) + 1, self.owner)
            least = [*self.least, share * area]
            seen = np.bincount(owner.ravel(), minlength=len(least) + 1)[1:]
            if (seen >= least).all():
                break
        else:
            return
        for mask in masks:
            paint(rng, self.image, mask)
        self.owner, self.least = owner, least
        self.labels.append(label)
        self.crowds.append(crowd)

    def _copies(
        self, rng: np.random.Generator, shape: str, crowd: bool
    ) -> tuple[list[Array], float]:
        """Coverage (h, w) of each copy of an object (one) or a crowd, and the sum of areas."""
        height, width = self.owner.shape
        gap = MARGIN * self.side
        middle = gap + rng.random(2) * (np.array([width, height]) - 2.0 * gap)
        masks, area = [], 0.0
        for _ in range(integer(rng, COPIES) if crowd else 1):
            shift = self.side * SPREAD * (2.0 * rng.random(2) - 1.0) if crowd else 0.0
            radius = self.side * between(rng, COPY_RADIUS if crowd else RADIUS)
            angle = np.deg2rad(ROTATION) * (2.0 * rng.random() - 1.0)
            mask = coverage(shape, tuple(middle + shift), radius, angle, self.side)
            masks.append(mask[:height, :width])
            area += np.pi * radius**2
        return masks, area


def render(config: ScenesConfig, split: str, index: int) -> Scene:
    """Scene `index` of a split."""
    side = config.image_size
    rng = image_rng(config.seed, BLOCK + SPLITS.index(split), index)
    form = rng.random() / OBLONG  # below 1 the frame is landscape or portrait
    height = round(side * CUT) if form < 0.5 else side
    width = round(side * CUT) if 0.5 <= form < 1.0 else side
    image = backdrop(rng, side)[:height, :width]
    mixed = 1 if rng.random() < SINGLE else 2
    kinds = tuple(int(kind) for kind in rng.permutation(len(CLASSES))[:mixed])
    canvas = _Canvas(side, kinds, image, np.zeros((height, width), dtype=np.int64))
    count = integer(rng, COUNT)
    crowd = integer(rng, (0, count)) if rng.random() < CROWDED else -1  # how many it lies upon
    for k in range(count + (crowd >= 0)):
        canvas.add(rng, k == crowd)
    pixels = developed(rng, canvas.image)
    return Scene(pixels, canvas.owner, tuple(canvas.labels), tuple(canvas.crowds))


def encode_rle(mask: Array) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a mask (h, w): column by column, zeros first."""
    flat = mask.T.ravel().astype(bool)
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], change, [flat.size]]))
    counts = [0, *runs.tolist()] if flat[0] else runs.tolist()
    return {"size": list(mask.shape), "counts": counts}


def instances(scene: Scene) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, without the ids of image and annotation.

    `bbox` is x, y, width and height of the visible part in pixels, `area` its number of pixels.
    """
    found = []
    for number, (label, crowd) in enumerate(zip(scene.labels, scene.crowds, strict=True), start=1):
        mask = scene.owner == number
        ys, xs = (
            np.flatnonzero(mask.any(axis=1)).tolist(),
            np.flatnonzero(mask.any(axis=0)).tolist(),
        )
        found.append(
            {
                "category_id": CATEGORY_IDS[label],
                "iscrowd": int(crowd),
                "bbox": [xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1],
                "area": int(mask.sum()),
                "segmentation": encode_rle(mask),
            }
        )
    return found


def label_map(scene: Scene) -> Array:
    """ADE20K's labels, uint8 (h, w): 0 = unlabelled, 1 = ground, 2 + k = class k.

    Unlabelled are the pixels on either side of an object's outline, as no label is right there.
    """
    owner = scene.owner
    numbers = np.array([1, *(2 + label for label in scene.labels)], dtype=np.uint8)[owner]
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    numbers[:, 1:][across] = numbers[:, :-1][across] = 0
    numbers[1:][down] = numbers[:-1][down] = 0
    return numbers


def _write_split(root: Path, config: ScenesConfig, split: str) -> tuple[str, Array]:
    """Write one split of both trees.

    Returns the sha256 of what was drawn, which does not depend on the JPEG encoder, and (2, N+1)
    the number of pixels and of images of every label.
    """
    photos, images, maps = _folders(root, split)
    sha, seen = hashlib.sha256(), np.zeros((2, len(ADE20K_CLASSES) + 1), dtype=np.int64)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(getattr(config, split)):
        scene, number = render(config, split, index), index + 1
        labels, found = label_map(scene), instances(scene)
        photo, stem = photos / f"{number:012d}.jpg", f"ADE_{photos.name[:-4]}_{number:08d}"
        Image.fromarray(scene.pixels).save(photo, quality=QUALITY)
        shutil.copyfile(photo, images / f"{stem}.jpg")
        Image.fromarray(labels).save(maps / f"{stem}.png")
        height, width = scene.owner.shape
        entries.append({"id": number, "file_name": photo.name, "height": height, "width": width})
        for entry in found:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
        sha.update(scene.pixels.tobytes() + labels.tobytes() + json.dumps(found).encode())
        pixels = np.bincount(labels.ravel(), minlength=seen.shape[1])
        seen += np.stack([pixels, pixels > 0])
    text = json.dumps(_coco(entries, annotations))
    (root / "coco" / "annotations" / f"instances_{photos.name}.json").write_text(text)
    return sha.hexdigest(), seen


def _folders(root: Path, split: str) -> tuple[Path, Path, Path]:
    """New folders of a split: COCO's images, ADE20K's images and ADE20K's label maps."""
    name = ADE20K_SPLITS[split]
    photos = root / "coco" / COCO_SPLITS[split]
    images, maps = root / "ade20k" / "images" / name, root / "ade20k" / "annotations" / name
    for folder in (photos, images, maps):
        folder.mkdir(parents=True)
    (root / "coco" / "annotations").mkdir(exist_ok=True)
    return photos, images, maps


def _coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of one of COCO's annotation files."""
    licence = {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
    names = zip(CATEGORY_IDS, CLASSES, strict=True)
    return {
        "info": {"description": "sslbench scenes", "version": VERSION},
        "licenses": [licence],
        "images": [{**image, "license": 1} for image in images],
        "annotations": annotations,
        "categories": [{"id": k, "name": name, "supercategory": "shape"} for k, name in names],
    }


def _object_info(train: Array, validation: Array) -> str:
    """ADE20K's list of classes; arguments as `_write_split` counts them."""
    pixels = (train[0] + validation[0])[1:]
    share = pixels / max(int(pixels.sum()), 1)
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    for k, name in enumerate(ADE20K_CLASSES, start=1):
        counts = f"{train[1][k]}\t{validation[1][k]}"
        lines.append(f"{k}\t{share[k - 1]:.4f}\t{counts}\t{int(k == 1)}\t{name}")
    return "\n".join(lines) + "\n"


def generate(root: Path, config: ScenesConfig | None = None) -> Path:
    """Write the trees `root/coco` and `root/ade20k` of the same images, with a manifest.

    Returns `root`. What is there already, and how files appear, is as in `generated.publish`.
    """
    config = config or ScenesConfig()

    def write(draft: Path) -> dict[str, Any]:
        written = {split: _write_split(draft, config, split) for split in SPLITS}
        info = _object_info(written["train"][1], written["validation"][1])
        (draft / "ade20k" / f"objectInfo{len(ADE20K_CLASSES)}.txt").write_text(info)
        return {"sha256": {split: sha for split, (sha, _) in written.items()}}

    return publish(root, identity("scenes", VERSION, config), write)
