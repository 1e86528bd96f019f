"""P18: links may lead anywhere; what is there is read, not multiplied, and the walk ends."""

import itertools

import pytest

from sslbench.data.dense import open_dense
from sslbench.data.images import open_dataset
from sslbench.data.walking import files_below
from tests.data.dense_trees import copy_of


def tree(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_come_sorted_without_junk(tmp_path):
    root = tree(tmp_path, ["b/2.png", "b/10.png", "a.txt", ".hidden/1.png", "__MACOSX/x", "b/._1"])
    assert list(files_below(root)) == ["a.txt", "b/10.png", "b/2.png"]


def test_a_linked_folder_that_is_no_loop_is_read(tmp_path):
    tree(tmp_path / "elsewhere", ["1.png", "deep/2.png"])
    root = tree(tmp_path / "data", ["a/0.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "c").symlink_to("a")
    assert list(files_below(root)) == ["a/0.png", "b/1.png", "b/deep/2.png", "c/0.png"]
    tree(tmp_path / "further", ["3.png"])
    (tmp_path / "elsewhere" / "deep" / "more").symlink_to(tmp_path / "further")
    assert "b/deep/more/3.png" in files_below(root)


@pytest.mark.parametrize("loops", [1, 2, 5])
def test_loops_multiply_nothing(tmp_path, loops):
    """16 images became 656 by one loop, and two did not end."""
    names = [f"{c}/{k}.png" for c in "abcd" for k in range(4)]
    root = tree(tmp_path, names)
    for k, folder in zip(range(loops), "abcda", strict=False):
        (root / folder / f"loop{k}").symlink_to(root)
    assert list(files_below(root)) == names


@pytest.mark.timeout(20)
def test_many_folders_linked_to_one_another(tmp_path):
    folders = [f"f{k:02d}" for k in range(14)]
    root = tree(tmp_path, [f"{name}/1.png" for name in folders])
    for one, other in itertools.permutations(folders, 2):
        (root / one / other).symlink_to(root / other)
    found = list(files_below(root))
    assert {f"{name}/1.png" for name in folders} <= set(found)
    assert {f"f00/{name}/1.png" for name in folders[1:]} <= set(found)
    assert len(found) == len(set(found)) <= 14 * 14 + 14


def test_a_link_to_itself_is_no_folder(tmp_path):
    (tree(tmp_path, ["1.png"]) / "x").symlink_to("x")
    assert list(files_below(tmp_path)) == ["1.png", "x"]


@pytest.mark.timeout(60)
def test_datasets_with_loops(tmp_path, make_folder):
    names = [f"{c}/{k}.png" for c in "ab" for k in range(8)]
    root = make_folder([f"train/{name}" for name in names])
    (root / "train" / "a" / "up").symlink_to(root)  # where the images of another split may lie
    (root / "train" / "b" / "up").symlink_to(root / "train")
    assert open_dataset(root).names == names
    maps = copy_of("ade20k", tmp_path / "maps")
    for part in ("images", "annotations"):
        (maps / part / "training" / "one").symlink_to(maps / part / "training")
        (maps / part / "training" / "two").symlink_to(maps / part)
    assert open_dense("ade20k", maps).train.count == 6
