"""Flowers-102, Stanford Cars and CIFAR from files in their official layouts, and iBOT's options.

The official numbering is compared with a plain re-reading of the same files, as in iBOT's
evaluation/semi_supervised/eval_cls.py.
"""

import hashlib
import pickle

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from torchvision import datasets

from sslbench.data.images import open_dataset
from sslbench.errors import UserError
from sslbench.reporting.published import read_figures, same_data


def _picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value * 7 % 256, 0, 0)).save(path)


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    """Twelve images: train 2, 5, 8; val 1, 4, 7; test the others."""
    base = tmp_path / "flowers-102"
    for k in range(1, 13):
        _picture(base / "jpg" / f"image_{k:05d}.jpg", k)
    savemat(base / "imagelabels.mat", {"labels": np.arange(12) % 3 + 1})
    test = [3, 6, 9, 10, 11, 12]
    savemat(base / "setid.mat", {"trnid": [2, 5, 8], "valid": [1, 4, 7], "tstid": test})
    files = dict(datasets.Flowers102._file_dict)
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        files[key] = (name, hashlib.md5((base / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    return tmp_path


def _official_flowers(root, train):
    base = root / "flowers-102"
    labels = loadmat(base / "imagelabels.mat")["labels"][0]
    ids = loadmat(base / "setid.mat")
    kept = np.concatenate((ids["trnid"], ids["valid"]), axis=1)[0] if train else ids["tstid"][0]
    return [f"image_{k:05d}.jpg" for k in kept], (labels[kept - 1] - 1).tolist()


def test_flowers_trains_on_its_train_split(flowers):
    counts = {}
    for split in ("train", "validation", "test"):
        images = open_dataset("torchvision:Flowers102", split, flowers)
        counts[split] = len(images)
        assert images.name == "torchvision:Flowers102"
    assert counts == {"train": 3, "validation": 3, "test": 6}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_flowers_as_in_the_papers(flowers, split):
    images = open_dataset("torchvision:Flowers102?train=trainval", split, flowers)
    files, labels = _official_flowers(flowers, split == "train")
    assert [path.name for path in images.source._image_files] == files
    assert images.labels.tolist() == labels
    assert images.name == "torchvision:Flowers102?train=trainval"
    assert images[0][1] == labels[0]


CARS = {"train": [(1, 30), (2, 40), (3, 50), (1, 60), (2, 30), (3, 20)], "test": [(3, 10), (1, 5)]}
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


@pytest.fixture
def cars(tmp_path):
    base = tmp_path / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for split, entries in CARS.items():
        rows = np.zeros((1, len(entries)), dtype=[(name, object) for name in FIELDS])
        for k, (label, bottom) in enumerate(entries):
            _picture(base / f"cars_{split}" / f"{k + 1:05d}.jpg", k)
            rows[0, k] = (1, 2, 3, bottom, label, f"{k + 1:05d}.jpg")
        savemat(base / files[split], {"annotations": rows})
    names = np.array([["AM General", "Acura RL", "Acura TL"]], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_cars_count_from_0(cars, split):
    images = open_dataset("torchvision:StanfordCars", split, cars)
    assert images.labels.tolist() == [label - 1 for label, _ in CARS[split]]
    assert images.classes == ("AM General", "Acura RL", "Acura TL")


@pytest.mark.parametrize("split", ["train", "test"])
def test_official_cars_count_from_1_and_have_a_class_per_box_edge(cars, split):
    images = open_dataset("torchvision:StanfordCars?labels=official", split, cars)
    assert images.labels.tolist() == [label for label, _ in CARS[split]]
    assert len(images.classes) == len({bottom for _, bottom in CARS["train"]}) == 5
    assert images.classes[1:4] == ("AM General", "Acura RL", "Acura TL")
    assert images.name == "torchvision:StanfordCars?labels=official"
    assert images.fingerprint != open_dataset("torchvision:StanfordCars", split, cars).fingerprint


def test_too_few_box_edges_are_one_sentence(cars, monkeypatch):
    path = cars / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    content = loadmat(path)
    content["annotations"]["bbox_y2"][:] = content["annotations"]["bbox_y2"][0, 0]
    savemat(path, {"annotations": content["annotations"]})
    with pytest.raises(UserError, match="1 classes, but a label is 3: leave out"):
        open_dataset("torchvision:StanfordCars?labels=official", "train", cars)


@pytest.mark.parametrize(
    ("kind", "folder", "key"),
    [("CIFAR10", "cifar-10-batches-py", "labels"), ("CIFAR100", "cifar-100-python", "fine_labels")],
)
def test_cifar_in_its_official_files(tmp_path, monkeypatch, kind, folder, key):
    make, base = getattr(datasets, kind), tmp_path / folder
    base.mkdir()

    def stored(name, value):
        (base / name).write_bytes(pickle.dumps(value))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch(name, labels):
        data = np.full((len(labels), 3072), len(labels), dtype=np.uint8)
        return stored(name, {"data": data, key: labels})

    meta = {**make.meta}
    meta["filename"], meta["md5"] = stored(meta["filename"], {meta["key"]: ["a", "b", "c"]})
    monkeypatch.setattr(make, "meta", meta)
    monkeypatch.setattr(make, "train_list", [batch("one", [0, 2]), batch("two", [1])])
    monkeypatch.setattr(make, "test_list", [batch("three", [2, 2, 0, 1])])
    train = open_dataset(f"torchvision:{kind}", "train", tmp_path)
    test = open_dataset(f"torchvision:{kind}", "test", tmp_path)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 2, 1], [2, 2, 0, 1])
    assert train.classes == ("a", "b", "c") and train[0][0].size == (32, 32)


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("torchvision:CIFAR10?labels=official", "write torchvision:CIFAR10 alone"),
        ("torchvision:Flowers102?labels=official", "Flowers102.train=trainval"),
        ("torchvision:StanfordCars?labels=", "StanfordCars.labels=official"),
    ],
)
def test_unknown_options_are_one_sentence(tmp_path, source, remedy):
    with pytest.raises(UserError, match=remedy):
        open_dataset(source, "train", tmp_path)


def test_every_transfer_set_of_the_papers_has_a_name_of_ours():
    ours = {
        "CIFAR-10": "torchvision:CIFAR10",
        "CIFAR-100": "torchvision:CIFAR100",
        "Flowers-102": "torchvision:Flowers102?train=trainval",
        "Stanford-Cars": "torchvision:StanfordCars?labels=official",
        "iNaturalist-2018": "iNaturalist-2018",
        "iNaturalist-2019": "iNaturalist-2019?labels=official",
    }
    published = {f.dataset for f in read_figures() if f.benchmark == "transfer"}
    assert published <= set(ours)
    for name, source in ours.items():
        assert [other for other in ours if same_data(source, other)] == [name]
        assert not same_data(f"{source} (20 images)", name)
