"""The output of `sslbench settings`: each setting of a recipe, its meaning and where it is set."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sslbench import plugins
from sslbench.method import Method
from sslbench.recipes.consistency import warnings
from sslbench.recipes.fitting import fitted_settings
from sslbench.recipes.load import find_config, load_recipe, parsed, read_config
from sslbench.recipes.origins import origins, set_by_user
from sslbench.recipes.recipe import SECTIONS, Recipe
from sslbench.settings import described
from sslbench.system.printing import printable

WIDTH, INDENT = 79, " " * 4
SHOWN = ("method", "backbone", "data", "optim", "train", "needs", "run")
FITTED = "fitted to the number of images, see budget"


def explain(config: str, changes: Sequence[str] = ()) -> list[str]:
    """Lines for a terminal of 80 columns: "key=value" as `--set` takes it, below it what it is.

    Raises UserError for a config that cannot be read and for a change that is refused.
    """
    values = read_config(config)
    group = _group(values)
    recipe = load_recipe(config, None, changes, group)
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    known = described(method_class.Config, "method")
    for name, section in SECTIONS.items():
        known |= described(section, name)
    places = {key: "the config" for key, _ in _leaves(values, "")} | origins(find_config(config))
    asked = {change.partition("=")[0] for change in changes}
    places |= dict.fromkeys(asked, "--set")
    chosen = asked | set_by_user(config)
    fitted = {change.partition("=")[0] for change in fitted_settings(recipe, 1, chosen)}
    lines = [f"{recipe.name}: {recipe.method_name}", "each key=value is written as --set takes it"]
    for key, value in _settings(recipe):
        setting, place = known.get(key), _place(key, places)
        about = "; ".join(filter(None, [setting.meaning, setting.bounds])) if setting else ""
        source = f"set by {place}" if place else "default"
        lines += _entry(key, value, about, source, *([FITTED] if key in fitted else []))
    for name, remedy in method_class.needs.items():
        if name not in recipe.needs:
            lines += _entry(f"needs.{name}", "DIR", f"not set; {remedy}")
    wrapped = (textwrap.wrap(sentence, WIDTH) for sentence in warnings(recipe, group))
    return [*lines, *(line for sentence in wrapped for line in sentence)]


def _group(given: Mapping[str, Any]) -> str:
    """The plugin group of the config's method."""
    method = given.get("method")
    name = method.get("name") if isinstance(method, Mapping) else None
    return plugins.group_with(name)


def _settings(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    values = recipe.to_dict()
    del values["method"]["name"]
    for section in (*SHOWN, "budget") if recipe.budget.images else SHOWN:
        yield from _leaves({section: values[section]}, "")


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _place(key: str, places: Mapping[str, str]) -> str:
    """Where a key, or the whole section around it, is set; "" if it is not set."""
    while key:
        if key in places:
            return places[key]
        key = key.rpartition(".")[0]
    return ""


def _entry(key: str, value: Any, *about: str) -> list[str]:
    text = value if isinstance(value, str) and parsed(value) == value else repr(value)
    wrap = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    wrap.initial_indent, wrap.subsequent_indent = INDENT, f"{INDENT}  "
    paragraphs = [wrap.wrap(printable(text)) for text in about]
    return [shlex.quote(printable(f"{key}={text}")), *(line for p in paragraphs for line in p)]
