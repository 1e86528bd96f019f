"""The embedded dense set: scenes of several objects, as a COCO and as an ADE20K tree.

A scene shows five to ten outlines of `shapes` on dark clouds. In three of four scenes all have one
class, so that the surroundings of an object are informative, as in `shapes`. Objects hide one
another, and only their visible parts are annotated; in some scenes a crowd (small overlapping
copies of one class) is one annotation with `iscrowd`. The clutter dots belong to the ground.
Relative to a patch of a ViT, an object is about one and a half times as large as in `shapes`. A
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
    image_rng,
    integer,
    paint,
    with_noise,
)

VERSION = "1"
COCO_SPLITS = {"train": "train2017", "validation": "val2017", "test": "test2017"}
ADE20K_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
ADE20K_CLASSES = ("ground", *CLASSES)
CATEGORY_IDS = tuple(k + k // 4 + 1 for k in range(len(CLASSES)))  # with gaps, like COCO's

BLOCK = 16  # separates the random streams of scenes from those of shapes
COUNT = (5, 10)  # objects per scene, inclusive
SINGLE = 0.75  # share of scenes whose objects are all of one class; the others mix two
RADIUS = (0.055, 0.115)  # radius of the disk of equal area, relative to the side
MARGIN = 0.08  # least distance of a centre from the frame, relative to the side
VISIBLE = (0.3, 0.9)  # least share of an object's area that stays visible, drawn per object
ATTEMPTS = 20  # positions tried for an object before it is left out
CROWDED = 0.15  # share of scenes with a crowd
COPIES = (5, 8)  # per crowd, inclusive
COPY_RADIUS = (0.036, 0.05)  # of one copy in a crowd
SPREAD = 0.085  # largest distance of a copy from the centre of its crowd, along either axis
OBLONG = 0.25  # share of scenes that are not square
CUT = 0.75  # length of their shorter side, relative to the longer one
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
    """A rendered scene.

    pixels: uint8 (h, w, 3); owner: (h, w), the number of the object visible at each pixel, from 1,
    or 0 for the ground; labels: the objects' class numbers; crowds: which objects are crowds.
    """

    pixels: Array
    owner: Array
    labels: tuple[int, ...]
    crowds: tuple[bool, ...]


@dataclass
class _Canvas:
    """An unfinished scene: `image` (h, w, 3) in [0, 1], the rest as in `Scene`."""

    side: int
    classes: tuple[int, ...]  # class numbers to draw from
    image: Array
    owner: Array
    labels: list[int] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    min_visible: list[float] = field(default_factory=list)  # pixels of each object

    def add(self, rng: np.random.Generator, crowd: bool) -> None:
        """Draw one more object, or crowd, where all others stay visible enough."""
        label = self.classes[integer(rng, (0, len(self.classes) - 1))]
        share = between(rng, VISIBLE)
        for _ in range(ATTEMPTS):
            masks, area = self._copies(rng, CLASSES[label], crowd)
            owner = np.where(np.max(masks, axis=0) >= 0.5, len(self.labels) + 1, self.owner)
            min_visible = [*self.min_visible, share * area]
            visible = np.bincount(owner.ravel(), minlength=len(min_visible) + 1)[1:]
            if (visible >= min_visible).all():
                break
        else:
            return
        for mask in masks:
            paint(rng, self.image, mask)
        self.owner, self.min_visible = owner, min_visible
        self.labels.append(label)
        self.crowds.append(crowd)

    def _copies(
        self, rng: np.random.Generator, shape: str, crowd: bool
    ) -> tuple[list[Array], float]:
        """Return the coverage (h, w) of each copy (one if not a crowd), and the sum of areas."""
        height, width = self.owner.shape
        margin = MARGIN * self.side
        centre = margin + rng.random(2) * (np.array([width, height]) - 2.0 * margin)
        masks, area = [], 0.0
        for _ in range(integer(rng, COPIES) if crowd else 1):
            shift = self.side * SPREAD * (2.0 * rng.random(2) - 1.0) if crowd else 0.0
            radius = self.side * between(rng, COPY_RADIUS if crowd else RADIUS)
            angle = np.deg2rad(ROTATION) * (2.0 * rng.random() - 1.0)
            mask = coverage(shape, tuple(centre + shift), radius, angle, self.side)
            masks.append(mask[:height, :width])
            area += np.pi * radius**2
        return masks, area


def render(config: ScenesConfig, split: str, index: int) -> Scene:
    """Render scene `index` of a split."""
    side = config.image_size
    rng = image_rng(config.seed, BLOCK + SPLITS.index(split), index)
    shape = rng.random() / OBLONG  # below 0.5 landscape, below 1 portrait, else square
    height = round(side * CUT) if shape < 0.5 else side
    width = round(side * CUT) if 0.5 <= shape < 1.0 else side
    image = backdrop(rng, side)[:height, :width]
    class_count = 1 if rng.random() < SINGLE else 2
    classes = tuple(int(k) for k in rng.permutation(len(CLASSES))[:class_count])
    canvas = _Canvas(side, classes, image, np.zeros((height, width), dtype=np.int64))
    count = integer(rng, COUNT)
    crowd = integer(rng, (0, count)) if rng.random() < CROWDED else -1  # its place in the order
    for k in range(count + (crowd >= 0)):
        canvas.add(rng, k == crowd)
    pixels = with_noise(rng, canvas.image)
    return Scene(pixels, canvas.owner, tuple(canvas.labels), tuple(canvas.crowds))


def encode_rle(mask: Array) -> dict[str, list[int]]:
    """Return COCO's uncompressed run lengths of a mask (h, w): column by column, zeros first."""
    flat = mask.T.ravel().astype(bool)
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], change, [flat.size]]))
    counts = [0, *runs.tolist()] if flat[0] else runs.tolist()
    return {"size": list(mask.shape), "counts": counts}


def instances(scene: Scene) -> list[dict[str, Any]]:
    """Return COCO's annotations of a scene, without the ids of image and annotation.

    `bbox` is x, y, width and height of the visible part in pixels, `area` its number of pixels.
    """
    annotations = []
    for number, (label, crowd) in enumerate(zip(scene.labels, scene.crowds, strict=True), start=1):
        mask = scene.owner == number
        ys, xs = (
            np.flatnonzero(mask.any(axis=1)).tolist(),
            np.flatnonzero(mask.any(axis=0)).tolist(),
        )
        annotations.append(
            {
                "category_id": CATEGORY_IDS[label],
                "iscrowd": int(crowd),
                "bbox": [xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1],
                "area": int(mask.sum()),
                "segmentation": encode_rle(mask),
            }
        )
    return annotations


def label_map(scene: Scene) -> Array:
    """Return ADE20K's labels, uint8 (h, w): 0 = unlabelled, 1 = ground, 2 + k = class k.

    Pixels on either side of an object's outline are unlabelled, because they are mixed.
    """
    owner = scene.owner
    numbers = np.array([1, *(2 + label for label in scene.labels)], dtype=np.uint8)[owner]
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    numbers[:, 1:][across] = numbers[:, :-1][across] = 0
    numbers[1:][down] = numbers[:-1][down] = 0
    return numbers


def _write_split(root: Path, config: ScenesConfig, split: str) -> tuple[str, Array]:
    """Write one split of both trees.

    Returns the SHA-256 of the rendered pixels and annotations, which does not depend on the JPEG
    encoder, and the number of pixels and of images with every label, (2, N+1).
    """
    photos, images, maps = _folders(root, split)
    sha, counts = hashlib.sha256(), np.zeros((2, len(ADE20K_CLASSES) + 1), dtype=np.int64)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(getattr(config, split)):
        scene, number = render(config, split, index), index + 1
        labels, objects = label_map(scene), instances(scene)
        photo, stem = photos / f"{number:012d}.jpg", f"ADE_{photos.name[:-4]}_{number:08d}"
        Image.fromarray(scene.pixels).save(photo, quality=QUALITY)
        shutil.copyfile(photo, images / f"{stem}.jpg")
        Image.fromarray(labels).save(maps / f"{stem}.png")
        height, width = scene.owner.shape
        entries.append({"id": number, "file_name": photo.name, "height": height, "width": width})
        for entry in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
        sha.update(scene.pixels.tobytes() + labels.tobytes() + json.dumps(objects).encode())
        pixels = np.bincount(labels.ravel(), minlength=counts.shape[1])
        counts += np.stack([pixels, pixels > 0])
    text = json.dumps(_coco(entries, annotations))
    (root / "coco" / "annotations" / f"instances_{photos.name}.json").write_text(text)
    return sha.hexdigest(), counts


def _folders(root: Path, split: str) -> tuple[Path, Path, Path]:
    """Create the folders of a split: COCO's images, ADE20K's images and ADE20K's label maps."""
    name = ADE20K_SPLITS[split]
    photos = root / "coco" / COCO_SPLITS[split]
    images, maps = root / "ade20k" / "images" / name, root / "ade20k" / "annotations" / name
    for folder in (photos, images, maps):
        folder.mkdir(parents=True)
    (root / "coco" / "annotations").mkdir(exist_ok=True)
    return photos, images, maps


def _coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a COCO annotation file."""
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
    """Return ADE20K's list of classes; arguments: the counts that `_write_split` returns."""
    pixels = (train[0] + validation[0])[1:]
    share = pixels / max(int(pixels.sum()), 1)
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    for k, name in enumerate(ADE20K_CLASSES, start=1):
        counts = f"{train[1][k]}\t{validation[1][k]}"
        lines.append(f"{k}\t{share[k - 1]:.4f}\t{counts}\t{int(k == 1)}\t{name}")
    return "\n".join(lines) + "\n"


def generate(root: Path, config: ScenesConfig | None = None) -> Path:
    """Write the trees `root/coco` and `root/ade20k` of the same images, with a manifest.

    Returns `root`. See `generated.publish` for existing files.
    """
    config = config or ScenesConfig()

    def write(draft: Path) -> dict[str, Any]:
        written = {split: _write_split(draft, config, split) for split in SPLITS}
        info = _object_info(written["train"][1], written["validation"][1])
        (draft / "ade20k" / f"objectInfo{len(ADE20K_CLASSES)}.txt").write_text(info)
        return {"sha256": {split: sha for split, (sha, _) in written.items()}}

    return publish(root, identity("scenes", VERSION, config), write)
