"""iNaturalist in the official layout; the official numbering against a plain re-reading."""

import json

import pytest
from PIL import Image

from sslbench.data import inaturalist
from sslbench.data.images import open_dataset
from sslbench.errors import UserError

CATEGORIES = ["Abies alba", "Bufo bufo", "Carex nigra", "Daphne mezereum"]
TRAIN, VAL = [2, 0, 3, 2, 0], [0, 3, 2]  # category ids, in the order of the annotations


def _list(root, part, categories, first):
    images, annotations = [], []
    for k, category in enumerate(categories, start=first):
        name = f"train_val2018/Super/{category}/{k:03d}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, category, 0)).save(root / name)
        images.append({"id": k, "file_name": name, "width": 8, "height": 8})
        annotations.append({"id": k, "image_id": k, "category_id": category})
    entries = [{"id": k, "name": name} for k, name in enumerate(CATEGORIES)]
    content = {"images": images, "annotations": annotations, "categories": entries}
    (root / f"{part}2018.json").write_text(json.dumps(content))
    (root / "categories.json").write_text(json.dumps(entries))


@pytest.fixture
def root(tmp_path):
    _list(tmp_path, "train", TRAIN, 1)
    _list(tmp_path, "val", VAL, 50)
    return tmp_path


def _label_of(images):
    return dict(zip(images.names, images.labels.tolist(), strict=True))


def test_classes_are_numbered_by_id(root):
    for split, ids in (("train", TRAIN), ("validation", VAL), ("test", VAL)):
        images = open_dataset(root, split)
        assert _label_of(images) == {n: int(n.split("/")[2]) for n in images.names}
        assert sorted(images.labels) == sorted(ids) and images.classes == tuple(CATEGORIES)
        assert images.name == "iNaturalist-2018"


def test_names_may_be_in_the_lists_alone(root):
    (root / "categories.json").unlink()
    assert open_dataset(root, "test").classes == tuple(CATEGORIES)


@pytest.mark.parametrize(("split", "part"), [("train", "train"), ("test", "val")])
def test_official_classes_are_numbered_by_first_appearance(root, split, part):
    names = json.loads((root / "categories.json").read_text())
    targeter = {}
    for entry in json.loads((root / "train2018.json").read_text())["annotations"]:
        targeter.setdefault(names[entry["category_id"]]["name"], len(targeter))
    official = {
        entry["file_name"]: targeter[names[int(entry["file_name"].split("/")[2])]["name"]]
        for entry in json.loads((root / f"{part}2018.json").read_text())["images"]
    }
    images = open_dataset(f"{root}?labels=official", split)
    assert _label_of(images) == official
    assert images.classes == tuple(targeter) == ("Carex nigra", "Abies alba", "Daphne mezereum")
    assert images.name == "iNaturalist-2018?labels=official"
    assert images.image(0).size == (8, 8)


def _twice(content):
    content["images"].append(content["images"][0])


def _outside(content):
    content["images"][0]["file_name"] = "train_val2018/../../secret.jpg"


def _absolute(content):
    content["images"][0]["file_name"] = "/etc/hostname"


def _zero_byte(content):
    content["images"][0]["file_name"] = "a\0.jpg"


def _not_text(content):
    content["images"][0]["file_name"] = ["a.jpg"]


def _too_long(content):
    content["images"][0]["file_name"] = "a" * 5000


def _no_file_system_s_name(content):
    content["images"][0]["file_name"] = "\ud800.jpg"


def _folder(content):
    content["images"][0]["file_name"] = "train_val2018"


def _absent(content):
    content["images"][0]["file_name"] = "train_val2018/Super/0/absent.jpg"


def _no_annotation(content):
    content["annotations"].pop()


def _two_annotations(content):
    content["annotations"].append(content["annotations"][0])


def _unknown_category(content):
    content["annotations"][0]["category_id"] = 9


def _text_id(content):
    content["images"][0]["id"] = "one"


def _same_file(content):
    content["images"].append({**content["images"][0], "id": 99})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_twice, "two images of id 1"),
        (_outside, "not a path inside its folder"),
        (_absolute, "not a path inside its folder"),
        (_zero_byte, "not a path inside its folder"),
        (_not_text, "not a path inside its folder"),
        (_too_long, "not a path inside its folder"),
        (_no_file_system_s_name, "which does not exist"),
        (_folder, "which does not exist"),
        (_absent, "which does not exist"),
        (_no_annotation, "has no annotation for"),
        (_two_annotations, "annotates twice the image of id 1"),
        (_unknown_category, "uses category 9"),
        (_text_id, "has the id one, not a whole number"),
        (_same_file, "lists an image file twice"),
    ],
)
def test_contradictions_are_one_sentence(root, change, message):
    path = root / "train2018.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        open_dataset(root, "train")


@pytest.mark.parametrize("hostile", ["[" * 100_000, "{", "[]", '{"images": {}}', '{"images": [1]}'])
def test_hostile_lists_are_one_sentence(root, hostile):
    (root / "val2018.json").write_text(hostile)
    with pytest.raises(UserError, match=r"val2018\.json"):
        open_dataset(root, "test")


@pytest.mark.parametrize("name", ["train2018.json", "val2018.json", "categories.json"])
def test_lists_too_large_to_be_any_are_one_sentence(root, name, monkeypatch):
    """They would be parsed into many times their size."""
    largest = max(path.stat().st_size for path in root.glob("*.json"))
    monkeypatch.setattr(inaturalist, "MAX_BYTES", largest)
    (root / name).write_text((root / name).read_text() + " " * largest)
    with pytest.raises(UserError, match=rf"{name} cannot be read .* larger than [\d,]+ bytes"):
        open_dataset(root, "train" if name.startswith("train") else "test")


def test_links_are_followed(root, tmp_path_factory):
    """As in COCO's trees: a link in the folder is its owner's wish, a name in the list is not."""
    image = root / "train_val2018/Super/2/001.jpg"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "image.jpg"
    image.rename(elsewhere)
    image.symlink_to(elsewhere)
    images = open_dataset(root, "train")
    assert images.image(images.names.index("train_val2018/Super/2/001.jpg")).size == (8, 8)


def test_other_folders_have_no_official_numbering(tmp_path):
    with pytest.raises(UserError, match="is for iNaturalist's folders"):
        open_dataset(f"{tmp_path}?labels=official", "train")


def test_two_years_in_one_folder_are_one_sentence(root):
    for part in ("train", "val"):
        (root / f"{part}2019.json").write_text("{}")
    with pytest.raises(UserError, match="2 years"):
        open_dataset(root, "train")
