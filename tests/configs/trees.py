"""COCO and ADE20K trees of a few images in the size of photographs: noise and rectangles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT, PER_IMAGE = 640, 480, 4
COCO_IDS = (1, 18, 44, 90)  # of COCO's 80 ids, which have gaps


def write_coco(root: Path, train: int = 2, test: int = 1) -> Path:
    """`root` as a COCO tree with every one of the 80 categories named."""
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO["classes"]
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", train), ("val", test)):
        folder = root / f"{split}2017"
        folder.mkdir()
        images, annotations = [], []
        for index in range(count):
            pixels, boxes = _scene(seed=index)
            file_name = f"{index + 1:012d}.jpg"
            Image.fromarray(pixels).save(folder / file_name)
            size = {"width": WIDTH, "height": HEIGHT}
            images.append({"id": index + 1, "file_name": file_name, **size})
            for box, category in zip(boxes, COCO_IDS, strict=True):
                number = len(annotations) + 1
                annotations.append(_annotation(number, index + 1, category, box))
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))
    return root


def write_ade20k(root: Path, train: int = 2, test: int = 1) -> Path:
    """`root` as an ADE20K tree; rectangles and ground are labelled, a rim of 20 px is not."""
    for split, count in (("training", train), ("validation", test)):
        images, labels = root / "images" / split, root / "annotations" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            pixels, boxes = _scene(seed=index)
            label = np.full((HEIGHT, WIDTH), 150, np.uint8)
            for value, (x, y, w, h) in enumerate(boxes, start=1):
                label[y : y + h, x : x + w] = value
            rim = np.zeros_like(label)
            rim[20:-20, 20:-20] = label[20:-20, 20:-20]
            Image.fromarray(pixels).save(images / f"{index}.jpg")
            Image.fromarray(rim).save(labels / f"{index}.png")
    return root


def _scene(seed: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """(HEIGHT, WIDTH, 3) noise, and the (x, y, w, h) of rectangles of one colour each in it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes = []
    for _ in range(PER_IMAGE):
        w, h = (int(v) for v in rng.integers(60, 250, 2))
        x, y = int(rng.integers(0, WIDTH - w)), int(rng.integers(0, HEIGHT - h))
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        boxes.append((x, y, w, h))
    return pixels, boxes


def _annotation(
    number: int, image: int, category: int, box: tuple[int, int, int, int]
) -> dict[str, Any]:
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }
