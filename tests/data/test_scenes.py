"""The embedded scenes: what is annotated is what is seen, and both trees say the same."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as codec
from scipy import ndimage

from sslbench.data.scenes import (
    ADE20K_CLASSES,
    CATEGORY_IDS,
    COUNT,
    RADIUS,
    SINGLE,
    SPLITS,
    ScenesConfig,
    encode_rle,
    generate,
    instances,
    label_map,
    render,
)
from sslbench.data.shapes import CLASSES

SMALL = ScenesConfig(train=4, validation=2, test=3)
CROSS = ndimage.generate_binary_structure(2, 1)  # a pixel and its four neighbours
scenes = st.builds(
    render,
    st.builds(ScenesConfig, seed=st.integers(0, 2**31)),
    st.sampled_from(SPLITS),
    st.integers(0, 2**31),
)


@pytest.fixture(scope="module")
def many():
    return [render(ScenesConfig(), "train", index) for index in range(200)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("scenes") / "scenes", SMALL)


def decoded(rle):
    """The mask of an uncompressed run-length code."""
    runs = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    return runs.reshape(rle["size"][::-1]).T.astype(bool)


def inside(scene):
    """Pixels all of whose neighbours belong to the same object or the ground as they do."""
    owner = scene.owner
    low = ndimage.minimum_filter(owner, footprint=CROSS, mode="nearest")
    return low == ndimage.maximum_filter(owner, footprint=CROSS, mode="nearest")


def test_scenes_are_the_same_on_every_machine():
    sha = hashlib.sha256()
    for split in SPLITS:
        for index in range(8):
            scene = render(ScenesConfig(), split, index)
            sha.update(scene.pixels.tobytes() + scene.owner.astype(np.uint8).tobytes())
            sha.update(repr((scene.labels, scene.crowds)).encode())
    assert sha.hexdigest()[:16] == "5768015e4150b64c"


def test_a_scene_depends_on_seed_split_and_index():
    images = [
        render(config, split, index).pixels.tobytes()
        for config in (SMALL, ScenesConfig(seed=1))
        for split in SPLITS
        for index in (0, 10)
    ]
    assert len(set(images)) == len(images)


@settings(max_examples=60)
@given(scenes)
def test_annotations_describe_the_visible_parts(scene):
    found = instances(scene)
    masks = np.array([decoded(entry["segmentation"]) for entry in found])
    assert 1 <= len(found) <= COUNT[1] + 1 and masks.shape[1:] == scene.pixels.shape[:2]
    assert np.array_equal(masks.sum(axis=0), scene.owner > 0)  # disjoint, and nothing is left out
    for entry, mask, label, crowd in zip(found, masks, scene.labels, scene.crowds, strict=True):
        x, y, w, h = entry["bbox"]
        box = mask[y : y + h, x : x + w]
        assert entry["area"] == mask.sum() == box.sum() > 0
        assert all(edge.any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))  # tight
        assert entry["category_id"] == CATEGORY_IDS[label] and entry["iscrowd"] == crowd


@settings(max_examples=60)
@given(scenes)
def test_label_maps_agree_with_the_masks_off_their_outlines(scene):
    labels, off = label_map(scene), inside(scene)
    assert (labels[~off] == 0).all() and (labels[off] > 0).all()
    wanted = np.array([ADE20K_CLASSES.index(CLASSES[k]) + 1 for k in scene.labels])
    seen = off & (scene.owner > 0)
    assert np.array_equal(labels[seen], wanted[scene.owner[seen] - 1])
    assert (labels[off & (scene.owner == 0)] == 1 + ADE20K_CLASSES.index("ground")).all()


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_are_those_of_pycocotools(mask):
    rle = encode_rle(mask)
    assert json.loads(json.dumps(rle)) == rle
    assert np.array_equal(decoded(rle), mask)
    packed = codec.frPyObjects(rle, *rle["size"])
    assert np.array_equal(codec.decode(packed), mask)
    assert packed["counts"] == codec.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_masks_lie_on_what_is_bright(many):
    for scene in many[:50]:
        bright = scene.pixels @ np.array([0.299, 0.587, 0.114]) > 0.46 * 255
        off = inside(scene)
        assert bright[off & (scene.owner > 0)].mean() > 0.99
        assert bright[off & (scene.owner == 0)].mean() < 0.02  # clutter


def test_classes_are_balanced_and_most_scenes_have_one(many):
    counts = np.bincount([k for scene in many for k in scene.labels], minlength=len(CLASSES))
    assert (np.abs(counts / counts.sum() - 0.1) < 0.04).all()
    kinds = np.bincount([len(set(scene.labels)) for scene in many])
    assert len(kinds) == 3 and abs(kinds[1] / len(many) - SINGLE) < 0.08


def test_scenes_hold_as_many_objects_as_they_should(many):
    counts = np.bincount([len(s.labels) - sum(s.crowds) for s in many])
    assert len(counts) - 1 == COUNT[1] and counts[: COUNT[0]].sum() < 0.05 * len(many)
    assert (counts[COUNT[0] :] > 0.05 * len(many)).all()


def test_objects_hide_one_another_and_the_frame_cuts_some(many):
    areas = [e["area"] for s in many for e in instances(s) if not e["iscrowd"]]
    smallest, largest = (np.pi * (radius * 128) ** 2 for radius in RADIUS)
    assert min(areas) > 0.25 * smallest and np.mean(np.array(areas) < 0.8 * smallest) > 0.005
    assert 0.9 * largest < max(areas) < 1.1 * largest < 32**2  # hence all small, as COCO has it
    rims = [np.mean(~inside(scene)[scene.owner > 0]) for scene in many]
    assert np.mean(rims) < 0.5  # most of an object's pixels are labelled
    near = [set(s.owner[ndimage.binary_dilation(s.owner == 1)].tolist()) - {0, 1} for s in many]
    assert np.mean([len(others) > 0 for others in near]) > 0.3
    framed = [(s.owner[0] > 0).any() or (s.owner[-1] > 0).any() for s in many]
    assert np.mean(framed) > 0.3


def test_crowds_holes_and_frames_occur(many):
    assert 0.08 < np.mean([any(scene.crowds) for scene in many]) < 0.25
    assert max(sum(scene.crowds) for scene in many) == 1
    masks = [s.owner == k + 1 for s in many[:30] for k in range(len(s.labels))]
    holes = [ndimage.binary_fill_holes(mask).sum() > mask.sum() for mask in masks]
    assert np.mean(holes) > 0.05
    frames = {scene.owner.shape for scene in many}
    assert frames == {(128, 128), (96, 128), (128, 96)}


def test_both_trees_hold_the_same_images(made):
    for coco, ade20k in (
        ("train2017", "training"),
        ("val2017", "validation"),
        ("test2017", "test"),
    ):
        photos = [p.read_bytes() for p in sorted((made / "coco" / coco).iterdir())]
        folder = made / "ade20k" / "images" / ade20k
        assert photos == [p.read_bytes() for p in sorted(folder.iterdir())]
    assert len(list((made / "coco").glob("*2017/*.jpg"))) == 9


def test_the_coco_file_says_what_is_drawn(made):
    content = json.loads((made / "coco/annotations/instances_test2017.json").read_text())
    assert [c["name"] for c in content["categories"]] == list(CLASSES)
    ids = [c["id"] for c in content["categories"]]
    assert ids == sorted(set(ids)) and ids != list(range(ids[0], ids[0] + len(ids)))
    wanted = [render(SMALL, "test", index) for index in range(3)]
    for scene, image in zip(wanted, content["images"], strict=True):
        height, width = scene.owner.shape
        assert (image["width"], image["height"]) == (width, height)
        with Image.open(made / "coco/test2017" / image["file_name"]) as photo:
            assert photo.size == (width, height)
            off = np.abs(np.asarray(photo).astype(int) - scene.pixels)
        assert off.mean() < 8
        entries = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert [{**a, "id": 0, "image_id": 0} for a in entries] == [
            {**a, "id": 0, "image_id": 0} for a in instances(scene)
        ]
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])


def test_the_ade20k_tree_says_what_is_drawn(made):
    paths = sorted((made / "ade20k/annotations/test").iterdir())
    for index, path in enumerate(paths):
        with Image.open(path) as labels:
            assert labels.mode == "L"
            assert np.array_equal(np.asarray(labels), label_map(render(SMALL, "test", index)))
    rows = (made / "ade20k/objectInfo11.txt").read_text().splitlines()
    names = [row.split("\t")[-1] for row in rows]
    assert names == ["Name", *ADE20K_CLASSES]
    assert float(rows[1].split("\t")[1]) > 0.6 and rows[1].split("\t")[2:5] == ["4", "2", "1"]


def test_scenes_are_generated_once(made, monkeypatch):
    monkeypatch.setattr("sslbench.data.scenes._write_split", None)
    assert generate(made, SMALL) == made
