"""papers/* hold what was published, say where each value is from, and train."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sslbench.data.images import open_dataset
from sslbench.errors import UserError
from sslbench.recipes.load import config_files, load_recipe
from sslbench.testing.one_step import take_step
from sslbench.training.run import load_views, set_up
from tests.configs.published_recipes import PUBLISHED
from tests.training import small

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "papers").glob("*.py"))
TAG = re.compile(r"# (\[(C|P|I|S|s)\]|ours\b)")
NAMES = {"beit": "BEiT", "dino": "DINO", "ibot": "iBOT"}  # as results/published.csv spells them
UNDECIDED = {"data.split", "train.accumulate", "train.seed", "train.precision", "about.paper"}
UNDECIDED |= {"train.repeats", "data.share", "data.held_out"}  # of fine-tuning
UNDECIDED |= {"train.low_precision_needs", "train.compile"}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inside = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found


def leaves(source: str) -> Iterator[tuple[str, int]]:
    """(dotted key, line it ends on) of everything a config sets, `about` excepted."""

    def walk(key: str, node: ast.expr) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                yield from walk(f"{key}.{keyword.arg}", keyword.value)
        else:
            yield key, node.end_lineno or 0

    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            assert isinstance(target, ast.Name)
            if target.id not in ("_base_", "about"):
                yield from walk(target.id, statement.value)


def test_every_published_pretraining_has_a_config_and_no_other_has() -> None:
    found = {n.removeprefix("papers/") for n in config_files() if n.startswith("papers/")}
    assert found == {*PUBLISHED, "dvae"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_resolved_recipe_is_the_published_one(name) -> None:
    recipe = flat(load_recipe(f"papers/{name}").to_dict())
    published = PUBLISHED[name]
    assert {key: recipe[key] for key in published} == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_leaves_no_setting_out(name) -> None:
    recipe = flat(load_recipe(f"papers/{name}").to_dict())
    decides = {
        k for k in recipe if not k.startswith(("run.", "about.", "budget.")) and k not in UNDECIDED
    }
    # windows are Swin's alone; a published pretraining starts from fresh weights
    assert load_recipe(f"papers/{name}").init.source == ""
    open_ = {"name", "backbone.window", "init.source", "init.heads"}
    assert decides - set(PUBLISHED[name]) <= open_


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_value_says_where_it_is_from(path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    assert [key for key, line in leaves(source) if not TAG.search(lines[line - 1])] == []


def test_a_missing_tag_is_seen() -> None:
    source = "a = dict(b=1,  # [C]\n  c=dict(d=2))\nabout = dict(x=1)"
    assert list(leaves(source)) == [("a.b", 1), ("a.c.d", 2)]


def test_names_say_epochs_batch_and_data() -> None:
    for name in PUBLISHED:
        recipe = load_recipe(f"papers/{name}")
        gpus, share, epochs = re.search(
            r"_(?:(\d+)xb|bs)(\d+)-coslr-(\d+)e(?:-random-mask)?_in", name
        ).groups(default="1")
        assert int(gpus) * int(share) == recipe.train.batch_size
        assert float(epochs) == recipe.train.epochs
        assert name.split("_")[0] == recipe.method_name
        assert recipe.about.dataset == name.rsplit("_", 1)[-1].upper().replace("IN", "IN-")


def published_rows() -> list[dict[str, str]]:
    with (ROOT / "results" / "published.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", PUBLISHED)
def test_expected_figures_are_published_ones(name) -> None:
    recipe = load_recipe(f"papers/{name}")
    arch = recipe.backbone.arch.removesuffix(" rel")
    model = (NAMES[recipe.method_name], arch, recipe.about.dataset)
    rows = [
        row
        for row in published_rows()
        if (
            row["method"],
            row["arch"].removesuffix(" rel"),
            row["pretrain_data"].removesuffix(", labels"),
        )
        == model
        and row["pretrain_epochs"] in ("", str(int(recipe.train.epochs)))
    ]
    known = {
        (r["benchmark"], r["metric"], float(r["value"]), f"{r['source']}, {r['table']}")
        for r in rows
    }
    assert set(recipe.about.expected) <= known
    assert recipe.about.expected or name.startswith("beit_vit-small")


@pytest.mark.parametrize("source", ["imagenet-1k", "imagenet-22k"])
def test_imagenet_has_to_be_given(source, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{source} does not come .* give the folder with --data"):
        open_dataset(source)


def test_the_warm_up_of_beit_on_22k_is_10000_steps() -> None:
    recipe = load_recipe("papers/beit_beit-base-p16_16xb128-coslr-150e_in22k")
    per_epoch = recipe.about.images // recipe.train.batch_size
    assert int(recipe.optim.warmup_epochs * per_epoch) == 10_000


SMALL = {
    "vit": "name=vit_nano patch_size=8 image_size=32",
    "beit": "name=beit_nano patch_size=8 image_size=32",
    "swin": "name=swin_nano patch_size=4 image_size=64",
}
SHORT = "train.epochs=0.4 train.batch_size=8 train.precision=fp32 run.workers=0 run.threads=1"


def reduced(name: str, images: Path, tokenizer: Path) -> list[str]:
    """--set changes that keep a recipe's kind and make two steps of it a matter of a second."""
    recipe = load_recipe(name)
    family, side = recipe.backbone.name.split("_")[0], 32 * (1 + ("swin" in recipe.backbone.name))
    changes = [f"backbone.{change}" for change in SMALL[family].split()]
    changes += [*SHORT.split(), f"data.source={str(images)!r}"]
    if recipe.method_name == "beit":
        views = f"size={side} token_size={side}"
        changes.append(f"needs.tokenizer={str(tokenizer)!r}")
    else:
        views = f"global_size={side} local_size={side // 2} local_crops=2"
        changes += ["method.out_dim=16", "method.hidden_dim=16", "method.bottleneck_dim=8"]
    return [*changes, *(f"method.views.{change}" for change in views.split())]


@pytest.mark.parametrize(
    "name", [n for n in config_files() if n.startswith(("papers/", "matched/")) and "dvae" not in n]
)
def test_two_steps_at_reduced_size(name, images, tokenizer, tmp_path) -> None:
    recipe = load_recipe(name, changes=reduced(name, images, tokenizer))
    run = set_up(recipe, tmp_path, small.ALONE)
    before = [p.detach().clone() for p in run.method.parameters()]
    assert run.total_steps == 2
    for step, (batch, _) in enumerate(load_views(run, 0)):
        assert not take_step(run, [batch], step).skipped
    moved = [not torch.equal(p, b) for p, b in zip(run.method.parameters(), before, strict=True)]
    assert any(moved) and step == 1


@pytest.mark.parametrize(
    "config",
    [
        "papers/dino_vit-small-p16_16xb64-coslr-800e_in1k",
        "papers/ibot_vit-small-p16_16xb64-coslr-800e_in1k",
        "papers/beit_vit-small-p16_16xb128-coslr-800e_in1k",
    ],
)
def test_a_methods_defaults_are_those_of_vit_s(config) -> None:
    method = load_recipe(config).method
    assert type(method)() == method
