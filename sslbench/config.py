"""Recipes: typed, checked settings read from mmengine Python configs.

A recipe has one section per intent: `method`, `backbone`, `data`, `optim` and `train` decide the
result; `run` must not; `needs` names the frozen modules a method is given; `about` is for readers.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.discovery import all_configs, check_unclaimed
from sslbench.errors import UserError, nearest
from sslbench.method import Method

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataConfig:
    """source: "shapes", "digits", "torchvision:NAME", a folder or a list file.

    "imagenet-1k" and "imagenet-22k" stand for a folder that the user has to give.
    """

    source: str = "shapes"
    split: str = "train"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with per-step cosine schedules.

    lr and min_lr are peak and final; scale_lr multiplies lr by batch / 256 (DINO, iBOT), else it is
    absolute (BEiT). warmup_epochs: linear from 0. weight_decay rises to weight_decay_end.
    no_decay: name endings exempt besides biases and 1-D tensors. clip: largest gradient norm, of
    each tensor (clip_by "tensor": DINO, iBOT) or of all together ("global": BEiT); None = off.
    """

    lr: float = 5e-4
    scale_lr: bool = True
    min_lr: float = 1e-6
    warmup_epochs: float = 10.0
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    no_decay: tuple[str, ...] = ()
    clip: float | None = 3.0
    clip_by: str = "tensor"
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class TrainConfig:
    """batch_size counts images per optimiser step over all processes and accumulation steps.

    precision: "auto" (bf16 where the hardware multiplies it), "bf16" or "fp32".
    """

    epochs: float = 100.0
    batch_size: int = 1024
    accumulate: int = 1
    seed: int = 0
    precision: str = "auto"


@dataclass(frozen=True)
class RunConfig:
    """What must not change the result: workers and threads of this machine, intervals in steps.

    save_minutes: a checkpoint at least so often. export_every: epochs between weights written
    besides the last; 0: none.
    """

    workers: int = 8
    threads: int = 0
    log_every: int = 20
    save_every: int = 500
    save_minutes: float = 15.0
    export_every: float = 0.0


@dataclass(frozen=True)
class About:
    """What is known of a recipe; it decides nothing.

    dataset, images: the data it is made for; paper: where it comes from; expected: published
    figures as (benchmark, metric, value, source), spelt as in results/published.csv.
    """

    dataset: str = ""
    images: int = 0
    paper: str = ""
    expected: tuple[tuple[str, str, float, str], ...] = ()
    notes: str = ""


@dataclass(frozen=True)
class Recipe:
    """A complete pretraining run; `method` is the method's own frozen Config."""

    name: str
    method_name: str
    method: Any
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    run: RunConfig = field(default_factory=RunConfig)
    needs: dict[str, str] = field(default_factory=dict)
    about: About = field(default_factory=About)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, the inverse of `recipe_from_dict`."""
        values = dataclasses.asdict(self)
        values["method"] = {"name": values.pop("method_name"), **values["method"]}
        return values


SECTIONS = {"backbone": BackboneConfig, "data": DataConfig, "optim": OptimConfig}
SECTIONS |= {"train": TrainConfig, "run": RunConfig, "about": About}


def config_files() -> dict[str, Path]:
    """name ("shapes/dino") -> file of every recipe, over the packages in `sslbench.configs`.

    A folder named like a benchmark holds that benchmark's configs instead, see `benchmark_configs`.
    """
    benchmarks = plugins.available(plugins.BENCHMARKS)
    return {
        name: path
        for name, path in all_configs().items()
        if "/" not in name or name.partition("/")[0] not in benchmarks
    }


def benchmark_configs(benchmark: str) -> dict[str, Path]:
    """name ("coco_vits16") -> file of the configs in the folder named like a benchmark."""
    prefix = f"{benchmark}/"
    found = all_configs().items()
    return {name.removeprefix(prefix): path for name, path in found if name.startswith(prefix)}


def find_config(name: str) -> Path:
    """The file of a registered config or the file itself; UserError with the nearest name."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"config file {name!r} does not exist; check the path.")
        return Path(name)
    check_unclaimed(name)
    files = config_files()
    if name not in files:
        raise UserError(f"unknown config {name!r}: {nearest(name, files)}.")
    return files[name]


def load_recipe(
    config: str,
    method: str | None = None,
    changes: Sequence[str] = (),
    group: str = plugins.METHODS,
) -> Recipe:
    """The recipe of a config name or file with `--set key=value` changes applied."""
    from mmengine.config import Config  # takes a moment to import

    path = find_config(config)
    try:
        values = Config.fromfile(path, lazy_import=False).to_dict()
    except Exception as error:  # a config is a program and may fail in any way
        raise UserError(f"config {config!r} cannot be read: {error!r}.") from error
    found = _section(values, "method").get("name")
    if method is not None and found != method:
        raise UserError(f"config {config!r} is for method {found!r}, not {method!r}; change one.")
    values.setdefault("name", path.stem if config.endswith(".py") else config)
    return recipe_from_dict(values, group, changes)


def recipe_from_dict(
    given: Mapping[str, Any], group: str = plugins.METHODS, changes: Sequence[str] = ()
) -> Recipe:
    """Checks every key and type; raises UserError naming key, value and what is expected."""
    values = copy.deepcopy(dict(_section({"the recipe": given}, "the recipe")))
    for change in changes:
        _apply(values, change)
    known = {"name", "method", "needs", *SECTIONS}
    for key in values:
        if key not in known:
            raise UserError(f"unknown section {key!r} in the recipe: {nearest(key, known)}.")
    settings = dict(_section(values, "method"))
    if "name" not in settings:
        raise UserError("the recipe names no method; set method.name.")
    method_class: type[Method] = plugins.load(group, str(settings.pop("name")))
    sections = {k: typed(c, values.get(k, {}), k) for k, c in SECTIONS.items()}
    needs = {str(k): str(v) for k, v in _section(values, "needs").items()}
    for key in needs:
        if key not in method_class.needs:
            raise UserError(f"unknown key 'needs.{key}': {nearest(key, method_class.needs)}.")
    recipe = Recipe(
        name=str(values.get("name", "")),
        method_name=method_class.name,
        method=typed(method_class.Config, settings, "method"),
        needs=needs,
        **sections,
    )
    _check(recipe)
    return recipe


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, Mapping):
        raise UserError(f"{name}={section!r} is a value; it must be a section, as {name}.key=...")
    return section


def typed(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a dict, nested ones too; UserError for unknown keys and ill-typed values."""
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is a section with the keys {', '.join(sorted(names))}.")
    built = {}
    for key, value in values.items():
        if key not in names:
            raise UserError(f"unknown key '{where}.{key}': {nearest(key, names)}.")
        built[key] = _convert(hints[key], value, f"{where}.{key}")
    try:
        return cls(**built)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}.") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return typed(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, where) for v in value)
        if len(arguments) == len(value):
            return tuple(_convert(a, v, where) for a, v in zip(arguments, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and not (hint is int and isinstance(value, bool))
    ):
        return value
    expected = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise UserError(f"{where}={value!r} is {type(value).__name__}, expected {expected}.")


def _apply(values: dict[str, Any], change: str) -> None:
    """Applies one "a.b=value" to nested dicts in place; keys are checked when typed."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change!r} is not of the form key=value, e.g. train.epochs=10.")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {change!r}: {parent!r} is a value, not a section.")
    section[last] = value


def _check(recipe: Recipe) -> None:
    """What no single type can say."""
    train, optim = recipe.train, recipe.optim
    choices = {
        "train.precision": (train.precision, ("auto", "bf16", "fp32")),
        "optim.clip_by": (optim.clip_by, ("tensor", "global")),
    }
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{key}={value!r}: {nearest(value, allowed)}.")
    positive = {
        "train.epochs": train.epochs,
        "train.batch_size": train.batch_size,
        "train.accumulate": train.accumulate,
        "run.log_every": recipe.run.log_every,
        "run.save_every": recipe.run.save_every,
    }
    for key, number in positive.items():
        if not 0 < number < math.inf:
            raise UserError(f"{key}={number} must be greater than 0 and finite.")
