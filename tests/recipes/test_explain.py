"""What `sslbench settings` says can be read at 80 columns and pasted after --set."""

from __future__ import annotations

import shlex

import pytest

from sslbench.errors import UserError
from sslbench.recipes.explain import explain
from sslbench.recipes.load import find_config, load_recipe

PAPER = "papers/dino_vit-small-p16_16xb64-coslr-800e_in1k"


def entries(lines: list[str]) -> dict[str, list[str]]:
    """key=value, out of its quotes -> the lines below it."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if "=" in line and line[0] not in " w" and not line.startswith("each"):
            (head,) = shlex.split(line)
            found[head] = []
        elif found and line.startswith(" "):
            found[head].append(line.strip())
    return found


def test_value_meaning_unit_bounds_and_source_of_each_setting() -> None:
    lines = explain(PAPER, ["train.epochs=400", "backbone.drop_path=0.2"])
    assert lines[0] == f"{PAPER}: dino"
    assert max(map(len, lines)) <= 80
    found = entries(lines)
    assert found["optim.clip=None"] == [
        "largest gradient norm; 0 or None: off; a number in [0,1000000] or None",
        "set by papers/dino_vit-small-p16_16xb64-coslr-800e_in1k.py:17 [S]",
    ]
    assert found["optim.lr=0.0005"][-1] == "set by papers/_dino.py:27 [P] x batch / 256"
    assert found["train.epochs=400.0"][-1] == found["backbone.drop_path=0.2"][-1] == "set by --set"
    assert found["optim.betas=(0.9, 0.999)"][-1] == "default"
    assert found["method.freeze_last_layer=1.0"][0].endswith(", in epochs; a number in [0,1000000]")


@pytest.mark.parametrize("name", ["shapes/ibot", "papers/dvae", PAPER])
def test_what_is_listed_gives_the_same_recipe_again(name) -> None:
    listed = list(entries(explain(name)))
    method = load_recipe(name, group="sslbench.tokenizers") if "dvae" in name else load_recipe(name)
    group = "sslbench.tokenizers" if "dvae" in name else "sslbench.methods"
    assert load_recipe(name, None, listed, group) == method


def test_a_module_that_is_needed_and_not_given_is_listed() -> None:
    said = " ".join(entries(explain("shapes/beit"))["needs.tokenizer=DIR"])
    assert said.startswith("not set; BEiT predicts the codes of a pretrained tokenizer")
    assert "needs.tokenizer=runs/x" in entries(explain("shapes/beit", ["needs.tokenizer=runs/x"]))


def test_what_comes_too_late_is_told_there_too() -> None:
    lines = explain("shapes/dino", ["train.epochs=0.25"])
    (said,) = [line for line in lines if line.startswith("warning: ")]
    assert "optim.warmup_epochs=0.5 is longer than" in said


def test_settings_that_a_config_computes_come_from_it(tmp_path) -> None:
    (tmp_path / "own.py").write_text(
        "method = dict(name='dino')\nmethod.update(out_dim=64)\noptim = dict(lr=2e-4)\n"
    )
    found = entries(explain(str(tmp_path / "own.py")))
    assert found["method.out_dim=64"][-1] == "set by the config"
    assert " ".join(found["optim.lr=0.0002"]).endswith(f"set by {tmp_path}/own.py:3")


def test_a_change_that_is_refused_says_where_to_look() -> None:
    with pytest.raises(UserError) as refused:
        load_recipe("shapes/dino", None, ["optim.lr=-1"])
    assert str(refused.value) == (
        "optim.lr=-1: must be greater than 0 (peak learning rate, before scale_lr); `sslbench "
        "settings shapes/dino` lists what can be set."
    )


def test_a_config_with_a_space_is_quoted_as_it_is_typed(tmp_path) -> None:
    (tmp_path / "my own.py").write_text("method = dict(name='dino')\n")
    with pytest.raises(UserError, match=r"`sslbench settings '.*my own\.py'` lists"):
        load_recipe(str(tmp_path / "my own.py"), None, ["optim.lr=-1"])


def test_what_a_budget_fits_says_so(tmp_path) -> None:
    def fitted(config: str, *changes: str) -> set[str]:
        lines = "\n".join(explain(config, changes)).replace("\n    ", " ").splitlines()
        return {line.split("=")[0] for line in lines if line.endswith("see budget")}

    text = "\n".join(explain("photos/dino", ["train.batch_size=16"]))
    entries = {e.split("=")[0]: e for e in text.replace("\n    ", " ").splitlines()}
    # --set decides the batch, and a file the epochs
    assert fitted("photos/dino", "train.batch_size=16") == {"train.epochs", "optim.warmup_epochs"}
    own = tmp_path / "own.py"
    own.write_text(f"_base_ = {str(find_config('photos/dino'))!r}\ntrain = dict(epochs=3.0)\n")
    assert fitted(str(own)) == {"train.batch_size", "optim.warmup_epochs"}
    assert "60000" in entries["budget.images"] and "photos/_base.py" in entries["budget.images"]
    assert not any(line.startswith("budget") for line in explain("shapes/dino"))
