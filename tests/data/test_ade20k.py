"""ADE20K trees: what is clearly meant is read, every other defect is one sentence."""

import json
import logging
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslbench.data import ade20k
from sslbench.data.checks import Checked
from sslbench.data.dense import open_dense
from sslbench.errors import UserError
from tests.data.dense_trees import copy_of, refused

STEM = "ADE_train_00000001"
PHOTO, MAP = f"images/training/{STEM}.jpg", f"annotations/training/{STEM}.png"


@pytest.fixture
def tree(tmp_path) -> Path:
    return copy_of("ade20k", tmp_path / "maps")


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def repaint(path, change):
    Image.fromarray(change(pixels_of(path))).save(path)


def pairs(tree):
    return json.loads(open_dense("ade20k", tree).train.annotations.read_text())["pairs"]


def set_label(label):
    def change(pixels):
        pixels[3, 5] = label
        return pixels

    return change


DEFECTS = {
    "another size": (lambda p: p[:-1, :-2], r"has \d+ x \d+ pixels, but its image has"),
    "colours": (lambda p: np.stack([p] * 3, axis=-1), "cannot be read as a PNG .* one 8-bit"),
    "two values": (lambda p: p > 1, r"one 8-bit channel \(found: PNG 1\)"),
    "a label too high": (set_label(12), "has the label 12 of 11 classes"),
    "16 bits": (lambda p: set_label(300)(p.astype(np.uint16)), "has the label 300, above 255"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_of_label_maps_are_named(tree, name):
    change, match = DEFECTS[name]
    repaint(tree / MAP, change)
    refused("ade20k", tree, match)


def test_lossy_labels_are_refused(tree):
    Image.fromarray(pixels_of(tree / MAP)).save(tree / MAP, "JPEG")
    refused("ade20k", tree, r"cannot be read as a PNG .* \(found: JPEG L\)")


def test_labels_that_pillow_would_stretch_are_refused(tree):
    """A grey PNG of 4 bits: Pillow makes 17 of a 1, so that it would be another class."""
    height, width = pixels_of(tree / MAP).shape

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + b"\x11" * (width // 2)) * height
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tree / MAP).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    refused("ade20k", tree, r"one 8-bit channel \(found: PNG L\)")


def test_defects_of_folders_are_named(tree):
    labels, photo = tree / MAP, tree / PHOTO
    good, kept = labels.read_bytes(), photo.read_bytes()
    labels.unlink()
    refused("ade20k", tree, rf"{STEM}\.jpg has no label map .* \(6 images, 5 label maps\)")
    labels.write_bytes(good)
    photo.rename(photo.with_name("other.jpg"))
    refused("ade20k", tree, r"other\.jpg has no label map other\.png")
    photo.with_name("other.jpg").unlink()
    refused("ade20k", tree, rf"{STEM}\.png has no image .* \(5 images, 6 label maps\)")
    photo.write_bytes(kept)
    photo.with_suffix(".png").write_bytes(kept)
    refused("ade20k", tree, rf"{STEM}\.jpg and .*{STEM}\.png differ only in their suffix")
    photo.with_suffix(".png").unlink()
    shutil.rmtree(tree / "images/training")
    refused("ade20k", tree, "images/training does not exist")
    (tree / "images/training").mkdir()
    refused("ade20k", tree, r"images/training contains no images")
    shutil.rmtree(tree / "annotations")
    refused("ade20k", tree, "annotations has no folder training")


def test_files_that_systems_leave_are_read_by_nobody(tree):
    before = pairs(tree)
    (tree / f"annotations/training/._{STEM}.png").write_bytes(b"Mac OS X")
    (tree / f"images/training/._{STEM}.jpg").write_bytes(b"Mac OS X")
    (tree / "images/training/Thumbs.db").write_bytes(b"Windows")
    (tree / "images/training/__MACOSX").mkdir()
    (tree / f"images/training/__MACOSX/{STEM}.jpg").write_bytes(b"x")
    (tree / "annotations/training/.hidden").mkdir()
    (tree / "annotations/training/.hidden/a.png").write_bytes(b"x")
    assert pairs(tree) == before and len(before) == 6


def test_subfolders_suffixes_and_cases_are_read(tree):
    for folder, name in (("images", "jpg"), ("annotations", "png")):
        (tree / folder / "training/city").mkdir()
        old = tree / folder / f"training/ADE_train_00000002.{name}"
        old.rename(tree / folder / f"training/city/2.{name.upper()}")
    with Image.open(tree / PHOTO) as image:
        image.save((tree / PHOTO).with_suffix(".webp"), lossless=True)
    (tree / PHOTO).unlink()
    found = pairs(tree)
    assert [f"{STEM}.webp", f"{STEM}.png"] in found and ["city/2.JPG", "city/2.PNG"] in found
    assert len(found) == open_dense("ade20k", tree).train.count == 6


def test_a_loop_of_links_is_read_once(tree):
    (tree / "images/training/again").symlink_to(tree / "images/training")
    assert len(pairs(tree)) == 6


@pytest.mark.parametrize("which", [PHOTO, MAP])
def test_a_broken_file_takes_its_pair_along_and_many_are_an_error(tree, which, caplog):
    whole = open_dense("ade20k", tree)
    gone = pixels_of(tree / MAP)
    for number in (1, 2):
        path = tree / which.replace(STEM, f"ADE_train_0000000{number}")
        path.write_bytes(path.read_bytes()[:90])
        if number == 1:
            with caplog.at_level(logging.WARNING):
                data = open_dense("ade20k", tree)
            assert "1 of 6 images cannot be decoded and are left out" in caplog.text
            assert f"{STEM}.jpg: " in caplog.text and len(pairs(tree)) == data.train.count == 5
            left = np.bincount(gone.ravel(), minlength=12)[1:]
            assert data.train.pixels == tuple(np.array(whole.train.pixels) - left)
    with pytest.raises(UserError, match=r"2 of the 6 images of .*training cannot .* more than 20%"):
        open_dense("ade20k", tree)


def test_a_pipe_does_not_hang(tree):
    (tree / PHOTO).unlink()
    os.mkfifo(tree / PHOTO)
    assert open_dense("ade20k", tree).train.count == 5


def test_what_is_unlabelled_is_0_or_255(tree):
    before = open_dense("ade20k", tree).train.pixels
    repaint(tree / MAP, lambda p: np.where(p == 0, 255, p).astype(np.uint8))
    assert open_dense("ade20k", tree).train.pixels == before


@pytest.mark.parametrize("way", ["palette", "16 bits"])
def test_labels_may_be_a_palette_s_numbers_or_have_16_bits(tree, way):
    before = open_dense("ade20k", tree).train.pixels
    pixels = pixels_of(tree / MAP)
    image = Image.fromarray(pixels.astype(np.uint16) if way == "16 bits" else pixels)
    if way == "palette":
        image.putpalette([255 - k // 3 for k in range(768)])
    image.save(tree / MAP)
    assert open_dense("ade20k", tree).train.pixels == before


@pytest.mark.parametrize("value", [0, 255])
def test_maps_without_a_label_are_named_and_alone_are_an_error(tree, value, caplog):
    def empty(path):
        repaint(path, lambda pixels: np.full_like(pixels, value))

    empty(tree / MAP)
    with caplog.at_level(logging.WARNING):
        assert open_dense("ade20k", tree).train.count == 6
    assert f"1 of 6 label maps have no labelled pixel and are not counted (first: {STEM}.png)" in (
        caplog.text
    )
    for path in (tree / "annotations/test").iterdir():
        empty(path)
    refused("ade20k", tree, r"No pixel is labelled in the 3 label maps of .*annotations/test")


def test_images_and_maps_are_compared_upright(tree):
    """Each may carry an orientation of its own."""
    pixels, labels = np.zeros((96, 128, 3), np.uint8), np.ones((96, 128), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tree / PHOTO, exif=exif)
    Image.fromarray(labels).save(tree / MAP)
    turned = rf"{STEM}\.png has 128 x 96 pixels, but its image has 96 x 128 after its EXIF orient"
    refused("ade20k", tree, turned + r"ation 6 \(stored: 128 x 96\)")
    Image.fromarray(labels).save(tree / MAP, exif=exif)
    assert open_dense("ade20k", tree).train.count == 6
    Image.fromarray(pixels).save(tree / PHOTO)
    refused("ade20k", tree, rf"{STEM}\.png has 96 x 128 pixels after its EXIF orientation 6")


def test_val_names_the_validation_split(tree):
    for part in ("images", "annotations"):
        (tree / part / "validation").rename(tree / part / "val")
        (tree / part / "training").rename(tree / part / "train")
    data = open_dense("ade20k", tree, "val")
    assert (data.split, data.train.count, data.test.count) == ("validation", 6, 2)


def test_classes_come_from_the_list(tree):
    (tree / "objectInfo11.txt").unlink()
    data = open_dense("ade20k", tree)
    assert len(data.classes) == 150 and data.classes[149] == "class 150"
    rows = "1\t0.2\t3\t4\t1\tbuilding, edifice \r\n2 \t0.1\t3\t4\t0\tdoor;double door\r\n"
    (tree / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\r\n" + rows)
    refused("ade20k", tree, "the label .* of 2 classes")
    for path in (tree / "annotations").glob("*/*.png"):
        repaint(path, lambda pixels: np.minimum(pixels, 2))
    assert open_dense("ade20k", tree).classes == ("building", "door")
    (tree / "objectInfo150.txt").write_text("Idx Name\n1 wall\n")
    refused("ade20k", tree, r"objectInfo150\.txt is not a header and tab-separated")


def test_the_archive_has_a_folder_of_its_own(tree, tmp_path):
    plain = open_dense("ade20k", tree)
    (tmp_path / "data").mkdir()
    tree.rename(tmp_path / "data" / ade20k.INNER)
    nested = open_dense("ade20k", tmp_path / "data")
    assert nested.fingerprint == plain.fingerprint and nested.classes == plain.classes
    assert nested.train.images == tmp_path / "data" / ade20k.INNER / "images/training"


def test_the_tree_that_is_ade20k_is_known_by_its_classes_and_images():
    def part(listed, classes):
        return Checked(listed, listed, classes, "", Path())

    named = ("wall", "building", "sky", *(f"c{k}" for k in range(147)))
    numbers = tuple(f"class {k}" for k in range(1, 151))
    for classes in (named, numbers):
        assert ade20k.is_ade20k(part(20_210, classes), part(2_000, classes))
        assert not ade20k.is_ade20k(part(20_210, classes), part(1_999, classes))
        assert not ade20k.is_ade20k(part(2_000, classes), part(2_000, classes))
    for classes in (named[:149], named[::-1]):
        assert not ade20k.is_ade20k(part(20_210, classes), part(2_000, classes))
