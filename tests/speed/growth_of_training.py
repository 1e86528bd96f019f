"""Training steps, by the sizes that they grow with; the networks are ViT-Ti/16, to be quick."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch.nn.parallel import DistributedDataParallel

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.data.views import MultiCropConfig
from sslbench.method import Method
from sslbench.methods.dino import DINO, DINOConfig
from sslbench.methods.ibot import IBOT, IBOTConfig
from sslbench.system.distributed import World
from tests.speed.growth import Part, PartOfProcesses
from tests.speed.growth_of_evaluation import PATCH, SIDES, order_of_side
from tests.speed.race import Work
from tests.speed.steps import draw_batch, run_of, stepping

NAME = "vit_tiny"
ALONE = World(0, 1, torch.device("cpu"))
GLOBAL = MultiCropConfig(local_crops=0)
SMALL = MultiCropConfig(global_size=2 * PATCH, local_size=PATCH)


def ibot(views: MultiCropConfig) -> Method:
    return IBOT(IBOTConfig(views=views), partial(build_backbone, _config(views))).train()


def dino(views: MultiCropConfig, prototypes: int) -> Method:
    """Its prototypes are trained from the first step on."""
    config = DINOConfig(out_dim=prototypes, freeze_last_layer=0, views=views)
    return DINO(config, partial(build_backbone, _config(views))).train()


def _config(views: MultiCropConfig) -> BackboneConfig:
    return BackboneConfig(NAME, PATCH, views.global_size, 0.0)


def step(method: Method, images: int, world: World = ALONE) -> Work:
    """One step on `images` a process, after one that makes the optimiser's state."""
    torch.manual_seed(0)
    batch = draw_batch(method, images)
    run = replace(run_of(method, "fp32", images * world.size), world=world)
    if world.size > 1:
        run = replace(run, model=DistributedDataParallel(method, broadcast_buffers=False))
    work = stepping(run, batch)
    work()
    return work


PARTS: dict[str, Part | PartOfProcesses] = {
    "step-images": Part(
        "a step of iBOT, images of the batch",
        lambda n: step(ibot(MultiCropConfig()), n),
        (2, 4, 8, 16),
    ),
    "step-side": Part(
        "a step of iBOT without local crops, pixels of a side",
        lambda n: step(ibot(replace(GLOBAL, global_size=n)), 4),
        SIDES,
        order_of_side(NAME, SIDES),
    ),
    "step-prototypes": Part(
        "a step of DINO on small crops, prototypes",
        lambda n: step(dino(SMALL, n), 32),
        (2**14, 2**15, 2**16, 2**17),
    ),
    "step-processes": PartOfProcesses(
        "a step of iBOT, 2 images a process, processes",
        lambda world: step(ibot(MultiCropConfig()), 2, world),
        (1, 2, 4, 8),
    ),
}
