from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslbench.data.dataset import ArrayImages, FileImages
from sslbench.data.images import open_dataset
from sslbench.data.subsets import (
    find_list,
    held_out,
    labelled_share,
    listed,
    names_in,
    stratified,
    training_parts,
)
from sslbench.errors import UserError

NAMES = [f"n{c}/n{c}_{i}.JPEG" for c in (1, 2) for i in range(100)]


@pytest.fixture
def data(tmp_path) -> FileImages:
    """200 training images in an ImageNet-style folder, and lists for 1 % and 10 % of them."""
    (tmp_path / "train").mkdir()
    (tmp_path / "subsets").mkdir()
    (tmp_path / "subsets" / "1percent.txt").write_text("n2_7.JPEG\nn1_3.JPEG\n")
    few = [Path(name).name for name in NAMES[::10]]
    (tmp_path / "10percent.txt").write_text("\n".join(few))
    return FileImages(
        root=tmp_path / "train",
        name="set",
        split="train",
        names=NAMES,
        labels=np.repeat([0, 1], 100),
        classes=("a", "b"),
    )


def test_lists_are_found_in_the_folder_and_in_subsets(data):
    root = data.root.parent
    assert find_list(data, 0.01) == root / "subsets" / "1percent.txt"
    assert find_list(data, 0.1) == root / "10percent.txt"
    assert find_list(data, 0.5) is None
    assert find_list(data.limited(150), 0.1) is None  # most of its names are not among these
    assert len(labelled_share(data.limited(100), 0.1)) == 10


def test_names_are_matched_with_and_without_their_folder(data, tmp_path):
    path = find_list(data, 0.01)
    assert listed(path, data).tolist() == [3, 107]
    path.write_text("n2/n2_7.JPEG\n\nn1_3.JPEG")
    assert listed(path, data).tolist() == [3, 107]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_from_other_systems_are_the_same_lists(data, encoding):
    path = find_list(data, 0.01)
    before = names_in(path)
    path.write_bytes("n1_3.JPEG\r\nn2/n2_7.JPEG\r\n".encode(encoding))
    assert listed(path, data).tolist() == [3, 107]
    path.write_bytes("n1_3.JPEG\r\nn2_7.JPEG\r\n".encode(encoding))
    assert names_in(path) == before


def test_rows_follow_the_images_that_could_be_read(data):
    kept = np.array([i for i in range(200) if i not in (0, 3)])
    assert listed(find_list(data, 0.01), data, kept).tolist() == [105]  # image 107


def test_a_name_in_several_folders_needs_its_folder(data):
    """0001.png of every class would be as many images as there are classes."""
    names = [f"n{c}/{i}.JPEG" for c in (1, 2) for i in range(100)]
    data = replace(data, names=names)
    path = find_list(data, 0.01)
    path.write_text("n1/3.JPEG\n7.JPEG\n")
    with pytest.raises(UserError, match=r"names 7\.JPEG, which set has in 2 folders; .*class/name"):
        listed(path, data)
    path.write_text("n1/3.JPEG\nn2/7.JPEG\n")
    assert listed(path, data).tolist() == [3, 107]


@pytest.mark.parametrize("text", ["", "\n", "n1_3.JPEG\n"])
def test_a_list_of_nothing_that_can_be_read_is_refused(data, text):
    path = find_list(data, 0.01)
    path.write_text(text)
    kept = np.array([i for i in range(200) if i != 3])
    with pytest.raises(UserError, match=r"1percent.txt names no image of set that can be read"):
        listed(path, data, kept)


def test_a_list_of_another_dataset_is_refused(data):
    path = find_list(data, 0.01)
    path.write_text("n1_3.JPEG\nn9_1.JPEG\n")
    with pytest.raises(UserError, match=r"names 1 of 2 images .* \(first: n9_1.JPEG\); give the"):
        listed(path, data)


def test_lists_are_fixed_stratified_and_nested():
    y = np.random.default_rng(0).integers(7, size=2000)
    one, ten = (stratified(y, fraction, 0) for fraction in (0.01, 0.1))
    assert np.array_equal(one, stratified(y.copy(), 0.01, 0))
    assert not np.array_equal(one, stratified(y, 0.01, 1))
    assert set(one.tolist()) < set(ten.tolist())
    for c in range(7):
        members = int((y == c).sum())
        assert int((y[one] == c).sum()) == max(1, round(members * 0.01))
        assert int((y[ten] == c).sum()) == round(members * 0.1)


def test_every_class_keeps_an_image():
    assert stratified(np.tile(np.arange(5), 3), 0.01, 0).shape == (5,)


def test_drawn_lists_are_those_of_before():
    """Drawn by the code that made the records of version 2 of semi_supervised."""
    y = np.arange(60) % 3
    assert stratified(y, 0.1, 0).tolist() == [1, 12, 26, 31, 47, 57]


def test_a_share_is_the_list_beside_the_images_or_drawn(data):
    assert labelled_share(data, 0.01).tolist() == [3, 107]
    assert labelled_share(data, 0.1).tolist() == [*range(0, 200, 10)]
    assert labelled_share(data, 0.25).tolist() == stratified(data.labels, 0.25, 0).tolist()
    assert labelled_share(data, 1.0).tolist() == [*range(200)]
    unlabelled = replace(data, labels=None, classes=(), unlabelled="nobody named them")
    assert labelled_share(unlabelled, 0.01).tolist() == [3, 107]  # a list needs no labels
    with pytest.raises(UserError, match=r"^set has no labels .*, which data.share=0.2 needs, for "):
        labelled_share(unlabelled, 0.2)


def test_a_share_of_less_than_one_image_per_class_is_refused_with_one_that_is_not(labelled):
    dataset = open_dataset(labelled)  # 40 images of 2 classes
    message = r"data.share=0.04 of the 40 images of .* each of its 2 classes; .* at least 0.05\.$"
    with pytest.raises(UserError, match=message):
        labelled_share(dataset, 0.04)
    assert len(labelled_share(dataset, 0.05)) == 2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_images_held_out_leave_every_class_some(labels, share):
    labels = np.array(labels)
    kept, chosen = held_out(labels, share)
    assert sorted([*kept, *chosen]) == [*range(len(labels))]
    for c in np.unique(labels):
        count = int((labels == c).sum())
        assert (labels[chosen] == c).sum() == min(max(1, round(share * count)), count - 1)
    assert set(held_out(labels, share / 2)[1].tolist()) <= set(chosen.tolist())


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_parts_are_datasets_of_their_own(source, labelled):
    whole = open_dataset(labelled if source == "folder" else source)
    training, held = training_parts(whole, 0.5, 0.2)
    assert training.name == f"{whole.name} (50%) (without 20% held out)"
    assert held.name == f"{whole.name} (50%) (20% held out)"
    used = training_parts(whole, 0.5)[0]
    assert not set(training.names) & set(held.names)
    assert {*training.names, *held.names} == set(used.names) < set(whole.names)
    assert len({d.fingerprint for d in (whole, used, training, held)}) == 4
    again = training_parts(whole, 0.5, 0.2)
    assert [d.fingerprint for d in again] == [training.fingerprint, held.fingerprint]
    where = {name: k for k, name in enumerate(whole.names)}
    for part in (training, held):
        assert part.classes == whole.classes and part.split == whole.split
        for k in (0, len(part) - 1):
            assert part[k][1] == whole[where[part.names[k]]][1]
            assert part.image(k).tobytes() == whole.image(where[part.names[k]]).tobytes()


def test_the_whole_set_is_itself(labelled):
    whole = open_dataset(labelled)
    assert training_parts(whole) == (whole, None)


def test_nothing_to_hold_out_or_no_labels_is_one_sentence():
    ones = ArrayImages(
        pixels=np.zeros((3, 4, 4, 3), dtype=np.uint8),
        name="ones",
        split="train",
        names=["a", "b", "c"],
        labels=np.arange(3),
        classes=("x", "y", "z"),
    )
    with pytest.raises(UserError, match=r"data.held_out=0.2 would leave every class of ones"):
        training_parts(ones, held_out_share=0.2)
    with pytest.raises(UserError, match=r"^ones has no labels .* which data.held_out needs; give"):
        training_parts(replace(ones, labels=None, classes=()), held_out_share=0.2)
