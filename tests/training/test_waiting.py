"""The host never waits for the device between two readings of the log, and no step that is not
finite leaves a trace.

On a CPU nothing is waited for. So tensors of the step are taken for a GPU's: those that enter it
and all that is computed of them. What would make the host read one of them raises.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from sslbench import plugins
from sslbench.recipes.load import recipe_from_dict
from sslbench.system.distributed import World
from sslbench.testing.one_step import Results, take_step
from sslbench.testing.steps import NotFinite
from sslbench.training import train as training
from sslbench.training.run import Run, load_views, set_up
from sslbench.training.train import SharedSignal, agree, train

from . import small

READ = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
INDEXED = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
    torch.ops.aten.masked_select.default,
}


class Waits(Exception):
    """The host would wait for the device."""


class Elsewhere(TorchDispatchMode):
    """Takes some tensors, and all that is computed of them, for a GPU's."""

    def __init__(self, patch: pytest.MonkeyPatch, *tensors: Tensor) -> None:
        super().__init__()
        self.there = WeakTensorKeyDictionary()
        self.there.update(dict.fromkeys(tensors, True))
        for name in ("tolist", "numpy", "cpu"):  # on a CPU they are no operators
            patch.setattr(torch.Tensor, name, self.guarded(getattr(torch.Tensor, name)))

    def guarded(self, read):
        def reading(tensor, *arguments):
            if tensor in self.there:
                raise Waits(read.__name__)
            return read(tensor, *arguments)

        return reading

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in given if x in self.there]
        if there and func in READ:
            raise Waits(str(func))
        if func in INDEXED and any(x.dtype == torch.bool for x in there):
            raise Waits(f"{func} by a mask")
        out = func(*args, **(kwargs or {}))
        if there:
            made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            self.there.update(dict.fromkeys(made, True))
        return out


SUPERVISED = {
    "name": "supervised",
    "classes": 2,
    "mix_group": 4,
    "ema": 0.9,
    "views": {"size": 32, "erasing": 0.5},
}


def make_run(method: str, images, labelled, tokenizer, out, **settings) -> Run:
    """Three epochs of small batches, with drop path."""
    if method == "supervised":
        values = small.settings("dino", labelled) | {"method": SUPERVISED | settings}
        recipe = recipe_from_dict(values, plugins.CLASSIFIERS)
        return set_up(recipe, out, small.ALONE, plugins.CLASSIFIERS)
    needs = {"tokenizer": str(tokenizer)} if method == "beit" else {}
    recipe = small.recipe(method, images, needs=needs, method=settings)
    return set_up(recipe, out, small.ALONE, small.group_of(method))


@pytest.fixture
def run(request, images, labelled, tokenizer, tmp_path) -> Run:
    method, settings = request.param
    return make_run(method, images, labelled, tokenizer, tmp_path, **settings)


BATCH_NORM = {"head_batch_norm": True}
every_method = pytest.mark.parametrize(
    "run",
    [
        ("dino", {}),
        ("ibot", {}),
        ("ibot", BATCH_NORM),
        ("ibot", {"count_unmasked": False}),
        ("beit", {}),
        ("dvae", {}),
        ("supervised", {}),
    ],
    indirect=True,
    ids=lambda run: "-".join([run[0], *run[1]]),
)


@every_method
def test_nothing_waits_for_the_device_between_two_readings(run, monkeypatch) -> None:
    loader = iter(load_views(run, 0))
    batches = [next(loader)[0] for _ in range(3)]
    take_step(run, batches[:1], 0)
    tensors = [*run.method.parameters(), *run.method.buffers()]
    for batch in batches:
        tensors += [*batch.crops.values(), *batch.masks.values()]
        tensors += [] if batch.labels is None else [batch.labels]
    monkeypatch.setattr(training, "free_to_read", lambda _: False)
    results = Results(every=False)
    with Elsewhere(monkeypatch, *tensors) as device:
        train(run, (batch for batch in batches[1:]), range(1, 3), results)
        assert all(result.values["loss"] in device.there for result in results)
        assert all(result.skipped in device.there for result in results)
    monkeypatch.undo()
    assert [float(result.skipped) for result in results] == [0, 0]


def reads():
    yield "float", float
    yield "if", lambda x: x[0, 0] > 0 or None
    yield "tolist", lambda x: x.tolist()
    yield "nonzero", lambda x: x.nonzero()
    yield "index by a mask", lambda x: x[x > 0]
    yield "assign by a mask", lambda x: x.__setitem__(x > 0, 0.0)


@pytest.mark.parametrize("read", [f for _, f in reads()], ids=[name for name, _ in reads()])
def test_a_reading_would_be_seen(monkeypatch, read) -> None:
    x = torch.randn(1, 1)
    with Elsewhere(monkeypatch, x), pytest.raises(Waits):
        read(2 * x)
    with Elsewhere(monkeypatch):  # of the host's own
        read(torch.randn(1, 1))


@pytest.mark.parametrize("free", [True, False], ids=["cpu", "gpu"])
@every_method
def test_a_step_that_is_not_finite_changes_nothing(run, monkeypatch, free) -> None:
    monkeypatch.setattr(training, "free_to_read", lambda _: free)
    loader = iter(load_views(run, 0))
    batches = [next(loader)[0] for _ in range(5)]
    for step in range(4):  # the prototypes are trained in the last
        assert not take_step(run, batches[step : step + 1], step).skipped
    before = [clones(run.method.state_dict()), clones(run.optimizer.state_dict()["state"])]
    spoilt = replace(run, model=NotFinite(run.model))
    assert take_step(spoilt, batches[4:], 4).skipped
    after = [run.method.state_dict(), run.optimizer.state_dict()["state"]]
    for ours, theirs in zip(tree_leaves(before), tree_leaves(after), strict=True):
        assert torch.equal(ours, theirs)
    assert not take_step(run, batches[4:], 4).skipped
    assert not torch.equal(*(next(iter(s.values()))["step"] for s in (before[1], after[1])))


def clones(tree):
    return torch.utils._pytree.tree_map_only(Tensor, torch.clone, tree)


@pytest.mark.parametrize(
    ("loss", "norm", "skipped"),
    [(1.0, 1.0, 0), (float("nan"), 1.0, 1), (1.0, float("inf"), 1), (float("-inf"), 0.0, 1)],
)
def test_loss_and_gradient_must_be_finite(loss, norm, skipped) -> None:
    flags = agree(torch.tensor(loss), torch.tensor(norm), 15, small.ALONE)
    assert flags == (skipped, 15)


def test_several_processes_end_after_the_same_step(monkeypatch) -> None:
    """One knows its signal at once; GPUs learn it from what all sent in the step before."""
    assert SharedSignal(small.ALONE).known(15, torch.tensor(0.0)) == 15
    assert SharedSignal(World(0, 2, torch.device("cpu"))).known(0, torch.tensor(15.0)) == 15
    monkeypatch.setattr(training, "free_to_read", lambda _: False)
    shared = SharedSignal(World(0, 2, torch.device("cpu")))
    assert [shared.known(2, torch.tensor(x)) for x in (0.0, 15.0, 15.0)] == [0, 0, 15]
