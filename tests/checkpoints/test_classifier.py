import os

import pytest
import torch
from torch import nn

from sslbench.checkpoints.classifier import read_classifier
from sslbench.errors import UserError

WEIGHT, BIAS = torch.randn(10, 6), torch.randn(10)


def tensors(prefix: str, shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {f"{prefix}linear.weight": WEIGHT + shift, f"{prefix}linear.bias": BIAS + shift}


SOLO = {"epoch": 100, "state_dict": tensors("module."), "optimizer": {}, "best_acc": 77.0}
HEADS = {"0.module.": 1.0, "1.module.": 0.0, "12.module.": 2.0}  # prefix -> distance from WEIGHT
GRID = {
    "state_dict": {k: v for p, shift in HEADS.items() for k, v in tensors(p, shift).items()},
    "best_acc": 77.9,
    "best_acc_hidx": 1,
}


@pytest.mark.parametrize("saved", [SOLO, GRID, tensors(""), {"state_dict": tensors("3.module.")}])
@pytest.mark.parametrize("legacy", [False, True])
def test_reads_the_layouts_of_both_codes(tmp_path, saved, legacy):
    torch.save(saved, tmp_path / "linear.pth", _use_new_zipfile_serialization=not legacy)
    layer = read_classifier(tmp_path / "linear.pth")
    assert torch.equal(layer.weight, WEIGHT) and torch.equal(layer.bias, BIAS)
    assert not any(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize(
    "saved",
    [
        {"state_dict": nn.Linear(6, 10).state_dict()},  # no name says that it is a classifier
        {"state_dict": {"module.linear.weight": WEIGHT}},
        {"state_dict": {"module.linear.weight": WEIGHT, "module.linear.bias": BIAS[:3]}},
        {k: v for k, v in GRID.items() if k != "best_acc_hidx"},
        {**GRID, "best_acc_hidx": 7},
        {"state_dict": {"module.linear.weight": BIAS, "module.linear.bias": BIAS[0]}},
        {"state_dict": {"linear.weight": torch.ones(3, 8, 2), "linear.bias": torch.ones(3, 8)}},
        [WEIGHT, BIAS],
    ],
)
def test_any_other_file_is_one_sentence(tmp_path, saved):
    torch.save(saved, tmp_path / "linear.pth")
    with pytest.raises(UserError, match=r"holds no linear classifier: neither .*; give the file"):
        read_classifier(tmp_path / "linear.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist; give the file"):
        read_classifier(tmp_path / "nowhere.pth")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**SOLO, "args": Hostile()}, "linear.pth")
    with pytest.raises(UserError, match=r"wants to build a .*system"):
        read_classifier("linear.pth")
    assert not (tmp_path / "hacked").exists()
