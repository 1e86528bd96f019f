"""Training steps against the official structure, tests/reference, on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.method import Method, Progress, Sample, ViewBatch
from sslbench.methods.beit import BEiT, BEiTConfig
from sslbench.methods.dino import DINO, DINOConfig
from sslbench.methods.ibot import IBOT, IBOTConfig
from sslbench.methods.tokenizers.dalle import DallE, DallEConfig
from sslbench.recipes.recipe import OptimConfig, Recipe, RunConfig, TrainConfig
from sslbench.system.distributed import World
from sslbench.testing.one_step import take_step
from sslbench.training.optim import make_optimizer
from sslbench.training.run import Run
from tests.reference.beit import OfficialBEiT
from tests.reference.networks import gradients
from tests.reference.steps import OfficialDINO, OfficialIBOT
from tests.speed.race import Race

WORK = {
    "ibot": "iBOT ViT-S/16, 2x224 + 10x96",
    "dino": "DINO ViT-S/16, K = 65,536, 2x224 + 10x96",
    "beit": "BEiT ViT-B/16 and DALL-E's encoder",
}
BATCH, DROP_PATH, STEPS = 4, 0.1, 1000
SMALL = BackboneConfig("vit_small", 16, 224, 0.0)
BASE = BackboneConfig("beit_base", 16, 224, 0.0, positions="shared relative", layer_scale=0.1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINDS = {
    "ibot": (IBOT, OfficialIBOT),
    "dino": (DINO, OfficialDINO),
    "beit": (BEiT, OfficialBEiT),
}


def draw_batch(method: Method, size: int, draws: int = 16) -> ViewBatch:
    """The views of `size` images of noise, of those drawn the batch with the most usual masks."""
    views = method.views(method.config, 16)
    noise = np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), dtype=np.uint8)
    images = [Image.fromarray(x) for x in noise]
    batches = [
        collate([views(x, np.random.default_rng([i, k]), 0) for i, x in enumerate(images)])
        for k in range(draws)
    ]
    hidden = [sum(int(m.sum()) for m in batch.masks.values()) for batch in batches]
    return batches[int(np.argsort(hidden)[draws // 2])]


def collate(samples: Sequence[Sample]) -> ViewBatch:
    def stacked(part: str) -> dict[str, Tensor]:
        names = getattr(samples[0], part)
        arrays = {n: np.stack([getattr(s, part)[n] for s in samples], 1) for n in names}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    return ViewBatch(stacked("crops"), stacked("masks"), torch.arange(len(samples)), MEAN, STD)


def build(kind: str) -> Method:
    torch.manual_seed(0)
    if kind == "beit":
        tokenizer = DallE(DallEConfig())
        return BEiT(BEiTConfig(), partial(build_backbone, BASE), tokenizer).train()
    configs = {"ibot": IBOTConfig(), "dino": DINOConfig()}
    return KINDS[kind][0](configs[kind], partial(build_backbone, SMALL)).train()


def run_of(method: Method, precision: str, size: int = BATCH) -> Run:
    """`method` as the trainer runs it; what only a log reads is due every tenth step."""
    optim = OptimConfig(clip=3.0, lr=1e-5, scale_lr=False, warmup_epochs=0)
    train = TrainConfig(batch_size=size, precision=precision)
    run = RunConfig(log_every=10)
    recipe = Recipe("race", method.name, method.config, SMALL, optim=optim, train=train, run=run)
    world = World(0, 1, torch.device("cpu"))
    optimizer = make_optimizer(method, recipe.optim)
    return Run(recipe, Path(), world, None, method, method, optimizer, STEPS, STEPS)


def stepping(run: Run, batch: ViewBatch) -> Callable[[], None]:
    """Steps of the trainer, one a call; every tenth is logged."""
    steps = iter(range(STEPS))

    def step() -> None:
        take_step(run, [batch], number := next(steps), logged=number % 10 == 9)

    return step


def check(method: Method, official: Any, batch: ViewBatch) -> str:
    """Compares loss and gradients without drop path; raises where they are not equal."""
    ours = method.loss(batch, Progress(0, STEPS, STEPS))["loss"]
    theirs = official.loss(batch)
    ours.backward()
    theirs.backward()
    apart = abs(float(ours.detach()) / float(theirs.detach()) - 1)
    found, wanted = gradients(method, official.student)
    gap = sum(float((found[n] - g).pow(2).sum()) for n, g in wanted.items()) ** 0.5
    gap /= sum(float(g.pow(2).sum()) for g in wanted.values()) ** 0.5
    assert apart < 1e-6 and gap < 1e-5, (apart, gap)
    for module in (method, official.student):
        module.zero_grad(set_to_none=True)
    return f"loss equal to {apart:.0e}, gradient to {gap:.0e} without drop path in fp32"


def step_race(
    kind: str, precision: str, wanted: float, their_precision: str = "", codes: str = "fp32"
) -> Race:
    """precision: of both sides, unless theirs is another; codes: that of BEiT's tokenizer."""
    method = build(kind)
    batch = draw_batch(method, BATCH)
    official = KINDS[kind][1](method, 0.0, (their_precision or precision) == "bf16")
    same = check(method, official, batch)
    set_drop_path(method, official)
    if codes == "bf16":
        method.tokenizer.low_precision = True
    ours = stepping(run_of(method, precision), batch)

    def theirs() -> None:
        official.step(batch)

    gflops = {
        "GFLOP an image": counted(ours) / BATCH,
        "GFLOP an image, official": counted(theirs) / BATCH,
    }
    work = f"{WORK[kind]}, batch {BATCH}, {precision}: one step"
    name = f"{kind}-{precision}" + (f"-{their_precision}" if their_precision else "")
    rival = f"official structure, {their_precision or precision}"
    if codes == "bf16":
        work += ", codes made in bf16"
    return Race(name, work, ours, {rival: theirs}, {rival: wanted}, "images", BATCH, same, gflops)


def set_drop_path(method: Method, official: Any) -> None:
    backbone = method.student if isinstance(method, BEiT) else method.student["backbone"]
    backbone.set_drop_path(DROP_PATH)
    theirs = official.student if isinstance(method, BEiT) else official.student["backbone"]
    rates = torch.linspace(0, DROP_PATH, len(theirs.blocks)).tolist()
    for block, rate in zip(theirs.blocks, rates, strict=True):
        block.drop_path.rate = rate


def counted(work: Callable[[], None], repeats: int = 3) -> float:
    """GFLOP of one run, the mean of `repeats`: drop path leaves out others each time."""
    # torch counts no FLOPs of the CPU's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for _ in range(repeats):
            work()
    return counter.get_total_flops() / repeats / 1e9


def ibot_fp32() -> Race:
    return step_race("ibot", "fp32", 1.42)


def ibot_bf16() -> Race:
    return step_race("ibot", "bf16", 1.35)


def dino_fp32() -> Race:
    return step_race("dino", "fp32", 1.13)


def dino_bf16() -> Race:
    return step_race("dino", "bf16", 1.2)


def beit_fp32() -> Race:
    return step_race("beit", "fp32", 1.0)


def beit_against_fp32() -> Race:
    return step_race("beit", "bf16", 1.85, "fp32", codes="bf16")


def beit_bf16() -> Race:
    return step_race("beit", "bf16", 1.3, codes="bf16")
