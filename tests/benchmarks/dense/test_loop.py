"""The training loop: how many steps it takes and what it says of their micro-batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sslbench.benchmarks.dense.loop import add_scaled
from sslbench.benchmarks.dense.runner import run
from tests.benchmarks.dense.small import LINEAR, small_config, steps_of, write_config


def test_losses_are_averaged_over_micro_batches():
    total: dict[str, torch.Tensor] = {}
    for loss, other in ((1.0, {"acc": 2}), (3.0, {"late": torch.tensor(8.0)})):
        add_scaled(total, {"loss": torch.tensor(loss, requires_grad=True), **other}, 0.5)
    assert {k: float(v) for k, v in total.items()} == {"loss": 2.0, "acc": 1.0, "late": 4.0}
    assert not any(value.requires_grad for value in total.values())


@pytest.mark.slow  # imports mmseg
def test_epochs_are_counted_in_steps_that_see_the_set(tmp_path: Path):
    config = small_config(tmp_path, *LINEAR)
    config.train_cfg.pop("max_iters")
    config.train_cfg.max_epochs = 2
    run(write_config(tmp_path / "run", config))
    assert len(steps_of(tmp_path / "run")) == 6  # 2 x 12 images / 4
