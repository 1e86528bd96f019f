"""Whether a config, a model and labelled images go together, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.resize import check_fit
from sslbench.benchmark import Splits
from sslbench.errors import UserError
from sslbench.recipes.recipe import Recipe
from sslbench.training.run import images_each

# settings that the model, the data or the benchmark decide, and what does so
DECIDED = {
    "backbone.name": "the model",
    "backbone.image_size": "method.views.size",
    "data.source": "--data",
    "data.mean": "the model",
    "data.std": "the model",
    "data.held_out": "the benchmark",
    "init.source": "--model",
    "method.classes": "the data",
    "train.seed": "the model's seed",
}


def check_free(values: Mapping[str, Any]) -> None:
    """Raise UserError where a config sets what is decided elsewhere to another value."""
    for setting, decided in DECIDED.items():
        section, name = setting.split(".")
        if name in (given := values.get(section, {})):
            size = values.get("method", {}).get("views", {}).get("size", 224)
            if setting == "backbone.image_size" and given[name] == size:
                continue
            raise UserError(
                f"{setting}={given[name]!r} cannot be set in a config of a fine-tuning: {decided} "
                "says it; remove that line"
            )


def check_share(values: Mapping[str, Any], shares: tuple[float, ...]) -> None:
    """Raise UserError where a config is for another share of the labels than all of `shares`."""
    share = values.get("data", {}).get("share", shares[0])
    if share not in shares:
        raise UserError(
            f"{values.get('name', 'the config')} is for {share:.0%} of the labels and this is for "
            f"{', '.join(f'{s:.0%}' for s in shares)}; take another config, or for 1% and 10% the "
            "benchmark semi_supervised_finetune"
        )


def check_recipe(recipe: Recipe, backbone: BackboneConfig, data: Splits) -> None:
    """Raise UserError where the trainer would: batches, groups, weights that cannot be fitted.

    backbone: of the weights to start from.
    """
    batch, share = recipe.train.batch_size, recipe.data.share
    if share == 1 and batch > len(data.train):
        raise UserError(
            f"{recipe.name} trains in batches of {batch} images, and {data.name} has "
            f"{len(data.train)}; choose a config for any folder, e.g. folder_cls"
        )
    method = plugins.load(plugins.CLASSIFIERS, recipe.method_name)
    images_each(recipe, max(1, torch.cuda.device_count()), method)
    check_fit(backbone, recipe.backbone)
