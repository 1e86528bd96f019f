"""`check_method`: the promises of `sslbench.method.Method`, in seconds on one CPU core."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.method import UNNORMED, Method
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.settings import described
from sslbench.testing.data import SIDE, write_folder
from sslbench.testing.promises import (
    BrokenPromise,
    check_frozen,
    check_registered,
    plain,
    promise,
    promised,
)
from sslbench.testing.runs import check_run
from sslbench.testing.steps import check_steps
from sslbench.testing.views import check_views

POOLINGS = ("cls", "mean", "cls+mean", UNNORMED)
BACKBONE = {"name": "vit_nano", "patch_size": 8, "image_size": SIDE, "drop_path": 0.1}
UNBOUNDED = ("a number", "a whole number")  # what `described` says of a number without bounds


@promised("all that the contract names can be used")
def check_method(
    method_class: type[Method],
    config: Any = None,
    backbone: Mapping[str, Any] = BACKBONE,
    needs: Mapping[str, str] | None = None,
) -> None:
    """Checks the promises of a method; BrokenPromise, with one sentence, for the first broken one.

    config: an instance of its Config for images of about 32 pixels, default: Config(); backbone:
    settings of the recipe's section; needs: name -> source of the frozen modules it is given.
    """
    check_registered(method_class, plugins.METHODS)
    check_class(method_class)
    with tempfile.TemporaryDirectory() as folder:
        data = write_folder(Path(folder) / "images")
        config = method_class.Config() if config is None else config
        recipe = check_recipe(method_class, config, backbone, needs or {}, data)
        check_answers(method_class, recipe)
        check_views(method_class, recipe)
        check_steps(recipe, Path(folder))
        check_run(recipe, Path(folder))


@promised("class attributes have the types of the contract")
def check_class(method_class: type[Method]) -> None:
    """What the class says of itself: Config, poolings, order, needs."""
    promise(
        inspect.isclass(method_class) and issubclass(method_class, Method),
        "a method is a class derived from sslbench.method.Method",
    )
    promise(hasattr(method_class, "Config"), "a method has a Config")
    check_frozen(method_class.Config, "Config")
    try:
        settings = described(method_class.Config, "method")
    except UserError as error:
        raise BrokenPromise(f"every setting of Config has a type, but {error}") from error
    for key, setting in settings.items():
        promise(
            setting.bounds not in UNBOUNDED,
            f"every number in Config has bounds; {key} has none: annotate it with setting(...)",
        )
    poolings = method_class.poolings
    promise(
        isinstance(poolings, tuple) and poolings and set(poolings) <= set(POOLINGS),
        f"`poolings` is a tuple of {', '.join(map(repr, POOLINGS))}; it is {poolings!r}",
    )
    promise(
        method_class.order in ("blockwise", "interleaved"),
        f'`order` is "blockwise" or "interleaved"; it is {method_class.order!r}',
    )
    promise(
        all(isinstance(remedy, str) and remedy for remedy in method_class.needs.values()),
        "`needs` gives for each module the sentence that says how to get one",
    )


def check_recipe(
    method_class: type[Method],
    config: Any,
    backbone: Mapping[str, Any],
    needs: Mapping[str, str],
    data: Path,
) -> Recipe:
    """The recipe of two steps that the other checks train; Config goes through it unchanged."""
    promise(
        isinstance(config, method_class.Config),
        f"the config is an instance of {method_class.__name__}.Config",
    )
    values = {
        "name": "kit",
        "method": {"name": method_class.name, **asdict(config)},
        "backbone": dict(backbone),
        "data": {"source": str(data)},
        "optim": {"lr": 1e-3, "scale_lr": False, "warmup_epochs": 0.0},
        "train": {"epochs": 2.0, "batch_size": 4, "precision": "fp32"},
        "run": {"workers": 0, "threads": 1, "log_every": 1, "watch_every": 0},
        "needs": dict(needs),
    }
    with promised("Config is read from a recipe"):
        recipe = recipe_from_dict(values)
    promise(recipe.method == config, "Config is the same after it was written to a recipe and read")
    with promised("a recipe can be written as JSON and read back"):
        again = recipe_from_dict(plain(recipe.to_dict()))
    promise(again == recipe, "a recipe is the same after it was written as JSON and read back")
    return recipe


def check_answers(method_class: type[Method], recipe: Recipe) -> None:
    """What the class methods return for a config."""
    config, stride = recipe.method, recipe.backbone.stride
    tie = method_class.needs_whole_batch(config)
    promise(
        isinstance(tie, str) and (not tie or "=" in tie),
        f'`needs_whole_batch` returns a setting as "key=value" or ""; it returned {tie!r}',
    )
    epochs = method_class.effective_epochs(config, 2.0)
    promise(
        isinstance(epochs, int | float) and math.isfinite(epochs) and epochs > 0,
        f"`effective_epochs` returns a positive number; it returned {epochs!r}",
    )
    tokens = method_class.image_tokens(config, stride)
    promise(
        isinstance(tokens, int) and tokens >= 0,
        f"`image_tokens` returns a whole number of at least 0; it returned {tokens!r}",
    )
    unreached = method_class.unreached(config, 2.0)
    promise(
        not isinstance(unreached, str) and all(isinstance(text, str) for text in unreached),
        "`unreached` returns sentences, not one text",
    )
