"""Builds a recipe's method, with the frozen modules that it is given."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from sslbench import plugins
from sslbench.backbones.base import Backbone
from sslbench.backbones.build import build_backbone
from sslbench.checkpoints.modules import load_module
from sslbench.checkpoints.starting import read_start
from sslbench.data.rng import fitting
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.recipe import Recipe
from sslbench.tokenizer import Tokenizer


def build_method(recipe: Recipe, group: str = plugins.METHODS, device: str = "cpu") -> Method:
    """The method of a recipe with fresh weights, which depend on the recipe's seed alone.

    device "meta": shapes only, except for the frozen modules it needs.
    """
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    needs = load_needs(recipe, method_class)
    torch.manual_seed(fitting(recipe.train.seed))
    try:
        with torch.device(device):
            return method_class(recipe.method, partial(build_backbone, recipe.backbone), **needs)
    except ValueError as error:
        raise UserError(f"recipe {recipe.name!r} cannot be built: {error}.") from error


def start_method(method: Method, recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """Loads the weights that `recipe` starts from into `method`, if it names any.

    Returns what records say of them (`StartWeights.record`) and sentences on what is kept and what
    is new; both empty for fresh weights. Raises UserError for weights that do not fit.
    """
    if not recipe.init.source:
        return {}, []
    weights = read_start(recipe.init.source)
    notes = method.start_from(weights.fitted(recipe.backbone, recipe.init.heads == "keep"))
    return weights.record, [f"starts from {recipe.init.source}", *notes]


def compile_blocks(method: Method) -> None:
    """Compiles the blocks of the method's backbones; UserError if it has none or they cannot be."""
    backbones = [module for module in method.modules() if isinstance(module, Backbone)]
    if not backbones:
        raise UserError(
            f"train.compile=True is for methods with a backbone, and {method.name} has none; leave "
            "it out."
        )
    for backbone in backbones:
        backbone.compile_blocks()


def load_needs(recipe: Recipe, method: type[Method]) -> dict[str, nn.Module]:
    """The frozen modules that `method` is given, by name; UserError where the recipe names none."""
    needs: dict[str, nn.Module] = {}
    for name, remedy in method.needs.items():
        if name not in recipe.needs:
            raise UserError(f"{remedy}.")
        module = load_module(recipe.needs[name], plugins.group_of(name))
        if isinstance(module, Tokenizer):
            module.low_precision = recipe.train.low_precision_needs
        needs[name] = module
    if recipe.train.low_precision_needs and not needs:
        raise UserError(
            "train.low_precision_needs=True is for methods that are given a tokenizer, and "
            f"{method.name} is given none; leave it out."
        )
    return needs
