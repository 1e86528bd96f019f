"""COCO trees: what is clearly meant is read, every other defect is one sentence."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslbench.data.dense import open_dense
from sslbench.data.shapes import CLASSES
from sslbench.errors import UserError
from tests.data.dense_trees import FIRST, TEST, TRAIN, copy_of, put, refused, rewrite


@pytest.fixture
def tree(tmp_path) -> Path:
    return copy_of("coco", tmp_path / "tree")


def drop(table, key):
    def change(content):
        del content[table][1][key]

    return change


def widen(content):
    content["images"][0]["width"] = 777
    for entry in content["annotations"]:  # run-length codes name the size, too
        entry["segmentation"] = [[1, 2, 30, 2, 30, 20]]


def mask(**changes):
    return put("annotations", 0, segmentation={"size": [128, 128], "counts": [16384], **changes})


DEFECTS = {
    "no list": (lambda c: c.pop("categories") and None, "has no list of categories"),
    "an empty list": (lambda c: c["images"].clear(), "has no list of images"),
    "another document": (lambda c: [1], "has no list of categories"),
    "no object": (lambda c: c["images"].append(3), r"images\[6\] in .* is not an object"),
    "no file name": (drop("images", "file_name"), r"images\[1\] .* no valid 'file_name'"),
    "no category": (drop("annotations", "category_id"), r"2 in .* no valid 'category_id'"),
    "no image": (drop("annotations", "image_id"), r"Annotation 2 in .* no valid 'image_id'"),
    "no box": (drop("annotations", "bbox"), r"Annotation 2 .* the box None instead of x, y"),
    "a text as id": (put("images", 0, id="1"), r"images\[0\] .* no valid 'id', but '1'"),
    "true as id": (put("images", 0, id=True), r"images\[0\] .* no valid 'id', but True"),
    "no id": (drop("images", "id"), r"images\[1\] .* no valid 'id'"),
    "no id of a category": (drop("categories", "id"), r"categories\[1\] .* no valid 'id'"),
    "a negative width": (put("images", 0, width=-4), r"images\[0\] .* no valid 'width', but -4"),
    "two crowds": (put("annotations", 0, iscrowd=2), "Annotation 1 .* no valid 'iscrowd', but 2"),
    "an area of NaN": (put("annotations", 0, area=float("nan")), "no valid 'area', but nan"),
    "an image twice": (put("images", 1, id=1), "Two entries .* the image id 1"),
    "a category twice": (put("categories", 1, id=1), "Two entries .* the category id 1"),
    "a class twice": (put("categories", 1, name="disk"), "Two categories .* have the same name"),
    "an unknown image": (put("annotations", 0, image_id=99), "Annotation 1 .* of image 99, which"),
    "an unknown category": (put("annotations", 0, category_id=5), "the unknown category 5"),
    "three numbers": (put("annotations", 0, bbox=[1, 2, 3]), r"has the box \[1, 2, 3\] instead"),
    "no number": (put("annotations", 0, bbox=[1, 2, 3, float("nan")]), r"the box \[1, 2, 3, nan\]"),
    "a text in a box": (put("annotations", 0, bbox=[1, 2, 3, "4"]), r"the box \[1, 2, 3, '4'\]"),
    "true in a box": (put("annotations", 0, bbox=[1, 2, True, 4]), r"the box \[1, 2, True, 4\]"),
    "an endless box": (put("annotations", 0, bbox=[0, 0, 1e300, 4]), "Annotation 1 .* far outside"),
    "an endless polygon": (
        put("annotations", 0, segmentation=[[1, 1, 1e300, 1, 30, 30]]),
        r"Annotation 1 .* a polygon from x = 1, y = 1 to x = 1e\+300, y = 30, far outside",
    ),
    "another mask's size": (mask(size=[128, 999], counts=[127872]), "a mask of 128 x 999 on an"),
    "runs that do not add up": (mask(counts=[5, 5, 5]), "Annotation 1 .* of 15 pixels in all"),
    "a polygon that is none": (
        put("annotations", 3, segmentation=[[1, 1, 30, 1, float("nan"), 30]]),
        r"Annotation 4 .* has polygon 0 \[1, 1, 30, 1, nan, 30\], whose numbers are not finite",
    ),
    "another size": (widen, r"000001\.jpg has \d+ x \d+ pixels, not 777 x"),
    "another name": (put("images", 0, file_name="x.jpg"), r"x\.jpg, named in .* does not exist"),
    "a folder": (put("images", 0, file_name="."), "is not a regular file"),
    "a way out": (
        put("images", 0, file_name="../test2017/000000000001.jpg"),
        r"names the image '\.\./test2017/000000000001\.jpg', which is not inside the folder",
    ),
    "an absolute path": (put("images", 0, file_name="/etc/hostname"), "is not inside the folder"),
    "a zero byte": (put("images", 0, file_name="a\0.jpg"), "is not inside the folder"),
    "other classes": (put("categories", 0, name="egg"), "are not those in .* in the same order"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_of_annotation_files_are_named(tree, name):
    change, match = DEFECTS[name]
    rewrite(tree, change)
    refused("coco", tree, match)


def test_defects_of_folders_are_named(tree):
    (tree / FIRST).unlink()
    refused("coco", tree, r"000001\.jpg, named in .*train2017\.json, does not exist")
    shutil.rmtree(tree / "train2017")
    refused("coco", tree, r"train2017 does not exist")
    (tree / TRAIN).write_text('{"images": [')
    shutil.copytree(tree / "val2017", tree / "train2017")
    refused("coco", tree, r"train2017\.json is not JSON \(")
    (tree / TRAIN).unlink()
    refused("coco", tree, r"tree has no annotations of its train split \(looked for .*train2017")


def test_a_pipe_in_place_of_an_image_does_not_hang(tree):
    (tree / FIRST).unlink()
    os.mkfifo(tree / FIRST)
    refused("coco", tree, r"000001\.jpg, named in .* is not a regular file")


def test_links_are_followed(tree, tmp_path):
    """Clusters keep the files themselves elsewhere; a link in the folder is its owner's wish."""
    (tree / FIRST).rename(tmp_path / "elsewhere.jpg")
    (tree / FIRST).symlink_to(tmp_path / "elsewhere.jpg")
    assert open_dense("coco", tree).train.count == 6


@pytest.mark.parametrize("orientation", [6, 3])
def test_sizes_are_those_of_the_upright_image(tree, orientation):
    """JSON and pixels agree on what is seen; of all images, not of a sample."""
    path = tree / "train2017/000000000006.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(path, exif=exif)

    def sized(width, height):
        def change(content):
            content["images"][5].update(width=width, height=height)
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 6]

        return change

    right = (96, 128) if orientation == 6 else (128, 96)
    rewrite(tree, sized(*right))
    assert open_dense("coco", tree).train.count == 6
    rewrite(tree, sized(*right[::-1]))
    turned = rf"{right[0]} x {right[1]} pixels after its EXIF orientation {orientation} \(stored"
    refused("coco", tree, rf"000006\.jpg has {turned}: 128 x 96\).* not {right[1]} x {right[0]} as")


def many_boxes(content):
    entry = content["annotations"][0]
    x, y = entry["bbox"][:2]
    content["annotations"] = [{**entry, "id": k, "bbox": [x, y, 9.5, 8]} for k in range(1, 21)]


USELESS = {
    "a box without height": ({"bbox": [9.5, 8.3, 1.03, 0.0], "area": 0.0}, "without an extent"),
    "a box outside": ({"bbox": [130, 5, 9, 9]}, "outside its image of"),
    "no mask": ({"segmentation": []}, r"has no mask \('segmentation'\)"),
    "no polygon": (
        {"segmentation": [[1, 2, 3, 4]]},
        "has only polygons of fewer than three points",
    ),
    "an empty mask": ({"segmentation": {"size": [128, 128], "counts": [16384]}}, "without a pixel"),
    "a flat polygon": ({"segmentation": [[1, 2, 9, 2, 30, 2]]}, "a mask without a pixel"),
    "a polygon outside": ({"segmentation": [[130, 2, 150, 2, 150, 9]]}, "a mask without a pixel"),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_useless_annotation_is_left_out_and_many_are_an_error(tree, name, caplog):
    values, match = USELESS[name]
    rewrite(tree, many_boxes)
    size = json.loads((tree / TRAIN).read_text())["images"][0]
    if name == "an empty mask":
        shape = [size["height"], size["width"]]
        values = {"segmentation": {"size": shape, "counts": [shape[0] * shape[1]]}}
    rewrite(tree, put("annotations", 7, **values))
    with caplog.at_level(logging.WARNING):
        data = open_dense("coco", tree)
    assert "1 of 20 annotations cover nothing and are left out (first: Annotation 8 " in caplog.text
    read = json.loads(data.train.annotations.read_text())
    assert len(read["annotations"]) == 19 and data.train.annotations != tree / TRAIN
    for index in range(5):
        rewrite(tree, put("annotations", index, **values))
    refused("coco", tree, f"6 of the 20 annotations .* more than 20% .*Annotation 1 .*{match}")


def test_boxes_thinner_than_a_pixel_stay_to_be_found_unless_they_are_many(tree):
    """Training skips them, as in the papers, but they count in COCO's average precision."""
    rewrite(tree, many_boxes)
    rewrite(tree, put("annotations", 7, bbox=[5, 5, 0.5, 9]))
    assert open_dense("coco", tree).train.annotations == tree / TRAIN
    for index in range(5):
        rewrite(tree, put("annotations", index, bbox=[0.1, 0.2, 0.3, 0.2]))  # parts of the image
    refused("coco", tree, r"6 of the 20 annotations .* has the box .* thinner than a pixel")


def test_a_tree_of_boxes_alone_is_told_that_it_lacks_masks(tree):
    rewrite(tree, lambda content: [a.pop("segmentation") for a in content["annotations"]] and None)
    refused("coco", tree, r"Annotation 1 has no mask .* detection needs polygons or run lengths")


def test_what_coco_holds_besides_is_read_as_it_is(tree):
    def change(content):
        keep = content["annotations"]
        content["annotations"] = [a for a in keep if a["image_id"] != 2]  # an image without any
        content["annotations"][0]["segmentation"] = [[1, 2, 30, 2, 30, 20, 1.5, 20.5]]
        content["annotations"][2]["bbox"] = [-1, -1, 40.5, 33]  # partly outside
        content["images"][1]["file_name"] = "deeper/2.jpg"

    (tree / "train2017/deeper").mkdir()
    (tree / "train2017/000000000002.jpg").rename(tree / "train2017/deeper/2.jpg")
    rewrite(tree, change)
    data = open_dense("coco", tree)
    assert data.train.count == 6 and data.train.annotations == tree / TRAIN


def test_a_broken_image_is_left_out_and_many_are_an_error(tree, caplog):
    good = (tree / FIRST).read_bytes()
    (tree / FIRST).write_bytes(good[: len(good) // 2])
    with caplog.at_level(logging.WARNING):
        data = open_dense("coco", tree)
    assert "1 of 6 images cannot be decoded and are left out" in caplog.text
    assert "000000000001.jpg: " in caplog.text
    read = json.loads(data.train.annotations.read_text())
    assert data.train.count == len(read["images"]) == 5
    assert {a["image_id"] for a in read["annotations"]} == {image["id"] for image in read["images"]}
    (tree / "train2017/000000000002.jpg").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"2 of the 6 images of .*train2017 cannot .* more than 20%"
    ):
        open_dense("coco", tree)


def test_classes_follow_the_order_of_the_file(tree):
    for name in (TRAIN, TEST):
        rewrite(tree, lambda content: content["categories"].reverse(), name)
    assert open_dense("coco", tree).classes == CLASSES[::-1]


@pytest.mark.parametrize("layout", ["plain", "valid", "images", "beside", "annotations"])
def test_layouts_of_other_tools_are_read(tree, layout, tmp_path):
    """A validation split alone, as exports have it."""
    words = {"train": "train", "val": "val" if layout in ("plain", "images") else "valid"}
    root = tmp_path / "other"
    for old, new in words.items():
        folder = root / ("images" if layout == "images" else "") / new
        shutil.copytree(tree / f"{old}2017", folder)
        target = {
            "beside": folder / "_annotations.coco.json",
            "annotations": root / f"annotations/{new}.json",
        }.get(layout, root / f"annotations/instances_{new}.json")
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(tree / f"annotations/instances_{old}2017.json", target)
    data, wanted = open_dense("coco", root, "val"), open_dense("coco", tree, "validation")
    assert (data.train.count, data.test.count, data.split) == (6, 2, "validation")
    assert data.fingerprint == wanted.fingerprint
    assert open_dense("coco", root).test == data.test


HUGE = ["1" + "0" * 400, "1" + "0" * 5000, "1e999", "NaN", "[" * 500 + "]" * 500, '"x"', "null"]
HUGE += ["[" * 100_000 + "]" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '"' + "a" * 100_000 + '"']


@pytest.mark.parametrize("value", HUGE, ids=lambda v: f"{v[:8]}*{len(v)}")
def test_values_of_no_size_that_a_tree_has(tree, value):
    """S1: deep, long and huge values are one sentence each, or a field that is filled in."""
    content = json.loads((tree / TRAIN).read_text())
    places = {"images": ("id", "width", "file_name"), "categories": ("id", "name")}
    places["annotations"] = ("image_id", "category_id", "bbox", "segmentation")
    read = []
    for table, key in ((table, key) for table, keys in places.items() for key in keys):
        before = content[table][0][key]
        content[table][0][key] = "@@"
        (tree / TRAIN).write_text(json.dumps(content).replace('"@@"', value))
        content[table][0][key] = before
        try:
            open_dense("coco", tree)
            read.append(key)
        except UserError as error:
            assert len(str(error)) < 1000 and "\n" not in str(error)
    # a category may be called anything, and one annotation of many may have no mask
    assert set(read) <= {"name", "segmentation"}


def test_run_lengths_of_a_giant(tree):
    giant = {"size": [10**9, 10**9], "counts": [10**18]}
    rewrite(tree, put("annotations", 0, segmentation=giant))
    refused("coco", tree, "has a mask of 1000000000 x 1000000000 on an image of")
