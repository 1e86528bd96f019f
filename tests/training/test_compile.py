"""Compiled blocks give the loss and the gradients of plain ones, and are compiled once a shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters

from sslbench.backbones import compiled
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SIZES, BackboneConfig
from sslbench.errors import UserError
from sslbench.method import ViewBatch
from sslbench.testing.one_step import take_step
from sslbench.training.run import Run, load_views, set_up

from . import small

BEIT = {"name": "beit_nano", "positions": "relative", "layer_scale": 0.1}
COMPILE = {"batch_size": 8, "precision": "fp32", "epochs": 3, "compile": True}
KINDS = {
    "dino": ("dino", {}),
    "ibot": ("ibot", {}),
    "ibot, registers": ("ibot", {"registers": 2}),
    "beit": ("beit", {}),
    "beit, relative positions": ("beit", BEIT),
}


@pytest.fixture
def graphs(monkeypatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What has been compiled, by a backend that generates no code."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph, inputs):
        made.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    compiled.compiled.cache_clear()
    counters.clear()
    yield made
    torch._dynamo.reset()
    compiled.compiled.cache_clear()


@pytest.fixture
def make(images, tokenizer, tmp_path, monkeypatch):
    """make(kind, **train): a run of a network of two blocks; each has the same weights."""
    for name in ("vit_nano", "beit_nano"):
        monkeypatch.setitem(SIZES, name, (16, 2, 2, 0.1))

    def run(kind: str, **train) -> Run:
        method, backbone = KINDS.get(kind, (kind, {}))
        needs = {"tokenizer": str(tokenizer)} if method == "beit" else {}
        sections = {"backbone": {"drop_path": 0.5, **backbone}, "train": {**COMPILE, **train}}
        recipe = small.recipe(method, images, needs=needs, **sections)
        return set_up(recipe, tmp_path, small.ALONE, small.group_of(method))

    return run


def batches(run: Run) -> list[ViewBatch]:
    return [batch for batch, _ in load_views(run, 0)]


def results(run: Run, batch: ViewBatch, step: int = 3) -> dict[str, Tensor]:
    """Loss and gradients of a step in which all parameters are trained."""
    taken: dict[str, Tensor] = {}

    def keep(*_) -> None:
        parameters = run.method.named_parameters()
        taken.update({n: p.grad.clone() for n, p in parameters if p.grad is not None})

    hook = run.optimizer.register_step_pre_hook(keep)
    taken["loss"] = take_step(run, [batch], step).values["loss"]
    hook.remove()
    return taken


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest relative distance of loss and gradients, which have the same names."""
    assert ours.keys() == theirs.keys()
    largest = max(float(g.norm()) for n, g in theirs.items() if n != "loss")
    # a gradient of rounding noise, as of a key's bias, is measured beside the largest
    lengths = {n: max(float(g.norm()), 1e-2 * largest) for n, g in theirs.items()}
    lengths["loss"] = float(theirs["loss"])
    return max(float((ours[n] - theirs[n]).norm()) / lengths[n] for n in theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_plain_blocks(kind, make, graphs) -> None:
    plain, run = make(kind, compile=False), make(kind)
    batch = batches(run)[0]
    expected = results(plain, batch)
    assert not graphs
    assert apart(results(run, batch), expected) < 1e-6
    assert graphs and not counters["graph_break"]


def test_checkpointing_gives_the_same(make, graphs) -> None:
    runs = [make("ibot", compile=False), make("ibot")]
    batch = batches(runs[0])[0]
    for backbone in (runs[1].method.student["backbone"], runs[1].method.teacher["backbone"]):
        backbone.checkpointing = True
    assert apart(results(runs[1], batch), results(runs[0], batch)) < 1e-6
    assert graphs


@pytest.mark.parametrize("kind", ["ibot", "beit"])
def test_another_number_of_masked_patches_is_not_compiled_again(kind, make, graphs) -> None:
    run, name = make(kind), "global" if kind == "ibot" else "image"
    batch = batches(run)[0]
    mask = batch.masks[name].clone()
    mask.view(-1)[batch.masked(name)[0]] = False
    other = replace(batch, masks={name: mask}, places={})
    counts = [len(b.masked(name)) for b in (batch, other)]
    assert len({-(-count // (mask.numel() // compiled.SIZES)) for count in counts}) == 1
    made = []
    for step, each in enumerate((batch, batch, other), start=3):
        results(run, each, step)
        made.append(len(graphs))
    # of one size all blocks share; iBOT: of two sizes with gradients, of one without, two last ones
    assert made == [5 if kind == "ibot" else 2] * 3


def test_there_are_eight_numbers_of_tokens() -> None:
    lengths = {len(compiled.padded(torch.arange(4 + m), 4, 100)) for m in range(101)}
    assert lengths == {4 + 13 * k for k in range(1, 9)}
    padded = compiled.padded(torch.arange(3, 12), 4, 100)
    assert padded.tolist() == [*range(3, 12), *[0] * 8]


def test_the_state_has_the_names_of_plain_blocks(make, graphs) -> None:
    plain, run = make("ibot", compile=False), make("ibot")
    results(run, batches(run)[0])
    assert graphs and list(run.method.state_dict()) == list(plain.method.state_dict())
    twin = copy.deepcopy(run.method)  # has blocks of its own
    x = torch.randn(8, 3, 32, 32)
    for p in twin.parameters():
        p.detach().zero_()
    assert not twin.student["backbone"].cls_tokens(x).any()


def test_evaluation_compiles_nothing(make, graphs) -> None:
    make("dino").method.backbone().eval()(torch.randn(2, 3, 32, 32))
    assert not graphs


def test_what_cannot_be_compiled_is_refused(make) -> None:
    with pytest.raises(UserError, match=r"^train\.compile=True is for methods with a backbone"):
        make("dvae")
    swin = build_backbone(BackboneConfig("swin_nano", 4, 64, window=7))
    with pytest.raises(
        UserError, match=r"^train\.compile=True is for vit_\* and beit_\* back.*Swin"
    ):
        swin.compile_blocks()
