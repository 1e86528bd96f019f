"""Configs, models and data that do not go together: one sentence, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sslbench.benchmark import Splits
from sslbench.benchmarks.finetune import Finetune
from sslbench.benchmarks.finetuning.recipes import every, rates_of, read
from sslbench.checkpoints.load import load_backbone
from sslbench.errors import UserError
from sslbench.recipes.load import benchmark_configs
from tests.benchmarks.finetuning.small import MODEL, folder_of_classes

CONFIG = """
method = dict(name="supervised", mix_group=2, mixup=0.8, views={})
optim = dict(lr=1e-3, scale_lr=False)
train = dict(epochs=3.0, batch_size=8)
"""
SWIN = "random-init:swin_nano/4@32?window=4&seed=0"
RELATIVE = "random-init:beit_nano/8@32?positions=relative&seed=0"
DECIDED = {
    "data = dict(source='x')": r"data\.source='x' cannot be set .*: --data says it; remove",
    "data = dict(held_out=0.5)": r"data\.held_out=0\.5 cannot be set .*: the benchmark",
    "method['classes'] = 3": r"method\.classes=3 cannot be set .*: the data",
    "backbone = dict(name='vit_small')": r"backbone\.name='vit_small' cannot be set .*: the model",
    "backbone = dict(image_size=64)": r"image_size=64 cannot be set .*: method\.views\.size",
    "train['seed'] = 3": r"train\.seed=3 cannot be set .*: the model's seed",
    "init = dict(source='x')": r"init\.source='x' cannot be set .*: --model",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return folder_of_classes(tmp_path_factory.mktemp("data") / "four", train=20)


def refusal(tmp_path: Path, data: Splits, line: str, source: str = MODEL) -> str:
    config = tmp_path / "finetune" / "mine.py"
    config.parent.mkdir()
    config.write_text(f"{CONFIG}{line}\n")
    benchmark = Finetune().configured(str(config))
    assert benchmark is not None
    with pytest.raises(UserError) as error:
        benchmark.protocols(load_backbone(source), data)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.py"]
    return str(error.value)


@pytest.mark.parametrize("line", DECIDED)
def test_a_config_does_not_set_what_is_decided_elsewhere(tmp_path, data, line) -> None:
    sentence = refusal(tmp_path, data, line)
    assert re.search(DECIDED[line], sentence), sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("source", "line", "sentence"),
    [
        (SWIN, "method['views'] = dict(size=384)", r"windows for images of 32 px, .*_size=32"),
        (SWIN, "backbone = dict(window=14)", r"have window 4 .*set backbone\.window=4"),
        (RELATIVE, "backbone = dict(positions='absolute')", r"cannot become 'absolute'; set"),
        (RELATIVE, "backbone = dict(patch_size=16)", r"cannot be interpolated to patches of 16 px"),
    ],
)
def test_weights_that_cannot_be_fitted_are_one_sentence(tmp_path, data, source, line, sentence):
    assert re.search(sentence, refusal(tmp_path, data, line, source))


def test_an_unknown_config_has_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"unknown finetune config 'folder_clss': did you mean"):
        read("folder_clss")


def test_every_config_of_ours_says_rates_and_epochs_that_are_read() -> None:
    names = benchmark_configs("finetune")
    assert all(every(read(name)) >= 1 for name in names)
    assert {len(rates_of(read(name))) > 1 for name in names} == {True, False}
