"""matched/*: equal conditions and equal image-token compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.data.shapes import ShapesConfig
from sslbench.recipes.load import config_files, load_recipe
from sslbench.recipes.recipe import Recipe
from sslbench.training.run import length

IMAGES = {"in1k": 1_281_167, "shapes": ShapesConfig().train}


def recipes(name: str) -> list[Recipe]:
    return [load_recipe(n) for n in config_files() if n.startswith(f"matched/{name}/")]


@pytest.mark.parametrize("name", IMAGES)
def test_every_method_is_there_under_equal_conditions(name) -> None:
    found = recipes(name)
    assert {r.method_name for r in found} == set(plugins.available(plugins.METHODS))
    for same in ("backbone", "data"):
        assert len({getattr(r, same) for r in found}) == 1, same
    assert len({(r.train.batch_size, r.train.precision) for r in found}) == 1


@pytest.mark.parametrize("name", IMAGES)
def test_the_students_see_the_same_number_of_image_tokens(name) -> None:
    seen = {}
    for recipe in recipes(name):
        steps, _ = length(recipe, IMAGES[name])
        method = plugins.load(plugins.METHODS, recipe.method_name)
        tokens = method.image_tokens(recipe.method, recipe.backbone.stride)
        seen[recipe.name] = steps * recipe.train.batch_size * tokens
        assert tokens > 0
    assert len(set(seen.values())) == 1, seen


def test_nothing_is_expected_of_them() -> None:
    assert not any(recipe.about.expected for name in IMAGES for recipe in recipes(name))


def test_every_folder_is_packaged() -> None:
    root = Path(__file__).parents[2]
    packages = (root / "pyproject.toml").read_text()
    for folder in {p.parent.relative_to(root) for p in (root / "configs").rglob("*.py")}:
        assert f'"sslbench.{".".join(folder.parts)}"' in packages
