"""A recipe's steps are timed and taken apart, and nothing is written."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.system import peak
from sslbench.system.distributed import World
from sslbench.training import dry_run
from sslbench.training.profile import Profile, measure
from sslbench.training.train import PARTS
from tests.training import small

ALONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("parts", [1, 2])
def test_speed_and_shares(images, parts) -> None:
    recipe = small.recipe("ibot", images, train={"epochs": 10, "accumulate": parts})
    found = measure(recipe, ALONE, 3, plugins.METHODS)
    assert found.images_per_s > 0 and 0 <= found.data_wait < 1
    assert found.memory > 2**20 and found.peak > 1e9
    assert sum(found.parts.values()) == pytest.approx(1)
    assert all(0 < found.parts[name] < 1 for name in PARTS)
    assert 0 < sum(found.operators.values()) < 1
    (line,) = (x for x in dry_run.report(recipe) if x.lstrip().startswith("forward and backward"))
    assert f"{found.flops / 1e9:.4g} GFLOPs per image" in line


def test_utilisation_is_operations_a_second_over_the_peak() -> None:
    found = Profile(50.0, 0.1, 4_000_000_000, 1e12, 2**30, {"forward": 0.5}, {"aten::mm": 0.25})
    assert found.utilisation == pytest.approx(0.2)
    text = " ".join(" ".join(found.lines()).split())
    assert "images a second 50" in text and "20.0 % of 1000 GFLOP/s" in text
    assert "forward 50.0 %" in text and "aten::mm 25.0 %" in text


def test_a_run_that_is_too_short_is_refused(images) -> None:
    recipe = small.recipe("dino", images)
    with pytest.raises(UserError, match=r"has 15 steps, and 24 are needed; lower --steps or"):
        measure(recipe, ALONE, 20, plugins.METHODS)


def test_the_peak_is_two_operations_a_product_over_the_least_time(monkeypatch) -> None:
    ticks = accumulate([0, 9, 0, 4, 0, 2, 0, 4, 0, 4, 0, 4])  # the first one is not counted
    monkeypatch.setattr(peak, "SIDE", {"cpu": 64})
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert peak.peak_flops(torch.device("cpu"), torch.float32) == 2 * 64**3 / 2
