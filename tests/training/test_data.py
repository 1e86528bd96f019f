"""A recipe's part of a dataset is what is counted, trained on, recorded and resumed."""

import shutil
from pathlib import Path

import pytest

from sslbench.data.images import open_dataset
from sslbench.data.subsets import training_parts
from sslbench.errors import UserError
from sslbench.recipes.recipe import DataConfig
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import read_weights
from sslbench.testing.runs import train_first_half
from sslbench.training.data import open_training
from sslbench.training.dry_run import report
from sslbench.training.runs import ended_after
from tests.training import small

PART = {"share": 0.5, "held_out": 0.2}  # 20 images, then 16: 8 of each class


def test_the_part_is_of_the_source(labelled):
    whole = open_dataset(labelled)
    data = DataConfig(str(labelled))
    assert open_training(data).fingerprint == whole.fingerprint
    part = open_training(DataConfig(str(labelled), **PART))
    assert part.fingerprint == training_parts(whole, 0.5, 0.2)[0].fingerprint
    assert (len(part), part.name) == (16, f"{whole.name} (50%) (without 20% held out)")


def test_steps_are_counted_in_images_of_the_part(labelled):
    recipe = small.recipe("dino", labelled, data=PART)
    assert ended_after(6, recipe, []) == "train.epochs=3.0"
    with pytest.raises(UserError, match="batch_size=32 is larger than the dataset with 16 images"):
        ended_after(6, small.recipe("dino", labelled, data=PART, train={"batch_size": 32}), [])


def test_a_run_on_a_part_with_repeats_resumes_to_the_same_weights(labelled, tmp_path):
    train = {"epochs": 2, "repeats": 2, "accumulate": 2}
    recipe = small.recipe("dino", labelled, data=PART, train=train)
    straight, halves = small.train(recipe, tmp_path / "straight"), tmp_path / "halves"
    train_first_half(recipe, halves)
    small.train(recipe, halves, resume=True)
    one, other = (read_weights(place / WEIGHTS)[1] for place in (straight, halves))
    assert one["sha256"] == other["sha256"] and one["steps"] == 4
    assert one["data"].endswith("(50%) (without 20% held out)")
    assert one["data_fingerprint"] == open_training(recipe.data).fingerprint
    plain = small.recipe("dino", labelled, data=PART, train={**train, "repeats": 1})
    with pytest.raises(UserError, match=r"train\.repeats 2, not 1"):
        small.train(plain, halves, resume=True)


def test_a_run_whose_list_has_changed_since_is_not_resumed(labelled, tmp_path):
    folder = Path(shutil.copytree(labelled, tmp_path / "data"))
    names = sorted(p.name for p in (folder / "train" / "bright").iterdir())
    (folder / "50percent.txt").write_text("\n".join(f"bright/{name}" for name in names[:12]))
    recipe = small.recipe("dino", folder, data={"share": 0.5}, train={"epochs": 2})
    train_first_half(recipe, tmp_path / "run")
    (folder / "50percent.txt").write_text("\n".join(f"bright/{name}" for name in names[1:13]))
    with pytest.raises(UserError, match="was trained on other data than"):
        small.train(recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"share": 0.01}, r"data.share=0.01 of the 40 images .*; set it to at least 0.05"),
        ({"share": 0.0}, r"data.share=0.0: must be greater than 0"),
        ({"held_out": 1.0}, r"data.held_out=1.0: must be less than 1"),
    ],
)
def test_parts_that_cannot_be_are_refused_before_anything_is_written(
    labelled, tmp_path, part, message
):
    with pytest.raises(UserError, match=message):
        small.train(small.recipe("dino", labelled, data=part), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_of_unlabelled_images_are_refused(images, tmp_path):
    recipe = small.recipe("dino", images, data={"held_out": 0.1})
    with pytest.raises(UserError, match=r"has no labels .*, which data.held_out needs, for its"):
        small.train(recipe, tmp_path / "run")


def test_a_dry_run_counts_the_images_of_the_part(labelled):
    absent = small.recipe("dino", "imagenet-1k", data=PART, about={"images": 1000})
    for recipe, images in ((small.recipe("dino", labelled, data=PART), 16), (absent, 400)):
        assert ["images", str(images)] in [line.split() for line in report(recipe)]
