"""What an annotation file means reaches the libraries, in a copy where they would misread it."""

import json
import os
from pathlib import Path

import pytest

from sslbench.data.dense import open_dense
from tests.data.dense_trees import FIRST, TEST, TRAIN, copy_of, put, refused, rewrite


@pytest.fixture
def tree(tmp_path) -> Path:
    return copy_of("coco", tmp_path / "tree")


def fields(tree, table, *names):
    """What is read of each entry."""
    content = json.loads(open_dense("coco", tree).train.annotations.read_text())
    return [tuple(entry[name] for name in names) for entry in content[table]]


@pytest.mark.parametrize(
    "ids",
    [
        lambda k: k,  # 0, ...
        lambda k: 7,  # one for all
        lambda k: -k,
        lambda k: 2**70 + k,
        lambda k: f"a{k}",
        lambda k: None,
        lambda k: k + 1.5,
    ],
)
def test_ids_of_annotations_are_replaced_where_pycocotools_cannot_take_them(tree, ids):
    before = fields(tree, "annotations", "bbox", "image_id", "category_id", "segmentation")

    def change(content):
        for k, entry in enumerate(content["annotations"]):
            entry["id"] = ids(k)

    rewrite(tree, change)
    assert fields(tree, "annotations", "id") == [(k,) for k in range(1, len(before) + 1)]
    same = fields(tree, "annotations", "bbox", "image_id", "category_id", "segmentation")
    assert same == before


@pytest.mark.parametrize(("key", "table"), [("image_id", "images"), ("category_id", "categories")])
@pytest.mark.parametrize("shift", [-5, 2**60])
def test_ids_that_a_float_cannot_hold_are_replaced_everywhere(tree, key, table, shift):
    name = {"images": "file_name", "categories": "name"}[table]

    def owners():
        named = dict(fields(tree, table, "id", name))
        return [named[entry[0]] for entry in fields(tree, "annotations", key)]

    before = owners()

    def change(content):
        for entry in content[table]:
            entry["id"] += shift
        for entry in content["annotations"]:
            entry[key] += shift

    rewrite(tree, change)
    assert owners() == before
    assert [k for (k,) in fields(tree, table, "id")] == list(
        range(1, len(fields(tree, table, "id")) + 1)
    )


def test_numbers_that_a_table_program_wrote_are_whole(tree):
    before = fields(tree, "annotations", "image_id", "category_id", "iscrowd")

    def change(content):
        for entry in content["annotations"]:
            entry.update({k: float(entry[k]) for k in ("id", "image_id", "category_id", "iscrowd")})
        for entry in content["images"]:
            entry.update({k: float(entry[k]) for k in ("id", "width", "height")})

    rewrite(tree, change)
    after = fields(tree, "annotations", "image_id", "category_id", "iscrowd")
    assert after == before and {type(v) for row in after for v in row} == {int}
    assert {type(v) for row in fields(tree, "images", "width", "id") for v in row} == {int}


def test_area_and_crowd_are_filled_in(tree):
    def change(content):
        for entry in content["annotations"]:
            entry.pop("iscrowd")
        content["annotations"][0].update(segmentation=[[1, 2, 31, 2, 31, 22, 1, 22]], area=None)
        content["annotations"][1].pop("area")
        content["annotations"][2].update(area=0)
        content["annotations"][3].update(area=-4)

    whole = fields(tree, "annotations", "area")
    rewrite(tree, change)
    areas = fields(tree, "annotations", "area")
    assert areas[0] == (600,) and areas[1:] == whole[1:]
    assert {v for (v,) in fields(tree, "annotations", "iscrowd")} == {0}


def test_a_true_crowd_stays_one(tree):
    rewrite(tree, put("annotations", 1, iscrowd=True))
    assert fields(tree, "annotations", "iscrowd")[1] == (1,)


def test_polygons_of_a_point_are_left_out_of_a_mask(tree):
    """pycocotools reads a list whose first polygon has four numbers as boxes."""
    triangle = [1, 2, 30, 2, 30, 20]
    rewrite(tree, put("annotations", 0, segmentation=[[1, 2, 3, 4], triangle]))
    assert fields(tree, "annotations", "segmentation")[0] == ([triangle],)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encoding_of_the_file_does_not_matter(tree, encoding):
    plain = open_dense("coco", tree)
    for name in (TRAIN, TEST):
        rewrite(tree, lambda c: c["categories"][0].update(name="d\u00eesk"), name)
        content = json.loads((tree / name).read_text())
        (tree / name).write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    data = open_dense("coco", tree)
    read = json.loads(data.train.annotations.read_bytes().decode("ascii"))
    assert len(read["images"]) == plain.train.count
    assert tuple(c["name"] for c in read["categories"]) == data.classes
    assert data.classes[1:] == plain.classes[1:]


def test_stray_bytes_are_refused_in_names_of_classes_but_not_of_files(tree):
    odd = os.fsdecode(b"caf\xe9.jpg")
    (tree / FIRST).rename(tree / "train2017" / odd)
    rewrite(tree, put("images", 0, file_name=odd))
    assert open_dense("coco", tree).train.count == 6
    rewrite(tree, put("categories", 0, name=odd))
    refused("coco", tree, r"categories\[0\] .* no valid 'name'")
    (tree / TRAIN).write_bytes((tree / TRAIN).read_bytes().replace(b"ring", b"r\xeeng"))
    refused("coco", tree, r"train2017\.json is not UTF-8")


def test_nothing_is_written_beside_the_data(tree):
    rewrite(tree, put("annotations", 0, id=0))
    before = sorted(tree.rglob("*"))
    assert not open_dense("coco", tree).train.annotations.is_relative_to(tree)
    assert sorted(tree.rglob("*")) == before
