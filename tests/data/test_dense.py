"""Annotated trees: good ones open, and every defect is one sentence that shows the tree."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sslbench.benchmarks.dense import install
from sslbench.data import ade20k, checks, coco, dense
from sslbench.data.dense import open_dense, open_scenes
from sslbench.data.scenes import ADE20K_CLASSES, CATEGORY_IDS, ScenesConfig
from sslbench.data.shapes import CLASSES
from sslbench.errors import UserError

SMALL = ScenesConfig(train=4, validation=2, test=3)
TRAIN = "annotations/instances_train2017.json"
FIRST = "train2017/000000000001.jpg"
STEM = "ADE_train_00000001"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    open_scenes("coco", "test", SMALL, root)
    return root


@pytest.fixture
def coco_tree(cache, tmp_path):
    return shutil.copytree(cache / "scenes-v1" / "coco", tmp_path / "tree")


@pytest.fixture
def ade20k_tree(cache, tmp_path):
    return shutil.copytree(cache / "scenes-v1" / "ade20k", tmp_path / "maps")


def rewrite(root, change, name=TRAIN):
    content = json.loads((root / name).read_text())
    content = change(content) or content
    (root / name).write_text(json.dumps(content))


def refused(kind, root, match, split="test"):
    with pytest.raises(UserError, match=match) as error:
        open_dense(kind, root, split)
    sentence = str(error.value)
    assert getattr(dense, kind).TREE in sentence and sentence.endswith(".")
    assert "\n" not in sentence and str(root) in sentence


def test_the_embedded_scenes_have_three_splits(cache):
    data = open_scenes("coco", "test", SMALL, cache)
    assert (data.kind, data.name, data.split) == ("coco", "shapes-coco", "test")
    assert data.classes == CLASSES and (data.train.count, data.test.count) == (4, 3)
    assert data.train.annotations.is_file() and data.train.images.is_dir()
    other = open_scenes("coco", "validation", SMALL, cache)
    assert other.test.count == 2 and other.train == data.train
    maps = open_scenes("ade20k", "validation", SMALL, cache)
    assert (maps.name, maps.classes, maps.test.count) == ("shapes-ade20k", ADE20K_CLASSES, 2)
    assert len({d.fingerprint for d in (data, other, maps)}) == 3
    assert open_scenes("coco", "test", SMALL, cache) == data


def test_the_name_shapes_opens_the_scenes_of_the_cache(cache, monkeypatch):
    monkeypatch.setenv("SSLBENCH_HOME", str(cache))
    monkeypatch.setattr(dense.scenes, "ScenesConfig", lambda: SMALL)
    assert open_dense("coco", "shapes") == open_scenes("coco", "test", SMALL, cache)


@pytest.mark.parametrize("kind", ["coco", "ade20k"])
def test_fingerprints_follow_the_content_and_not_the_place(cache, tmp_path, kind):
    first = shutil.copytree(cache / "scenes-v1" / kind, tmp_path / "a")
    second = shutil.copytree(first, tmp_path / "b")
    one, two = open_dense(kind, first), open_dense(kind, second)
    assert one.fingerprint == two.fingerprint and one.name == kind
    assert one.test.images.is_absolute() and one.test != two.test
    photo = next(iter(two.train.images.iterdir()))
    photo.write_bytes(photo.read_bytes() + b"x")
    assert open_dense(kind, second).fingerprint != one.fingerprint


def test_val_is_judged_on_where_there_is_no_test(cache, coco_tree, ade20k_tree):
    (coco_tree / "annotations/instances_test2017.json").unlink()  # as in COCO itself
    shutil.rmtree(ade20k_tree / "annotations/test")
    for kind, tree in (("coco", coco_tree), ("ade20k", ade20k_tree)):
        data = open_dense(kind, tree)
        assert data.split == "test" and data.test == open_dense(kind, tree, "validation").test
        assert data.test.count == 2


def test_paths_may_be_relative_or_begin_with_a_tilde(coco_tree, monkeypatch):
    monkeypatch.chdir(coco_tree.parent)
    monkeypatch.setenv("HOME", str(coco_tree.parent))
    data = open_dense("coco", str(coco_tree))
    assert open_dense("coco", coco_tree.name) == open_dense("coco", "~/tree") == data


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UserError, match=r"kind of data 'cocoa': did you mean 'coco'"):
        open_dense("cocoa", "shapes")
    with pytest.raises(UserError, match=r"split 'train' to judge on"):
        open_dense("coco", "shapes", "train")
    refused("coco", tmp_path / "none", r"none does not exist, nor is it 'shapes'")


def drop(table, key):
    def change(content):
        del content[table][1][key]

    return change


def put(table, index, **values):
    return lambda content: content[table][index].update(values)


def widen(content):
    content["images"][0]["width"] = 777
    for entry in content["annotations"]:  # run-length codes name the size, too
        entry["segmentation"] = [[1, 2, 30, 2, 30, 20]]


COCO_DEFECTS = {
    "no list": (lambda c: c.pop("categories") and None, "has no list of categories"),
    "an empty list": (lambda c: c["images"].clear(), "has no list of images"),
    "another document": (lambda c: [1], "has no list of categories"),
    "no object": (lambda c: c["images"].append(3), r"images\[4\] in .* is not an object"),
    "no file name": (drop("images", "file_name"), r"images\[1\] .* no valid 'file_name'"),
    "no category": (drop("annotations", "category_id"), r"\[1\] .* no valid 'category_id'"),
    "no crowd flag": (drop("annotations", "iscrowd"), r"\[1\] .* no valid 'iscrowd'"),
    "no mask": (drop("annotations", "segmentation"), r"\[1\] .* no valid 'segmentation'"),
    "an empty mask": (put("annotations", 2, segmentation=[]), r"\[2\] .* 'segmentation'"),
    "a text as id": (put("images", 0, id="1"), r"images\[0\] .* no valid 'id'"),
    "an image twice": (put("images", 1, id=1), "two entries with image id 1"),
    "a category twice": (put("categories", 1, id=1), "two entries with category id 1"),
    "a class twice": (put("categories", 1, name="disk"), "two categories of the same name"),
    "an annotation twice": (put("annotations", 1, id=1), "two entries with annotation id 1"),
    "an unknown image": (put("annotations", 0, image_id=99), "Annotation 1 .* of image 99, which"),
    "an unknown category": (put("annotations", 0, category_id=5), "the unknown category 5"),
    "three numbers": (put("annotations", 0, bbox=[1, 2, 3]), r"has the box \[1, 2, 3\] instead"),
    "no number": (put("annotations", 0, bbox=[1, 2, 3, float("nan")]), r"the box \[1, 2, 3, nan\]"),
    "a wide mask": (
        put("annotations", 0, segmentation={"size": [128, 999], "counts": [0]}),
        r"a mask of 128x999 pixels on an image of \d+x\d+",
    ),
    "no width": (put("annotations", 0, bbox=[5, 5, 0, 9]), r"1 of the \d+ .* more than one in a"),
    "a box outside": (put("annotations", 3, bbox=[500, 5, 9, 9]), r"annotation 4 with the box"),
    "no area": (put("annotations", 0, area=0), "are degenerate"),
    "no polygon": (put("annotations", 0, segmentation=[[1, 2, 3, 4]]), "an empty mask"),
    "another size": (widen, r"000001\.jpg has \d+ x \d+ pixels, not 777 x"),
    "another name": (put("images", 0, file_name="x.jpg"), r"x\.jpg, named in .* does not exist"),
    "other classes": (put("categories", 0, name="egg"), "are not those in .* in the same order"),
}


@pytest.mark.parametrize("name", COCO_DEFECTS)
def test_defects_of_annotation_files_are_named(coco_tree, name):
    change, match = COCO_DEFECTS[name]
    rewrite(coco_tree, change)
    refused("coco", coco_tree, match)


def test_defects_of_coco_folders_are_named(coco_tree):
    (coco_tree / FIRST).write_bytes(b"no image")
    refused("coco", coco_tree, r"000001\.jpg cannot be read")
    (coco_tree / FIRST).unlink()
    refused("coco", coco_tree, r"000001\.jpg, named in .*train2017\.json, does not exist")
    shutil.rmtree(coco_tree / "train2017")
    refused("coco", coco_tree, r"train2017 does not exist")
    (coco_tree / TRAIN).write_text('{"images": [')
    shutil.copytree(coco_tree / "val2017", coco_tree / "train2017")
    refused("coco", coco_tree, r"train2017\.json is not JSON \(")
    (coco_tree / TRAIN).unlink()
    refused("coco", coco_tree, r"annotations has no file instances_train2017\.json")
    shutil.rmtree(coco_tree / "annotations")
    refused("coco", coco_tree, r"annotations has no file instances_train2017\.json")


def many_boxes(content):
    entry = content["annotations"][0]
    x, y = entry["bbox"][:2]
    content["annotations"] = [{**entry, "id": k, "bbox": [x, y, 9.5, 8]} for k in range(3000)]


def test_a_few_degenerate_boxes_among_thousands_are_as_in_coco(coco_tree):
    rewrite(coco_tree, many_boxes)
    for index in (0, 1000, 2999):
        rewrite(coco_tree, put("annotations", index, bbox=[296.65, 388.33, 1.03, 0.0], area=0.0))
    assert open_dense("coco", coco_tree).train.count == 4
    rewrite(coco_tree, put("annotations", 5, bbox=[0, 0, 0.2, 0.2]))
    refused("coco", coco_tree, r"4 of the 3000 .* \(first: annotation 0 with the box \[296\.65")


def test_what_coco_holds_besides_is_accepted(coco_tree):
    def change(content):
        keep = content["annotations"]
        content["annotations"] = [a for a in keep if a["image_id"] != 2]  # an image without any
        content["annotations"][0]["segmentation"] = [[1, 2, 30, 2, 30, 20, 1.5, 20.5]]
        mask = content["annotations"][1]["segmentation"]
        content["annotations"][1]["segmentation"] = {"size": mask["size"], "counts": "c0n"}
        content["annotations"][2]["bbox"] = [-1, -1, 40.5, 33]  # partly outside
        content["images"][1]["file_name"] = "deeper/2.jpg"

    (coco_tree / "train2017/deeper").mkdir()
    (coco_tree / "train2017/000000000002.jpg").rename(coco_tree / "train2017/deeper/2.jpg")
    rewrite(coco_tree, change)
    assert open_dense("coco", coco_tree).train.count == 4


def test_classes_follow_the_order_of_the_file(coco_tree):
    for split in ("train", "test"):
        name = f"annotations/instances_{split}2017.json"
        rewrite(coco_tree, lambda content: content["categories"].reverse(), name)
    assert open_dense("coco", coco_tree).classes == CLASSES[::-1]


def repaint(path, change):
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(change(pixels)).save(path)


def set_label(pixels):
    pixels[3, 5] = 12
    return pixels


MAP_DEFECTS = {
    "another size": (lambda p: p[:-1, :-2], r"has \d+ x \d+ pixels, but its image has"),
    "colours": (lambda p: np.stack([p] * 3, axis=-1), "cannot be read as a PNG .* one 8-bit"),
    "16 bits": (lambda p: p.astype(np.uint16), "cannot be read as a PNG .* one 8-bit"),
    "a label too high": (set_label, "has the label 12 of 11 classes"),
}


@pytest.mark.parametrize("name", MAP_DEFECTS)
def test_defects_of_label_maps_are_named(ade20k_tree, name):
    change, match = MAP_DEFECTS[name]
    repaint(ade20k_tree / f"annotations/training/{STEM}.png", change)
    refused("ade20k", ade20k_tree, match)


def test_defects_of_ade20k_folders_are_named(ade20k_tree):
    labels = ade20k_tree / f"annotations/training/{STEM}.png"
    photo = ade20k_tree / f"images/training/{STEM}.jpg"
    good, bytes_ = labels.read_bytes(), photo.read_bytes()
    labels.write_bytes(good[:60])
    refused("ade20k", ade20k_tree, "cannot be read as a PNG")
    labels.unlink()
    refused("ade20k", ade20k_tree, rf"{STEM}\.jpg has no label map .* \(4 images, 3 label maps\)")
    labels.write_bytes(good)
    photo.write_bytes(b"no image")
    refused("ade20k", ade20k_tree, rf"{STEM}\.jpg cannot be read")
    photo.rename(photo.with_name("other.jpg"))
    refused("ade20k", ade20k_tree, r"other\.jpg has no label map other\.png")
    photo.with_name("other.jpg").unlink()
    refused("ade20k", ade20k_tree, rf"{STEM}\.png has no image .* \(3 images, 4 label maps\)")
    photo.write_bytes(bytes_)
    assert open_dense("ade20k", ade20k_tree).train.count == 4
    shutil.rmtree(ade20k_tree / "images/training")
    refused("ade20k", ade20k_tree, "images/training does not exist")
    (ade20k_tree / "images/training").mkdir()
    refused("ade20k", ade20k_tree, r"images/training contains no \.jpg images")
    shutil.rmtree(ade20k_tree / "annotations")
    refused("ade20k", ade20k_tree, "annotations has no folder training")


def test_classes_of_ade20k_come_from_its_list(ade20k_tree):
    (ade20k_tree / "objectInfo11.txt").unlink()
    data = open_dense("ade20k", ade20k_tree)
    assert len(data.classes) == 150 and data.classes[149] == "class 150"
    rows = "1\t0.2\t3\t4\t1\tbuilding, edifice \r\n2 \t0.1\t3\t4\t0\tdoor;double door\r\n"
    (ade20k_tree / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\r\n" + rows)
    refused("ade20k", ade20k_tree, "the label .* of 2 classes")
    for path in (ade20k_tree / "annotations").glob("*/*.png"):
        repaint(path, lambda pixels: np.minimum(pixels, 2))
    assert open_dense("ade20k", ade20k_tree).classes == ("building", "door")
    (ade20k_tree / "objectInfo150.txt").write_text("Idx Name\n1 wall\n")
    refused("ade20k", ade20k_tree, r"objectInfo150\.txt is not a header and tab-separated")


def test_the_archive_of_ade20k_has_a_folder_of_its_own(ade20k_tree, tmp_path):
    plain = open_dense("ade20k", ade20k_tree)
    (tmp_path / "data").mkdir()
    ade20k_tree.rename(tmp_path / "data" / ade20k.INNER)
    nested = open_dense("ade20k", tmp_path / "data")
    assert nested.fingerprint == plain.fingerprint and nested.classes == plain.classes
    assert nested.train.images == tmp_path / "data" / ade20k.INNER / "images/training"


def test_large_splits_are_read_at_equal_distances():
    chosen = checks.evenly(range(20210))
    assert len(chosen) == checks.SAMPLE and chosen[0] == 0 and chosen[-1] > 20000
    assert set(np.diff(chosen)) == {40, 41}
    assert checks.evenly("abc") == ["a", "b", "c"] and checks.evenly([]) == []


def test_masks_are_dropped_while_the_file_is_parsed(coco_tree):
    content = coco._parsed(coco_tree / TRAIN)
    kinds = {entry["segmentation"] for entry in content["annotations"]}
    assert kinds <= {"128x128", "96x128", "128x96"}


@pytest.mark.slow
def test_mmdet_reads_the_coco_tree(cache):
    install()
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    data = open_scenes("coco", "test", SMALL, cache)
    read = CocoDataset(
        ann_file=str(data.train.annotations),
        data_prefix={"img": str(data.train.images)},
        metainfo={"classes": data.classes},
        pipeline=[],
    )
    content = json.loads(data.train.annotations.read_text())
    assert len(read) == data.train.count
    for index in range(len(read)):
        item = read.get_data_info(index)
        entries = [a for a in content["annotations"] if a["image_id"] == item["img_id"]]
        labels = [CATEGORY_IDS[k["bbox_label"]] for k in item["instances"]]
        assert labels == [entry["category_id"] for entry in entries]
        item["ori_shape"] = (item["height"], item["width"])
        masks = LoadAnnotations(with_mask=True)(item)["gt_masks"].masks
        assert masks.sum(axis=(1, 2)).tolist() == [entry["area"] for entry in entries]
        assert item["gt_ignore_flags"].tolist() == [bool(e["iscrowd"]) for e in entries]


@pytest.mark.slow
def test_mmseg_reads_the_ade20k_tree(cache):
    install()
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import LoadAnnotations

    data = open_scenes("ade20k", "test", SMALL, cache)
    read = BaseSegDataset(
        data_prefix={"img_path": str(data.test.images), "seg_map_path": str(data.test.annotations)},
        metainfo={"classes": data.classes},
        reduce_zero_label=True,
        pipeline=[LoadAnnotations()],
    )
    assert len(read) == data.test.count
    for index in range(len(read)):
        labels = read[index]["gt_seg_map"]
        assert set(np.unique(labels)) <= {*range(len(data.classes)), 255}
        assert np.mean(labels == 0) > 0.5 and 0 < np.mean(labels == 255) < 0.3
