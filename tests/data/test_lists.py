"""List files: encodings, names and labels (fault P17)."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sslbench.data.images import open_dataset
from sslbench.errors import UserError


def write_list(root, text):
    (root / "list.txt").write_text(text)
    return root / "list.txt"


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("a 1.png\nb.png\n", (), None),
        ("a 1.png 2\n\nb.png 0\n", ("0", "2"), [1, 0]),
        ("a 1.png\tred fox\nb.png\tcat\n", ("cat", "red fox"), [1, 0]),
        ("a 1.png zebra\nb.png ant\n", ("ant", "zebra"), [1, 0]),
    ],
)
def test_list_files(make_folder, text, classes, labels):
    data = open_dataset(write_list(make_folder(["a 1.png", "b.png"]), text))
    assert data.names == ["a 1.png", "b.png"] and data.classes == classes
    assert (None if data.labels is None else data.labels.tolist()) == labels
    assert data[0][0].size == (12, 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b.png\nmissing.png\n", r"Line 2 of .*missing\.png, which does not exist"),
        ("b.png 1\na.png\n", r"1 of 2 images only \(none for .*/a.png\)"),
        ("\n", "names no images"),
    ],
)
def test_wrong_lists_are_named(make_folder, text, message):
    with pytest.raises(UserError, match=message):
        open_dataset(write_list(make_folder(["a.png", "b.png"]), text))


def test_a_list_is_a_train_split(make_folder):
    with pytest.raises(UserError, match="read as train, not as test"):
        open_dataset(write_list(make_folder(["a.png"]), "a.png"), "test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(make_folder, encoding):
    root = make_folder(["ü 1.png", "写.png"])
    (root / "list.txt").write_bytes("ü 1.png fuchs\r\n\r\n写.png\tBär\r\n".encode(encoding))
    data = open_dataset(root / "list.txt")
    assert data.names == ["ü 1.png", "写.png"] and data.classes == ("Bär", "fuchs")
    assert data.labels.tolist() == [1, 0] and data[1][0].size == (12, 10)


def test_names_of_any_bytes(tmp_path):
    name = b"caf\xe9\x85.png"
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH118, PTH123
        Image.new("RGB", (5, 4)).save(file, "PNG")
    (tmp_path / "list.txt").write_bytes(name + b"\t3\n")
    data = open_dataset(tmp_path / "list.txt")
    assert data[0][0].size == (5, 4) and data.classes == ("3",) and len(data.fingerprint) == 16
    (tmp_path / "list.txt").write_bytes(b"caf\xe8.png\n")
    with pytest.raises(UserError, match=r"caf\\xe8\.png, which does not exist \(save the list as"):
        open_dataset(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["20260000000", "7", "20260000000"], ("7", "20260000000"), [1, 0, 1]),
        (["7", "7", "9"], ("7", "9"), [0, 0, 1]),
        (["10", "9", "9"], ("9", "10"), [1, 0, 0]),
        (["1" * 5000, "2", "0"], ("0", "2", "1" * 5000), [2, 1, 0]),
        (["007", "7", "12"], ("007", "12"), [0, 0, 1]),
        (["3", "cat", "10"], ("10", "3", "cat"), [1, 2, 0]),
    ],
)
def test_classes_are_the_distinct_labels(make_folder, labels, classes, numbers):
    root = make_folder(["a.png", "b.png", "c.png"])
    lines = [f"{name}.png {label}\n" for name, label in zip("abc", labels, strict=True)]
    data = open_dataset(write_list(root, "".join(lines)))
    assert data.classes == classes and data.labels.tolist() == numbers
    assert data.labels.dtype == np.int64


def test_a_negative_label_is_refused(make_folder):
    root = make_folder(["a.png", "b.png"])
    with pytest.raises(UserError, match=r"Line 2 of .*list\.txt has the label -1: labels are"):
        open_dataset(write_list(root, "a.png 0\nb.png -1\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("folder.png", "neither a regular file nor"),
        ("pipe.png", "neither a regular file nor"),
        ("x" * 5000 + ".png", "does not exist: paths"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, line, message):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=message):
        open_dataset(write_list(tmp_path, line))


def test_order_and_place_make_no_other_dataset(make_folder, tmp_path):
    """T1: what is computed for the images of a list fits them whatever the order of its lines."""
    folder = make_folder(["x/a.png", "x/b.png", "y/c.png"])
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "data")
    lists = {
        folder / "1.txt": "x/a.png 0\nx/b.png 1\ny/c.png 0\n",
        folder / "2.txt": "y/c.png 0\nx/b.png 1\nx/a.png 0\n",
        folder / "3.txt": f"./y/c.png 0\n{folder}/x/a.png 0\nx/b.png 1\n",
        tmp_path / "4.txt": "".join(
            f"{moved}/{n}\n" for n in ("x/b.png 1", "x/a.png 0", "y/c.png 0")
        ),
    }
    found = []
    for path, text in lists.items():
        path.write_text(text)
        found.append(open_dataset(path))
    assert len({data.fingerprint for data in found}) == 1
    for data in found:
        assert data.names == ["x/a.png", "x/b.png", "y/c.png"] and data.labels.tolist() == [0, 1, 0]
        assert data[2][0].size == (12, 10)
    (folder / "1.txt").write_text("x/a.png 0\nx/b.png 0\ny/c.png 1\n")
    assert open_dataset(folder / "1.txt").fingerprint != found[0].fingerprint


def test_a_huge_file_that_is_no_text_is_refused_by_its_beginning(tmp_path):
    listed = write_list(tmp_path, "a.png\n")
    os.truncate(listed, 2**40)  # a hole: it takes no space on the disk
    with pytest.raises(UserError, match="is not text, it contains zero bytes"):
        open_dataset(listed)
