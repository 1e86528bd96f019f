"""The recipe that a run directory was begun with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslbench import plugins
from sslbench.errors import UserError
from sslbench.recipes.load import recipe_from_dict
from sslbench.recipes.recipe import Recipe
from sslbench.storage.checkpoint import load_state
from sslbench.storage.files import parse_json, read_small
from sslbench.storage.layout import CONFIG, has_state

log = logging.getLogger(__name__)


def stored_values(out: Path) -> dict[str, Any]:
    """What config.json holds; where that is damaged or gone, what the checkpoint says it held.

    Raises UserError where neither is there.
    """
    path = out / CONFIG
    try:
        values = parse_json(read_small(path))
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
        return values
    except FileNotFoundError:
        found, told = "missing", f"{out} holds no run ({CONFIG} is missing)"
    except (OSError, ValueError) as error:
        found, told = "damaged", f"{path} is damaged ({error})"
    if has_state(out) and (values := load_state(out, repair=False).get("recipe")):
        log.warning("%s is %s; the checkpoint says what it held.", path, found)
        return values
    raise UserError(f"{told}; name a run directory, or start a run without --resume.")


def stored_recipe(out: Path) -> tuple[Recipe, str]:
    """The recipe of a run and the group of plugins that its method is of; UserError if unusable."""
    values = stored_values(out)
    section = values.get("method")
    name = section.get("name") if isinstance(section, Mapping) else None
    tokenizer = name in plugins.available(plugins.TOKENIZERS)
    group = plugins.TOKENIZERS if tokenizer else plugins.METHODS
    return checked_recipe(out, values, group), group


def checked_recipe(out: Path, values: Mapping[str, Any], group: str) -> Recipe:
    """`values` as a recipe; UserError that names the run's file."""
    try:
        return recipe_from_dict(values, group)
    except UserError as error:
        raise UserError(f"{out / CONFIG} cannot be used: {error}") from error
