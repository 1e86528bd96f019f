"""The door to annotated trees: splits, names, fingerprints, and what is remembered of the files."""

import json
import os
import shutil
from itertools import pairwise

import pytest
from PIL import Image

from sslbench.data import checks, dense
from sslbench.data.dense import open_dense, open_scenes
from sslbench.data.scenes import ADE20K_CLASSES
from sslbench.data.shapes import CLASSES
from sslbench.errors import UserError
from sslbench.reporting.published import same_data
from tests.data.dense_trees import SMALL, TRAIN, copy_of, put, refused, rewrite


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    open_scenes("coco", "test", SMALL, root)
    return root


def test_the_embedded_scenes_have_three_splits(cache):
    data = open_scenes("coco", "test", SMALL, cache)
    assert (data.kind, data.name, data.split) == ("coco", "shapes-coco", "test")
    assert data.classes == CLASSES and (data.train.count, data.test.count) == (6, 3)
    assert data.train.annotations.is_file() and data.train.images.is_dir() and data.embedded
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
def test_fingerprints_follow_the_content_and_not_the_place(tmp_path, kind):
    first = copy_of(kind, tmp_path / "a")
    second = shutil.copytree(first, tmp_path / "b" / "a")
    one, two = open_dense(kind, first), open_dense(kind, second)
    assert one.fingerprint == two.fingerprint and one.name == two.name == "a"
    assert one.test.images.is_absolute() and one.test != two.test
    photo = next(iter(two.train.images.iterdir()))
    photo.write_bytes(photo.read_bytes() + b"x")
    assert open_dense(kind, second).fingerprint != one.fingerprint


def swap(first, second):
    """Exchanges the contents of two files, which have the same size afterwards, and the times."""
    size = max(first.stat().st_size, second.stat().st_size)
    contents = [path.read_bytes().ljust(size, b"\0") for path in (first, second)]
    for path, content in zip((first, second), contents, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    yield
    for path, content in zip((first, second), reversed(contents), strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    yield


@pytest.mark.parametrize(("kind", "folder"), [("coco", "train2017"), ("ade20k", "images/training")])
def test_contents_of_equal_size_may_not_be_exchanged(tmp_path, kind, folder):
    tree = copy_of(kind, tmp_path / "tree")
    by_shape = {}
    for path in sorted((tree / folder).iterdir()):
        by_shape.setdefault(checks.inspect_images(tree / folder, [path.name])[0], []).append(path)
    exchange = swap(*max(by_shape.values(), key=len)[:2])
    next(exchange)
    before = open_dense(kind, tree).fingerprint
    next(exchange)
    assert open_dense(kind, tree).fingerprint != before


def test_the_meaning_of_annotations_is_part_of_the_fingerprint(tmp_path):
    tree = copy_of("coco", tmp_path / "tree")
    before = open_dense("coco", tree).fingerprint
    rewrite(tree, put("annotations", 0, category_id=2))
    assert open_dense("coco", tree).fingerprint != before


@pytest.mark.parametrize("name", ["coco", "COCO", "co_co"])
def test_a_folder_s_name_makes_no_published_set(tmp_path, name):
    """A tenth of COCO in a folder called so, say, whose validation images are all there."""
    found = open_dense("coco", copy_of("coco", tmp_path / name)).name
    assert found == f"{name} (own)" and not same_data(found, "COCO")


@pytest.mark.parametrize("kind", ["coco", "ade20k"])
def test_a_tree_is_named_by_its_folder_and_the_published_one_by_its_own(
    tmp_path, kind, monkeypatch
):
    tree = copy_of(kind, tmp_path / "street views")
    assert open_dense(kind, tree).name == "street views" and not open_dense(kind, tree).embedded
    yes = dense.KINDS[kind]._replace(is_published=lambda train, test: True)
    monkeypatch.setitem(dense.KINDS, kind, yes)
    assert open_dense(kind, tree).name == kind


def test_val_stands_in_for_a_missing_test_split(tmp_path):
    coco, ade20k = copy_of("coco", tmp_path / "tree"), copy_of("ade20k", tmp_path / "maps")
    (coco / "annotations/instances_test2017.json").unlink()  # as in COCO itself
    shutil.rmtree(ade20k / "annotations/test")
    for kind, tree in (("coco", coco), ("ade20k", ade20k)):
        data = open_dense(kind, tree)
        assert data.split == "test" and data.test == open_dense(kind, tree, "val").test
        assert data.test.count == 2


def test_paths_may_be_relative_or_begin_with_a_tilde(tmp_path, monkeypatch):
    tree = copy_of("coco", tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    data = open_dense("coco", str(tree))
    assert open_dense("coco", "tree") == open_dense("coco", "~/tree") == data


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UserError, match=r"kind of data 'cocoa': did you mean 'coco'"):
        open_dense("cocoa", "shapes")
    with pytest.raises(UserError, match=r"split 'train'"):
        open_dense("coco", "shapes", "train")
    refused("coco", tmp_path / "none", r"none does not exist, nor is it 'shapes'")


@pytest.mark.parametrize("word", ["val", "valid", "validation", "VAL"])
def test_the_validation_split_has_several_names(cache, monkeypatch, word):
    monkeypatch.setenv("SSLBENCH_HOME", str(cache))
    monkeypatch.setattr(dense.scenes, "ScenesConfig", lambda: SMALL)
    for kind in dense.KINDS:
        assert open_dense(kind, "shapes", word) == open_dense(kind, "shapes", "validation")


def test_files_are_decoded_once(tmp_path, monkeypatch):
    seen = []
    read = checks.opened
    monkeypatch.setattr(checks, "opened", lambda path: seen.append(path) or read(path))
    monkeypatch.setattr("sslbench.data.remembered.RACY_SECONDS", 0.0)
    tree = copy_of("coco", tmp_path / "tree")
    open_dense("coco", tree)
    assert len(seen) == 6 + 3
    open_dense("coco", tree)
    assert len(seen) == 6 + 3
    photo = tree / "train2017/000000000001.jpg"
    good = photo.read_bytes()
    photo.write_bytes(good[:60].ljust(len(good), b"\0"))  # broken under the same size
    assert open_dense("coco", tree).train.count == 5 and len(seen) == 6 + 3 + 1
    assert open_dense("coco", tree).train.count == 5 and len(seen) == 6 + 3 + 2  # why is unknown


@pytest.mark.parametrize(("kind", "folder"), [("coco", "train2017"), ("ade20k", "images/training")])
def test_turns_that_no_size_shows_are_named(tmp_path, kind, folder, caplog):
    """Upside down, the image has the size that it is stored with."""
    tree = copy_of(kind, tmp_path / "tree")
    photo = sorted((tree / folder).iterdir())[2]
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(photo) as image:
        image.save(photo, exif=exif)
    open_dense(kind, tree)
    assert "1 of 6 images have an EXIF orientation that their size does not show" in caplog.text
    assert (
        f"(first: {photo.name}): their annotations are assumed to refer to the upright"
        in caplog.text
    )


def test_a_damaged_memory_costs_time_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "home"))
    tree = copy_of("coco", tmp_path / "tree")
    (tmp_path / "home/remembered.sqlite").write_bytes(b"no database" * 1000)
    assert open_dense("coco", tree).train.count == 6
    assert "cannot be cached" in caplog.text


def test_the_copies_in_the_cache_are_told_apart(tmp_path):
    """Two states of one tree at one time: neither reads the other's annotations."""
    tree = copy_of("coco", tmp_path / "tree")
    rewrite(tree, put("annotations", 0, id=0))
    first = open_dense("coco", tree)
    rewrite(tree, put("annotations", 0, bbox=[1, 2, 30, 40]))
    second = open_dense("coco", tree)
    boxes = [
        json.loads(data.train.annotations.read_text())["annotations"][0]["bbox"]
        for data in (first, second)
    ]
    assert boxes[0] != boxes[1] == [1, 2, 30, 40] and (tree / TRAIN).is_file()


def test_equal_distances():
    chosen = checks.evenly(range(20210), 500)
    assert len(chosen) == 500 and chosen[0] == 0 and chosen[-1] > 20000
    assert {b - a for a, b in pairwise(chosen)} == {40, 41}
    assert checks.evenly("abc", 500) == ["a", "b", "c"] and checks.evenly([], 500) == []
