"""What is refused before a fine-tuning starts: config, model and images that do not go together.

The process that trains would refuse the same, perhaps after others have trained for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sslbench import plugins
from sslbench.backbones.resize import check_fit
from sslbench.benchmark import Splits
from sslbench.benchmarks.apart import process_count
from sslbench.benchmarks.finetuning.recipes import rates_of, recipe_for
from sslbench.benchmarks.selection import too_few
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.labels import check_classes
from sslbench.data.subsets import training_parts
from sslbench.errors import UserError
from sslbench.method import Method
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
            size = values.get("method", {}).get("views", {}).get("size")
            if setting == "backbone.image_size" and given[name] == size:
                continue
            raise UserError(
                f"{setting}={given[name]!r} cannot be set in a config of a fine-tuning: {decided} "
                "says it; remove that line"
            )


def shares_for(values: Mapping[str, Any], shares: tuple[float, ...]) -> tuple[float, ...]:
    """Those of `shares` of the labels that a config is for; UserError where it is for none."""
    share = values.get("data", {}).get("share")
    if share is None:
        return shares
    if share not in shares:
        raise UserError(
            f"{values.get('name', 'the config')} is for {share:.0%} of the labels and this is for "
            f"{', '.join(f'{s:.0%}' for s in shares)}; take another config, or for 1% and 10% the "
            "benchmark semi_supervised_finetune"
        )
    return (share,)


def checked_recipe(
    values: Mapping[str, Any], model: LoadedModel, data: Splits, share: float, held_out: float
) -> Recipe:
    """The recipe of a config, after all that it would train has been checked.

    share: of the labels; held_out: share of these that choose among several rates.
    Raises UserError where a training would be refused.
    """
    check_free(values)
    recipe = recipe_for(values, model, data, 0, share=share)
    rates = rates_of(values)
    for rate in rates:
        recipe_for(values, model, data, 0, rate, share)
    check_fit(model.backbone.config, recipe.backbone)
    method: type[Method] = plugins.load(plugins.CLASSIFIERS, recipe.method_name)
    images_each(recipe, process_count(), method)
    if not too_few(data, share):  # else nothing is trained
        for left_out in (0.0, held_out) if len(rates) > 1 else (0.0,):
            part, _ = training_parts(data.train, share, left_out)
            check_classes(part, data.test)
            check_size(recipe, part.name, len(part))
    return recipe


def check_size(recipe: Recipe, name: str, images: int) -> None:
    """Raise UserError where a batch is larger than the `images` that are trained on."""
    batch = recipe.train.batch_size
    if batch > images:
        raise UserError(
            f"{recipe.name} trains in batches of {batch} images, and {name} has {images}; "
            "choose a config for any folder, e.g. folder_cls"
        )
