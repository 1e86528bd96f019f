"""Settings that contradict each other are refused, those that come too late are told."""

from __future__ import annotations

import pytest

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.consistency import warnings
from sslbench.recipes.load import config_files, load_recipe, recipe_from_dict
from tests.recipes.test_recipe import changed

LONG = "method.warmup_teacher_temp_epochs"


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        ("dino", ["optim.min_lr=1"], "optim.min_lr=1 is above the peak learning rate of 0.001"),
        ("dino", ["method.views.global_size=30"], "global crop of 30 pixels is not a multiple"),
        ("dino", ["method.views.local_size=20"], "local crop of 20 pixels is not a multiple"),
        ("dino", ["backbone.image_size=30"], "image_size 30 is not a multiple"),
        ("dino", ["train.accumulate=3"], "train.batch_size=8 cannot be shared"),
        (
            "dino",
            ["method.views.global_crops=1", "method.views.local_crops=0"],
            "method: views.global_crops=1 with views.local_crops=0 leaves one view",
        ),
        ("ibot", ["method.cls_weight=0", "method.patch_weight=0"], "leave no loss"),
        ("ibot", ["method.shared_head_teacher=False"], "needs method.shared_head=False"),
        ("beit", ["method.views.size=36"], "crop of 36 pixels is not a multiple"),
        ("beit", ["method.mask.min_block=9", "method.mask.max_block=4"], "min_block=9 must not"),
    ],
)
def test_p5_contradictions_are_refused(method, changes, said) -> None:
    with pytest.raises(UserError) as refused:
        changed(method, *changes)
    assert said in str(refused.value)


def test_a_crop_that_is_not_drawn_need_not_fit() -> None:
    changed("dino", "method.views.local_size=20", "method.views.local_crops=0")


def test_a_run_that_was_trained_is_read_as_it_was() -> None:
    values = changed("dino").to_dict()
    values["optim"]["min_lr"] = 0.5
    assert recipe_from_dict(values, stored=True).optim.min_lr == 0.5
    with pytest.raises(UserError, match=r"optim\.min_lr=0\.5 is above"):
        recipe_from_dict(values)


def test_p10_a_warm_up_that_outlasts_the_run_is_told() -> None:
    calm = ["method.freeze_last_layer=0", f"{LONG}=0"]
    assert warnings(changed("dino", "optim.warmup_epochs=3", *calm)) == []
    (said,) = warnings(changed("dino", "optim.warmup_epochs=3.5", *calm))
    assert said == (
        "warning: optim.warmup_epochs=3.5 is longer than train.epochs=3: the learning rate never "
        "reaches its peak of 0.001."
    )


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        ("dino", [f"{LONG}=4"], "temperature never reaches method.teacher_temp=0.07"),
        ("dino", [f"{LONG}=1", "train.epochs=0.5"], "never reaches method.teacher_temp=0.07"),
        ("dino", ["method.freeze_last_layer=3"], "the prototypes are never trained"),
        ("ibot", ["method.freeze_last_layer=5"], "the prototypes are never trained"),
        ("ibot", ["method.mask.start_epoch=2.5"], "start_epoch=2.5 never comes within"),
        (
            "ibot",  # trap T19: the patches' warm-up begins with the masks
            [f"{LONG}=3", "method.mask.start_epoch=1"],
            "after method.mask.start_epoch=1 does not end within train.epochs=3: the teacher's "
            "temperature never reaches method.teacher_patch_temp=0.07",
        ),
        ("dino", ["optim.weight_decay=0.5"], "optim.weight_decay_end=0.4 is below optim.weight_"),
        (
            "dino",
            ["optim.scale_lr=True", "optim.min_lr=1e-4", "optim.lr=5e-4"],
            "optim.min_lr=0.0001 is above the peak of 1.5625e-05",
        ),
        ("dino", ["optim.warmup_lr=0.1"], "optim.warmup_lr=0.1 is above the peak of 0.001"),
        (
            "dino",
            ["optim.warmup_lr=1e-6", "optim.warmup_epochs=0"],
            "optim.warmup_lr=1e-06 has no effect with optim.warmup_epochs=0",
        ),
        (
            "dino",
            ["optim.schedule=epoch", "optim.warmup_epochs=2"],
            "optim.warmup_epochs=2 does not end within train.epochs=3, since optim.schedule='epoch'"
            " is an epoch late: the learning rate never reaches its peak of 0.001",
        ),
    ],
)
def test_p10_what_comes_too_late_is_told(method, changes, said) -> None:
    calm = ["method.freeze_last_layer=0", f"{LONG}=0"]
    assert warnings(changed(method, *calm)) == []
    (found,) = warnings(changed(method, *calm, *changes))
    assert said in found and found.startswith("warning: ") and found.endswith(".")


def test_both_temperatures_are_told_of() -> None:
    first, second = warnings(changed("ibot", "method.freeze_last_layer=0", f"{LONG}=4"))
    assert "never reaches method.teacher_temp=0.07." in first
    assert "never reaches method.teacher_patch_temp=0.07." in second


@pytest.mark.parametrize(
    "changes",
    [
        [f"{LONG}=3"],  # linspace(start, end, 3) holds its end in the third epoch
        ["method.freeze_last_layer=2.9"],
        ["method.mask.start_epoch=2"],
        [f"{LONG}=2", "method.mask.start_epoch=1"],
        ["optim.schedule=epoch", "optim.warmup_epochs=1"],
        ["optim.schedule=epoch", "optim.warmup_epochs=0", "train.epochs=1"],
        ["optim.warmup_lr=1e-3", "optim.warmup_epochs=1"],
        ["optim.min_lr=1e-3"],  # the peak, so that the rate stays where it is
    ],
)
def test_what_comes_in_the_last_epoch_is_no_warning(changes) -> None:
    calm = ["method.freeze_last_layer=0", f"{LONG}=0"]
    assert warnings(changed("ibot", *calm, *changes)) == []


def test_no_recipe_that_is_shipped_warns() -> None:
    for name in config_files():
        first = name.rsplit("/", 1)[-1].split("_")[0]
        tokenizer = first in plugins.available(plugins.TOKENIZERS)
        group = plugins.TOKENIZERS if tokenizer else plugins.METHODS
        assert warnings(load_recipe(name, group=group), group) == [], name
