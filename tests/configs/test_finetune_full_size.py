"""What the published fine-tunings train at full size: timm's networks, to the last parameter.

On the `meta` device, where tensors have shapes and no values.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from sslbench import plugins
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.resize import fitted_to
from sslbench.benchmarks.finetuning.recipes import read, recipe_for
from sslbench.method import Method, Start
from sslbench.training.build import build_method
from tests.configs.published_finetunings import ROWS, Row

SIZES = {"ViT-S/16": "small", "ViT-B/16": "base", "ViT-L/16": "large"}
WIDTHS = {"small": 384, "base": 768, "large": 1024}
CLASSES = {
    "ImageNet-1K": 1000,
    "ImageNet-22K": 21_841,
    "CIFAR-10": 10,
    "CIFAR-100": 100,
    "Stanford-Cars": 196,
    "Flowers-102": 102,
    "iNaturalist-2018": 8142,
    "iNaturalist-2019": 1010,
}
HIDDEN = 2048  # of iBOT's projection head
pytestmark = pytest.mark.slow
LAYER_SCALE = {"base": 0.1, "large": 1e-5}  # beit/README.md, of the weights of ImageNet-22K
# as published by timm and torchvision; beit/README.md rounds its own to 87 M and 304 M
MILLIONS = {
    "scratch_deit_vits16": 22.05,
    "in1k_ibot_vitb16": 86.57,
    "in1k_ibot_vitl16": 304.33,
    "in22k_beit_vitb16": 86.53,
    "in22k_beit_vitl16": 304.43,
}


def positions_before(name: str, row: Row) -> str:
    """Positions of the weights that a config starts from."""
    if row.method != "BEiT" or name.startswith("in1k"):
        return "absolute"
    return "relative" if "second" in name else "shared relative"


def source_config(name: str, row: Row) -> BackboneConfig:
    """The backbone of the weights that a config starts from, of 224 pixels."""
    size, positions = SIZES[row.arch], positions_before(name, row)
    family = "beit" if row.method == "BEiT" else "vit"
    scale = 0.0 if positions == "absolute" else LAYER_SCALE[size]
    return BackboneConfig(f"{family}_{size}", 16, 224, 0.0, positions=positions, layer_scale=scale)


def started(name: str, classes: int) -> Method:
    """What the config trains from its source, with the weights of that source."""
    row = ROWS[name]
    config = source_config(name, row)
    with torch.device("meta"):
        backbone = build_backbone(config)
        head = SimpleNamespace(layers=[nn.Linear(backbone.embed_dim, HIDDEN)])
    model: Any = SimpleNamespace(
        backbone=backbone, head=head, mean=(0.5,) * 3, std=(0.5,) * 3, source=""
    )
    data: Any = SimpleNamespace(classes=range(classes), source="none", train=range(10**6))
    share = row.values.get("data.share", 1.0)
    recipe = recipe_for(read(name), model, data, seed=0, share=share)
    method = build_method(recipe, plugins.CLASSIFIERS, "meta")
    weights = {  # a table is resampled by its values
        name: torch.zeros(tensor.shape) if name.endswith("bias_table") else tensor
        for name, tensor in backbone.state_dict().items()
    }
    fitted = fitted_to(weights, config, recipe.backbone)
    method.start_from(Start({k: v.to("meta") for k, v in fitted.items()}, head))
    return method


def peer(name: str, classes: int) -> nn.Module:
    """timm's network of that size, with the classifier of the paper."""
    row = ROWS[name]
    size, side = SIZES[row.arch], row.values["method.views.size"]
    options: dict[str, Any] = {"num_classes": classes, "img_size": side}
    if row.method == "BEiT":
        absolute = row.values["backbone.positions"] == "absolute"
        options |= {"use_abs_pos_emb": absolute, "use_rel_pos_bias": not absolute}
        options |= {"init_values": 0.0 if absolute else LAYER_SCALE[size]}
        return timm.create_model(f"beit_{size}_patch16_224", **options)
    network = timm.create_model(f"vit_{size}_patch16_224", **options)
    if row.values["method.projection"]:  # `ibot/evaluation/semi_supervised/eval_cls.py`
        layers = nn.Linear(WIDTHS[size], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, classes)
        network.head = nn.Sequential(*layers)
    return network


def trained(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ROWS)
def test_it_trains_the_parameters_of_timms_network(name: str) -> None:
    classes = CLASSES[ROWS[name].dataset]
    with torch.device("meta"):
        expected = trained(peer(name, classes))
    count = trained(started(name, classes))
    assert count == expected
    if name in MILLIONS:
        assert round(count / 1e6, 2) == MILLIONS[name]


@pytest.mark.parametrize("size", ["base", "large"])
def test_a_class_more_of_imagenet_22k_is_a_row_more(size: str) -> None:
    """Its copies have 21,841 or 21,842 classes."""
    name = f"in22k_beit_vit{size[0]}16_intermediate"
    few, many = (trained(started(name, classes)) for classes in (21_841, 21_842))
    assert many - few == WIDTHS[size] + 1


def test_positions_of_384_pixels_are_24_a_side() -> None:
    """By written formulas: absolute ones, and a table of bias in each of 12 blocks."""
    width, heads, blocks = 768, 12, 12
    assert grown("scratch_deit_vitb16", "scratch_deit_vitb16_384") == (24**2 - 14**2) * width
    distances = (2 * 24 - 1) ** 2 - (2 * 14 - 1) ** 2
    more = grown("in22k_beit_vitb16_second", "in22k_beit_vitb16_second_384")
    assert more == blocks * heads * distances


def grown(small: str, large: str) -> int:
    return trained(started(large, 1000)) - trained(started(small, 1000))
