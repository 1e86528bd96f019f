"""Recipes read from mmengine Python configs, `--set` and stored dicts, every setting checked."""

from __future__ import annotations

import ast
import copy
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslbench import plugins
from sslbench.errors import UserError, nearest
from sslbench.recipes.consistency import check
from sslbench.recipes.discovery import all_configs, check_unclaimed
from sslbench.recipes.recipe import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SECTIONS,
    About,
    DataConfig,
    OptimConfig,
    Recipe,
    RunConfig,
    TrainConfig,
)
from sslbench.settings import typed
from sslbench.storage.layout import CONFIG

if TYPE_CHECKING:
    from sslbench.method import Method

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SECTIONS",
    "About",
    "DataConfig",
    "OptimConfig",
    "Recipe",
    "RunConfig",
    "TrainConfig",
    "benchmark_configs",
    "config_files",
    "find_config",
    "load_recipe",
    "parsed",
    "read_config",
    "recipe_from_dict",
    "section_of",
    "typed",
]


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
    configs = all_configs().items()
    return {name.removeprefix(prefix): path for name, path in configs if name.startswith(prefix)}


def find_config(name: str) -> Path:
    """The file of a registered config or the file itself; UserError with the nearest name."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"config file {name!r} does not exist; check the path.")
        return Path(name)
    check_unclaimed(name)
    files = config_files()
    if name not in files:
        _check_kind(name)
        raise UserError(f"unknown config {name!r}: {nearest(name, files)}.")
    return files[name]


def _check_kind(name: str) -> None:
    """Raises UserError for a benchmark's config and for a run, neither of which is a recipe."""
    benchmark, _, own = name.partition("/")
    if path := all_configs().get(name):
        raise UserError(
            f"{name} is a config of the benchmark {benchmark}, not a recipe; use it with `sslbench "
            f"evaluate --benchmark {benchmark} --config {own}`, and read its settings in {path}."
        )
    run = Path(name).parent if Path(name).name == CONFIG else Path(name)
    if (run / CONFIG).is_file():
        raise UserError(f"{name} is a run, not a config; its settings are in {run / CONFIG}.")


def read_config(config: str, path: Path | None = None) -> dict[str, Any]:
    """The nested settings of a config name or file with its bases; only `name` is checked.

    path: its file, where that is known already.
    """
    from mmengine.config import Config  # takes a moment to import

    path = path or find_config(config)
    try:
        values = Config.fromfile(path, lazy_import=False).to_dict()
    except (Exception, SystemExit) as error:  # a config is a program and may fail in any way
        raise UserError(f"config {config!r} cannot be read: {error!r}.") from error
    values.setdefault("name", path.stem if config.endswith(".py") else config)
    return values


def load_recipe(
    config: str,
    method: str | None = None,
    changes: Sequence[str] = (),
    group: str = plugins.METHODS,
) -> Recipe:
    """The recipe of a config name or file with `--set key=value` changes applied."""
    values = read_config(config)
    name = section_of(values, "method").get("name")
    if method is not None and name != method:
        raise UserError(f"config {config!r} is for method {name!r}, not {method!r}; change one.")
    try:
        return recipe_from_dict(values, group, changes)
    except UserError as error:
        if not changes:
            raise
        message, quoted = str(error).rstrip("."), shlex.quote(config)
        raise UserError(
            f"{message}; `sslbench settings {quoted}` lists what can be set."
        ) from error


def read_outline(config: str, path: Path) -> Recipe:
    """The recipe of a config, whose file is `path`, without its method's own settings.

    They are None, for they load torch.
    """
    values = read_config(config, path)
    method = str(section_of(values, "method").get("name"))
    if all(method not in plugins.available(g) for g in (plugins.METHODS, plugins.TOKENIZERS)):
        plugins.load(plugins.METHODS, method)  # raises
    return Recipe(str(values["name"]), method, None, **_sections(values))


def recipe_from_dict(
    given: Mapping[str, Any],
    group: str = plugins.METHODS,
    changes: Sequence[str] = (),
    stored: bool = False,
) -> Recipe:
    """The recipe of a nested dict; UserError names a wrong key, type, bound or combination.

    stored: the settings are those of a run, perhaps of an older version; whether they go together
    is not checked again.
    """
    values = copy.deepcopy(dict(section_of({"the recipe": given}, "the recipe")))
    for change in changes:
        _apply(values, change)
    known = {"name", "method", "needs", *SECTIONS}
    for key in values:
        if key not in known:
            raise UserError(f"unknown section {key!r} in the recipe: {nearest(key, known)}.")
    settings = dict(section_of(values, "method"))
    if "name" not in settings:
        raise UserError("the recipe names no method; set method.name.")
    method_class: type[Method] = plugins.load(group, str(settings.pop("name")))
    sections = _sections(values)
    recipe = Recipe(
        name=str(values.get("name", "")),
        method_name=method_class.name,
        method=typed(method_class.Config, settings, "method"),
        needs=_needs(section_of(values, "needs"), getattr(method_class, "needs", {})),
        **sections,
    )
    if not stored:
        check(recipe, method_class)
    return recipe


def _sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """The typed sections that every recipe has."""
    sections = {k: typed(c, values.get(k, {}), k) for k, c in SECTIONS.items() if k != "data"}
    return {**sections, "data": _data(section_of(values, "data"))}


def _needs(given: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if key not in known:
            raise UserError(f"unknown key 'needs.{key}': {nearest(key, known)}.")
        if not isinstance(value, str | int) or value in ("", True, False):
            raise UserError(f"needs.{key}={value!r}: must be a run directory or a known name.")
    return {key: str(value) for key, value in given.items()}  # a folder may be called 2012


def _data(given: Mapping[str, Any]) -> DataConfig:
    """`source` is a path, which need not be Unicode; pydantic takes no other text."""
    source = given.get("source")
    if not isinstance(source, str) or not source:
        return typed(DataConfig, given, "data")
    return replace(typed(DataConfig, {**given, "source": "a path"}, "data"), source=source)


def section_of(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The section `name` of nested settings, {} where it is missing; UserError for a value."""
    section = values.get(name, {})
    if not isinstance(section, Mapping):
        raise UserError(f"{name}={section!r} is a value; it must be a section, as {name}.key=...")
    return section


def key_and_value(change: str) -> tuple[str, str]:
    """The two sides of a change as of --set; UserError if it is not of the form key=value."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change!r} is not of the form key=value, e.g. train.epochs=10.")
    return key, text


def _apply(values: dict[str, Any], change: str) -> None:
    """Applies one "a.b=value" to nested dicts in place; keys are checked when typed."""
    key, text = key_and_value(change)
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {change!r}: {parent!r} is a value, not a section.")
    section[last] = parsed(text)


def parsed(text: str) -> Any:
    """What "key=text" sets: a Python literal, true, false or none in any case, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
