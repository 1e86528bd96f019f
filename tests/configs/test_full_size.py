"""The published configs build and run as they are: a training step or two and a test.

On images of a half to an eighth of the published sides, in float32 on a CPU, through mmengine's
own Runner.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import SWIN_PATCH, SWINS, BackboneConfig
from sslbench.recipes.load import recipe_from_dict
from sslbench.storage.layout import WEIGHTS
from sslbench.storage.weights import save_weights
from tests.configs.reading import load
from tests.configs.trees import write_ade20k, write_coco


@dataclass(frozen=True)
class Case:
    """batch: UPerNet's pooling to 1x1 needs two images for its batch norm.

    shrink: divides the sides of images, which `test_detection` and `test_segmentation` read as
    published. The larger backbone differs from the smaller in its widths alone.
    """

    benchmark: str
    config: str
    arch: str
    batch: int
    shrink: int = 2
    steps: int = 1


CASES = [
    Case("detection", "coco_vits16", "vit_small", 1, shrink=4),
    Case("detection", "coco_vitb16", "vit_base", 1, shrink=4),
    Case("detection", "coco_swint", "swin_tiny", 1, shrink=4),
    Case("segmentation", "ade20k_upernet_swint", "swin_tiny", 2, shrink=4),
    Case("segmentation", "ade20k_upernet_vits16", "vit_small", 2, shrink=4),
    Case("segmentation", "ade20k_upernet_vitb16", "vit_base", 2, shrink=8),
    Case("segmentation", "ade20k_linear_vits16", "vit_small", 1, steps=2),
]


def official_weights(arch: str) -> dict[str, Tensor]:
    """Random weights in the shapes of DINO's and iBOT's files, under the names of a run."""
    torch.manual_seed(0)
    if arch in SWINS:
        return build_backbone(BackboneConfig(arch, SWIN_PATCH)).state_dict()
    official = timm.create_model(f"{arch}_patch16_224", num_classes=0).state_dict()
    return {k.replace("patch_embed.proj", "patch_embed"): v for k, v in official.items()}


def write_run(folder: Path, arch: str, official: dict[str, Tensor]) -> str:
    """A run directory that holds `official`."""
    patch = SWIN_PATCH if arch in SWINS else 16
    backbone = {"name": arch, "patch_size": patch, "image_size": 224}
    recipe = recipe_from_dict({"method": {"name": "dino"}, "backbone": backbone}, plugins.METHODS)
    card = {"recipe": recipe.to_dict(), "data": "none", "steps": 0}
    folder.mkdir()
    tensors = {f"backbone.{k}": v for k, v in official.items()}
    save_weights(folder / WEIGHTS, tensors, {**card, "epochs": 0.0, "effective_epochs": 0.0})
    return str(folder)


SIDES = ("scale", "scales", "crop_size", "size", "stride")


def shrunk(settings: Any, by: int) -> Any:
    """`settings` with every side of an image in them divided."""
    if isinstance(settings, list):
        return [shrunk(value, by) for value in settings]
    if not isinstance(settings, dict):
        return settings
    return {k: _divided(v, by) if k in SIDES else shrunk(v, by) for k, v in settings.items()}


def _divided(sides: Any, by: int) -> Any:
    return sides // by if isinstance(sides, int) else type(sides)(_divided(s, by) for s in sides)


def shrink_images(config: Config, by: int) -> None:
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset.pipeline = shrunk(loader.dataset.pipeline, by)
    for part in ("data_preprocessor", "test_cfg"):
        config.model[part] = shrunk(config.model[part], by)


def shortened(case: Case, folder: Path, source: str) -> Config:
    """The config on a tree of our own, for a step or two, without validation and checkpoints."""
    config = copy.deepcopy(load(case.benchmark, case.config))
    shrink_images(config, case.shrink)
    config.model.backbone.source = source
    write = write_coco if case.benchmark == "detection" else write_ade20k
    data = write(folder / "data", train=case.steps * case.batch)
    for loader, batch in ((config.train_dataloader, case.batch), (config.test_dataloader, 1)):
        loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f"{data}/"
    if case.benchmark == "detection":
        config.train_cfg.max_epochs = 1
        config.test_evaluator.ann_file = str(data / "annotations/instances_val2017.json")
        config.model.test_cfg.rcnn.score_thr = 0.0  # an untrained detector is sure of nothing
        regions(config)
    else:
        config.train_cfg.max_iters = case.steps
    config.train_cfg.pop("val_interval")
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.default_hooks.update(checkpoint=None, logger={"type": "LoggerHook", "interval": 1})
    config.optim_wrapper.precision = "fp32"
    config.randomness = {"seed": 0}
    config.log_level = "WARNING"
    config.visualizer.vis_backends = []  # mmengine keeps one for all: it writes to the first folder
    config.work_dir = str(folder / "work")
    return config


def regions(config: Config) -> None:
    """Few regions an image: their number moves no shape, and each costs much."""
    config.model.test_cfg.rpn.max_per_img //= 32
    config.model.test_cfg.rcnn.max_per_img //= 8
    for stage in config.model.train_cfg.rcnn:
        stage.sampler.num //= 32


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.config)
def test_a_step_or_two_and_a_test(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unread in ("_log_env", "dump_config"):  # the config formatted, seconds each
        monkeypatch.setattr(Runner, unread, lambda *_: None)
    official = official_weights(case.arch)
    source = write_run(tmp_path / "run", case.arch, official)
    runner = Runner.from_cfg(shortened(case, tmp_path, source))
    check_weights(runner.model.backbone.model, official)
    runner.train()
    losses = runner.message_hub.get_scalar("train/loss").data[0]
    assert runner.iter == len(losses) == case.steps and all(map(math.isfinite, losses))
    check_groups(runner)
    check_metrics(runner.test())


def check_weights(backbone: torch.nn.Module, official: dict[str, Tensor]) -> None:
    """Every tensor was loaded; the norm is dropped where the taps do not use it."""
    own = backbone.state_dict()
    assert set(official) - set(own) <= {"norm.weight", "norm.bias"}
    assert all(torch.equal(own[name], official[name]) for name in own)


def check_groups(runner: Runner) -> None:
    """Rates and decays as published (iBOT's and Swin's); every trained parameter got a gradient."""
    settings, optimizer = runner.cfg.optim_wrapper, runner.optim_wrapper.optimizer
    paramwise = settings.get("paramwise_cfg", {})
    decay, exempt = paramwise.get("layer_decay"), paramwise.get("custom_keys", {})
    names = {id(p): name for name, p in runner.model.named_parameters()}
    trained = {name for name, p in runner.model.named_parameters() if p.requires_grad}
    stepped = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            if parameter in optimizer.state:
                stepped.add(name)
                assert optimizer.state[parameter]["exp_avg"].isfinite().all(), name
            if decay is not None:
                rate, weight_decay = settings.optimizer.lr * scale(name, decay), 0.05
                if parameter.ndim == 1 or name.endswith(".bias"):
                    weight_decay = 0.0
                assert group["initial_lr"] == pytest.approx(rate), name
                assert group["weight_decay"] == weight_decay, name
            elif exempt:
                free = any(key in name for key in exempt)
                assert group["weight_decay"] == (0.0 if free else settings.optimizer.weight_decay)
    assert stepped == trained
    frozen = runner.cfg.model.backbone.get("frozen", False)
    assert any(name.startswith("backbone.") for name in trained) == (not frozen)


def scale(name: str, decay: float, depth: int = 12) -> float:
    """The published learning rate of a parameter, in units of the heads'."""
    if block := re.match(r"backbone\.model\.blocks\.(\d+)\.", name):
        return decay ** (depth - int(block[1]))
    embeddings = r"backbone\.model\.(patch_embed|cls_token|pos_embed)"
    return decay ** (depth + 1) if re.match(embeddings, name) else 1.0


def check_metrics(metrics: dict[str, float]) -> None:
    """Every figure the tables need is there; small objects (-1) do not occur."""
    if "mIoU" in metrics:
        assert all(0 <= metrics[name] <= 100 for name in ("mIoU", "mAcc", "aAcc"))
        return
    for kind in ("bbox", "segm"):
        assert all(0 <= metrics[f"coco/{kind}_mAP{k}"] <= 1 for k in ("", "_50", "_75", "_l"))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "width"), [("s", 384), ("b", 768), ("l", 1024)])
def test_the_linear_head_is_one_convolution(size: str, width: int) -> None:
    """Of 1x1 on the four maps together, and nothing else."""
    config = load("segmentation", f"ade20k_linear_vit{size}16")
    init_default_scope("mmseg")
    head = MODELS.build(config.model.decode_head)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert shapes == {"conv_seg.weight": (150, 4 * width, 1, 1), "conv_seg.bias": (150,)}
    maps = [torch.randn(1, width, 2, 3) for _ in range(4)]
    expected = torch.nn.functional.conv2d(
        torch.cat(maps, 1), head.conv_seg.weight, head.conv_seg.bias
    )
    torch.testing.assert_close(head(maps), expected)
