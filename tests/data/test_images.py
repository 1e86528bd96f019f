import os

import numpy as np
import pytest
from timm.data import ImageNetInfo
from torchvision import datasets

from sslbench.data.embedded import open_shapes
from sslbench.data.images import open_dataset
from sslbench.data.shapes import CLASSES, ShapesConfig
from sslbench.errors import UserError

SPLITS = ("train", "validation", "test")


def test_class_folders_directly(make_folder):
    data = open_dataset(make_folder(["cat/1.png", "cat/2.png", "dog/1.JPG", "dog/.hidden.png"]))
    assert data.classes == ("cat", "dog") and data.names == ["cat/1.png", "cat/2.png", "dog/1.JPG"]
    assert data.labels.tolist() == [0, 0, 1] and data[2][1] == 1
    assert data.crop_ratio == 0.875 and data[0][0].size == (12, 10)


def test_imagenet_layout_where_val_serves_as_test(make_folder):
    root = make_folder(["train/a/1.png", "train/b/1.png", "train/c/1.png", "val/a/1.png"])
    train, test = open_dataset(root), open_dataset(root, "test")
    assert len(train) == 3 and len(test) == 1
    assert test.classes == train.classes == ("a", "b", "c")
    assert open_dataset(root, "validation").names == test.names
    assert test.fingerprint != open_dataset(root, "validation").fingerprint


def test_imagenet_is_known_by_its_classes(make_folder):
    classes = ImageNetInfo("imagenet-1k").label_names()
    root = make_folder([f"train/{c}/1.png" for c in classes] + [f"val/{classes[0]}/1.png"])
    assert open_dataset(root).name == open_dataset(root, "test").name == "ImageNet-1K"
    (root / "train" / classes[-1]).rename(root / "train" / "n99999999")
    assert open_dataset(root).name == root.name


def test_test_serves_as_validation_and_labels_follow_the_train_classes(make_folder):
    root = make_folder(["train/a/1.png", "train/b/1.png", "test/b/1.png"])
    assert open_dataset(root, "validation").labels.tolist() == [1]


@pytest.mark.parametrize(
    "names", [["1.png", "2.png"], ["2020/x/1.png", "2020/y/2.png"], ["a/1.png", "b/1.png", "1.png"]]
)
def test_flat_and_nested_folders_are_unlabelled(make_folder, names):
    data = open_dataset(make_folder(names))
    assert data.labels is None and data.classes == () and data[0][1] == -1
    assert data.names == sorted(names)


def test_a_class_unknown_to_train_is_refused(make_folder):
    root = make_folder(["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/z/1.png"])
    with pytest.raises(UserError, match=r"val/z is not a class"):
        open_dataset(root, "validation")


def test_a_missing_split_is_named(make_folder):
    root = make_folder(["a/1.png", "b/1.png"])
    with pytest.raises(
        UserError, match=f"{root} has no test split: .* test or testing or val or valid or"
    ):
        open_dataset(root, "test")


def test_wrong_sources_are_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'shapes'"):
        open_dataset("shpes")
    with pytest.raises(UserError, match=r"/no/where does not exist"):
        open_dataset("/no/where")
    with pytest.raises(UserError, match=r"contains no images: .*\.png"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match="did you mean 'test'"):
        open_dataset("digits", "tset")
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match="not a dataset"):
        open_dataset(tmp_path / "a.csv")


def test_digits_are_split_once_and_for_all():
    parts = {split: open_dataset("digits", split) for split in SPLITS}
    assert [len(part) for part in parts.values()] == [1197, 300, 300]
    names = [name for part in parts.values() for name in part.names]
    assert len(set(names)) == 1797
    for part in parts.values():
        share = np.bincount(part.labels) / len(part)
        assert len(part.classes) == 10 and np.abs(share - 0.1).max() < 0.01
    image, label = parts["test"][0]
    assert image.size == (32, 32) and image.mode == "RGB" and 0 <= label < 10
    assert parts["test"].fingerprint == open_dataset("digits", "test").fingerprint
    assert parts["test"].crop_ratio == 1.0


def test_shapes_are_rendered_once_and_kept_in_memory(tmp_path):
    config = ShapesConfig(image_size=16, train=20, validation=10, test=10)
    data = open_shapes("train", config, tmp_path)
    assert len(data) == 20 and set(data.classes) == set(CLASSES) and data.crop_ratio == 1.0
    assert data[0][0].size == (16, 16)
    again = open_shapes("train", config, tmp_path)
    assert again.fingerprint == data.fingerprint
    assert open_shapes("test", config, tmp_path).fingerprint != data.fingerprint


class Local(datasets.FakeData):
    """A torchvision set with a train switch that is never downloaded."""

    classes = ["a", "b"]

    def __init__(self, root, train=True, download=False):
        if download:
            raise OSError("no network")
        if not str(root).endswith("here"):
            raise RuntimeError("Dataset not found")
        super().__init__(size=4 if train else 2, image_size=(3, 8, 8), num_classes=2)
        self.targets = [0, 1, 0, 1][: self.size]


def test_torchvision_sets_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR10", Local)
    data = open_dataset("torchvision:CIFAR10", "train", tmp_path / "here")
    assert len(data) == 4 and data[3][1] == 1 and data[0][0].mode == "RGB"
    assert len(open_dataset("torchvision:CIFAR10", "test", tmp_path / "here")) == 2
    with pytest.raises(UserError, match=r"neither below .* \(no network\): put a copy"):
        open_dataset("torchvision:CIFAR10", "train", tmp_path)
    with pytest.raises(UserError, match="did you mean 'CIFAR10'"):
        open_dataset("torchvision:CIFR10")


def test_a_pipe_is_no_dataset(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"list\.txt is neither a folder nor a regular file"):
        open_dataset(tmp_path / "list.txt")
