from dataclasses import replace

import numpy as np
import pytest

from sslbench.data.dataset import ArrayImages
from sslbench.data.labels import check_classes, need_labels
from sslbench.errors import UserError


def dataset(labels, split="train"):
    names = [f"{k}" for k in range(len(labels))]
    pixels = np.zeros((len(labels), 4, 4, 3), dtype=np.uint8)
    return ArrayImages(
        pixels=pixels,
        name="set",
        split=split,
        names=names,
        labels=np.array(labels),
        classes=("cat", "dog", "owl"),
    )


def test_labels_are_returned_or_missed_in_one_sentence():
    labelled = dataset([0, 1, 1])
    assert need_labels(labelled) is labelled.labels
    unlabelled = replace(labelled, labels=None, unlabelled="its lines end without a label")
    with pytest.raises(UserError) as caught:
        need_labels(unlabelled)
    assert str(caught.value) == (
        "set has no labels in its train split, which training with labels needs, for its lines end "
        "without a label; give a folder with one sub-folder per class."
    )
    with pytest.raises(UserError, match=r"which data\.held_out needs; give a folder"):
        need_labels(replace(unlabelled, unlabelled=""), "data.held_out")


def test_classes_that_can_be_learnt_and_shown_pass():
    check_classes(dataset([0, 1, 2]), dataset([0, 1, 2], "test"))
    check_classes(dataset([0, 1, 2]), dataset([2, 2], "test"))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1, 1], [1], "set has images of one class only, dog, in its train split; give images of"),
        ([0, 1], [0, 1, 2], r"set has no train images of 1 of the classes .*\(first: owl\); add"),
        ([1, 2], [0, 0], r"of 1 of the classes that are evaluated \(first: cat\)"),
    ],
)
def test_classes_that_cannot_be_are_one_sentence(train, test, message):
    with pytest.raises(UserError, match=message):
        check_classes(dataset(train), dataset(test, "test"))


def test_both_parts_need_labels():
    good = dataset([0, 1])
    bare = replace(good, labels=None, split="test")
    with pytest.raises(UserError, match="no labels in its test split"):
        check_classes(good, bare)
    with pytest.raises(UserError, match="no labels in its train split"):
        check_classes(replace(good, labels=None), good)
