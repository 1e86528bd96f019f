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
    """The content of config.json; if it is damaged or missing, that kept in the checkpoint.

    Raises UserError if neither exists.
    """
    path = out / CONFIG
    try:
        values = parse_json(read_small(path))
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
        return values
    except FileNotFoundError:
        state, message = "missing", f"{out} holds no run ({CONFIG} is missing)"
    except (OSError, ValueError) as error:
        state, message = "damaged", f"{path} is damaged ({error})"
    if has_state(out) and (values := load_state(out, repair=False).get("recipe")):
        log.warning("%s is %s; the checkpoint says what it held.", path, state)
        return values
    raise UserError(f"{message}; name a run directory, or start a run without --resume.")


def stored_recipe(out: Path) -> tuple[Recipe, str]:
    """The recipe of a run and its method's group of plugins; UserError if it cannot be used."""
    values = stored_values(out)
    section = values.get("method")
    name = section.get("name") if isinstance(section, Mapping) else None
    group = plugins.group_with(name)
    return checked_recipe(out, values, group), group


def checked_recipe(out: Path, values: Mapping[str, Any], group: str) -> Recipe:
    """`values` as a recipe; a UserError names the run's file."""
    try:
        return recipe_from_dict(values, group)
    except UserError as error:
        raise UserError(f"{out / CONFIG} cannot be used: {error}") from error
