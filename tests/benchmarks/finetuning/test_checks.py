"""Configs of fine-tuning that cannot be trained: one sentence, before anything is."""

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
RATES = r"no list of different learning rates above 0; write e\.g\. rates = "
EPOCHS = r"no number of epochs; write a whole number from 1 on"
REFUSED = {
    "optim['lr'] = 0": r"optim\.lr=0: must be greater than 0",
    "rates = (0.0, 1e-3)": rf"rates=\(0\.0, 0\.001\) is {RATES}",
    "rates = (-1.0,)": RATES,
    "rates = ('a',)": RATES,
    "rates = 'fast'": rf"rates='fast' is {RATES}",
    "rates = 1e-3": RATES,
    "rates = (float('nan'),)": RATES,
    "rates = (float('inf'),)": RATES,
    "rates = (1e-3, 1e-3)": RATES,
    "rates = (True,)": RATES,
    "rates = None": RATES,
    "evaluate_every = 0": rf"evaluate_every=0 is {EPOCHS}",
    "evaluate_every = -2": EPOCHS,
    "evaluate_every = 0.5": EPOCHS,
    "evaluate_every = True": EPOCHS,
    "evaluate_every = 'x'": EPOCHS,
    "evaluate_every = None": EPOCHS,
    "method['mix_group'] = 3": r"mix_group=3 is odd",
    "method['mix_group'] = 16": r"leaves 8 images .* no multiple of method\.mix_group=16; change",
    "train['accumulate'] = 8": r"leaves 1 images .* no multiple of method\.mix_group=2",
    "train['batch_size'] = 1000": r"in batches of 1000 images, and four has 80; choose",
    "data = dict(source='x')": r"data\.source='x' cannot be set .*: --data says it; remove",
    "method['classes'] = 3": r"method\.classes=3 cannot be set .*: the data",
    "backbone = dict(name='vit_small')": r"backbone\.name='vit_small' cannot be set .*: the model",
    "backbone = dict(image_size=64)": r"image_size=64 cannot be set .*: method\.views\.size",
    "method['views'] = dict(randaugment='x')": r"randaugment='x' is not spelt as timm does",
    "method['projection'] = 64": r"it has no projection head, from whose first layer",
    "method['smothing'] = 0.1": r"unknown key 'method\.smothing': did you mean 'smoothing'",
    "optin = dict(lr=1)": r"unknown section 'optin' .*did you mean 'optim'",
    "x = = 1": r"cannot be read: SyntaxError",
    "method['name'] = 'dino'": r"unknown classifier 'dino'",
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


@pytest.mark.parametrize("line", REFUSED)
def test_a_config_that_cannot_be_trained_is_one_sentence(tmp_path, data, line) -> None:
    sentence = refusal(tmp_path, data, line)
    assert re.search(REFUSED[line], sentence), sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("source", "line", "sentence"),
    [
        (SWIN, "method['views'] = dict(size=384)", r"windows of \(4, 4, 2, 1\) .* to 32"),
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
