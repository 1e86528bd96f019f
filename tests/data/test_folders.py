"""What is a class, and what is an image, in a folder (fault T11)."""

import os
import re

import pytest
from PIL import Image

from sslbench.data.images import BrokenImage, open_dataset
from sslbench.errors import UserError
from sslbench.evaluation.opening import open_splits

CLEAN = ["train/a/1.png", "train/b/x/1.png", "train/c/1.png", "val/a/1.png", "val/c/1.png"]
LEFT_BEHIND = [  # none of these is a class, an image or a reason to lose the labels
    "{}/__MACOSX/a/._1.png",
    "{}/__MACOSX/1.png",
    "{}/a/@eaDir/1.png/1.png",
    "{}/@eaDir/1.png",
    "{}/.cache/1.png",
    "{}/._1.png",
    "{}/a/._1.png",
    "{}/lost+found/1.png",
]


def test_what_systems_leave_behind_changes_nothing(make_folder):
    root = make_folder(CLEAN)
    before = [open_dataset(root, split) for split in ("train", "test")]
    prints = [data.fingerprint for data in before]
    make_folder([name.format(split) for name in LEFT_BEHIND for split in ("train", "val")])
    for split in ("train", "val"):
        for empty in ("empty", "empty/nested", "notes", "__MACOSX"):
            (root / split / empty).mkdir(exist_ok=True)
        (root / split / "notes" / "a.txt").write_text("about")
        (root / split / ".DS_Store").touch()
        (root / split / "Thumbs.db").touch()
    after = [open_dataset(root, split) for split in ("train", "test")]
    assert [data.names for data in after] == [data.names for data in before]
    assert all(data.classes == ("a", "b", "c") for data in after)
    assert [data.labels.tolist() for data in after] == [[0, 1, 2], [0, 2]]
    assert [data.fingerprint for data in after] == prints


def test_a_class_without_images_of_a_split_keeps_the_numbers(make_folder):
    root = make_folder(CLEAN)
    (root / "val" / "b").mkdir()
    data = open_dataset(root, "validation")
    assert data.classes == ("a", "b", "c") and data.labels.tolist() == [0, 2]


def test_a_class_whose_training_images_are_missing_is_named(make_folder):
    root = make_folder(CLEAN)
    (root / "train" / "c" / "1.png").unlink()
    with pytest.raises(UserError, match=r"val/c is not a class of the train split, which has 2"):
        open_dataset(root, "test")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["val/cover.png"], r"val/cover\.png lies beside its 2 folders of images"),
        (["val/1.png", "val/2.png", "val/3.png"], r"and 2 more images lie beside its 2 folders"),
    ],
)
def test_a_stray_image_is_named_as_the_reason_for_no_labels(make_folder, more, reason):
    root = make_folder(CLEAN + more)
    data = open_dataset(root, "test")
    assert data.labels is None and data.classes == ()
    assert re.search(reason, data.unlabelled)
    assert open_dataset(root).unlabelled == ""
    with pytest.raises(UserError, match=f"no labels in its test split, .* for .*{reason}"):
        open_splits(str(root), "test")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["val/1.png"], "val itself and not in folders"),
        (
            ["val/x/1.png", "val/y/1.png"],
            r"\(x, \.\.\.\) is a class of the train split \(a, \.\.\.\)",
        ),
    ],
)
def test_other_reasons_for_no_labels(make_folder, names, reason):
    root = make_folder([*(name for name in CLEAN if name.startswith("train")), *names])
    data = open_dataset(root, "validation")
    assert data.labels is None and re.search(reason, data.unlabelled)


def test_links_that_lead_back_end(make_folder):
    root = make_folder(["a/1.png", "b/1.png"])
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "loop").symlink_to(root / "a")
    (root / "c").symlink_to(root / "b")
    names = open_dataset(root).names
    assert len(names) == len(set(names)) <= 12 and {"a/1.png", "b/1.png", "c/1.png"} <= set(names)


def test_a_folder_that_cannot_be_read_is_not_skipped(make_folder, monkeypatch):
    root, scandir = make_folder(["a/1.png", "b/1.png"]), os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"/b cannot be read \(Permission denied\): make it"):
        open_dataset(root)


def test_names_that_are_no_utf8(tmp_path):
    for folder in (b"caf\xe9", b"th\xe9"):
        place = os.path.join(os.fsencode(tmp_path), b"d\xe9", folder)  # noqa: PTH118
        os.makedirs(place)  # noqa: PTH103
        Image.new("RGB", (5, 4)).save(os.fsdecode(place) + "/1.png")
    data = open_dataset(tmp_path / os.fsdecode(b"d\xe9"))
    assert data.name == "d?" and data.classes == (r"caf\xe9", r"th\xe9")
    assert data[1][1] == 1 and data[1][0].size == (5, 4) and len(data.fingerprint) == 16


@pytest.mark.timeout(20)
def test_a_pipe_among_the_images_is_a_broken_image(make_folder):
    root = make_folder(["a/1.png", "b/1.png"])
    os.mkfifo(root / "a" / "2.png")
    data = open_dataset(root)
    assert data.names == ["a/1.png", "a/2.png", "b/1.png"] and len(data.fingerprint) == 16
    with pytest.raises(BrokenImage, match="not a regular file"):
        data.image(1)


@pytest.mark.parametrize("name", [b"n\xe9/x", b"n\xe9.csv", b"n\xe9"])
def test_an_odd_path_in_a_message_can_be_shown(tmp_path, name):
    (tmp_path / os.fsdecode(b"n\xe9.csv")).touch()
    with pytest.raises(UserError, match=r"n\\xe9") as caught:
        open_dataset(tmp_path / os.fsdecode(name))
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("folders", "split", "read"),
    [
        (("train", "valid", "test"), "validation", "valid"),  # as Roboflow exports them
        (("train", "valid", "test"), "test", "test"),
        (("train", "valid"), "test", "valid"),
        (("Train", "Test"), "train", "Train"),
        (("Train", "Test"), "test", "Test"),
        (("training", "testing"), "train", "training"),
        (("training", "testing"), "validation", "testing"),
        (("train", "TRAIN", "val", "validation"), "train", "train"),
        (("train", "TRAIN", "val", "validation"), "test", "validation"),
    ],
)
def test_a_split_is_never_read_from_another_s_folder(make_folder, folders, split, read):
    """E6: "valid" was passed over, so that test images were recorded as validation."""
    root = make_folder([f"{folder}/{c}/1.png" for folder in folders for c in ("a", "b")])
    found = open_dataset(root, split)
    assert (found.root, found.classes, len(found)) == (root / read, ("a", "b"), 2)


def test_a_lone_capital_name_is_a_class(make_folder):
    root = make_folder(["Bus/1.png", "Car/1.png", "Train/1.png"])
    assert open_dataset(root, "train").classes == ("Bus", "Car", "Train")


def test_a_folder_of_broken_images_alone_is_no_class(make_folder, caplog):
    """T11: an empty class moved the NMI of k-means from 100 to 94.2."""
    root = make_folder(["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"])
    clean = [open_dataset(root, split).fingerprint for split in ("train", "test")]
    for name in ("train/c/1.png", "train/c/2.jpg", "val/c/1.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"<html>")
    train, test = open_dataset(root), open_dataset(root, "test")
    assert train.classes == test.classes == ("a", "b") and len(train) == len(test) == 2
    assert [train.fingerprint, test.fingerprint] == clean
    assert f"{root}/train: no image can be opened in 1 of its folders" in caplog.text
