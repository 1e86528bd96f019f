"""Where a setting stands is found by reading; the last file that sets it counts."""

from __future__ import annotations

from pathlib import Path

from sslbench.recipes.load import find_config
from sslbench.recipes.origins import origins, set_by_user


def test_bases_comments_and_lines() -> None:
    found = origins(find_config("papers/ibot_vit-base-p16_bs1024-coslr-400e_in1k"))
    assert found["optim.clip"] == "papers/_ibot_vit-base.py:18 [S]"
    assert found["method.views.local_crops"] == "papers/_ibot.py:27 [C] [P]"
    assert found["data.source"] == "papers/_in1k.py:3 [P]"
    assert found["train.epochs"].startswith("papers/ibot_vit-base-p16_bs1024-coslr-400e_in1k.py:")
    assert "backbone.window" not in found


def test_several_bases_and_dicts_of_either_kind(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('optim = {"lr": 1e-3, "min_lr": 0.0}\ntrain = dict(seed=1)\n')
    (tmp_path / "b.py").write_text("optim = dict(lr=2e-3)\nraise SystemExit  # never run\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "_base_ = ['a.py', 'b.py']\nbatch = 8\n"
        "train = dict(\n    batch_size=batch,  # what fits\n)\n"
        "data = dict(_delete_=True, source='x')\n"
    )
    found = origins(path)
    assert found["optim.lr"] == f"{tmp_path}/b.py:1"
    assert found["optim.min_lr"] == f"{tmp_path}/a.py:1"
    assert found["train.seed"] == f"{tmp_path}/a.py:2"
    assert found["train.batch_size"] == f"{path}:4 what fits"


def test_what_a_file_deletes_is_no_longer_set_by_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("method = dict(views=dict(flip=0.1), momentum=0.9)\n")
    path = tmp_path / "mine.py"
    path.write_text("_base_ = 'base.py'\nmethod = dict(views=dict(_delete_=True, hue=0.0))\n")
    found = origins(path)
    assert "method.views.flip" not in found and "method.views.hue" in found
    assert found["method.momentum"] == f"{tmp_path}/base.py:1"


def test_the_user_s_files_are_told_from_those_of_packages(tmp_path: Path) -> None:
    base = find_config("photos/dino")
    (tmp_path / "first.py").write_text(f"_base_ = {str(base)!r}\noptim = dict(lr=1e-3)\n")
    path = tmp_path / "second.py"
    path.write_text("_base_ = 'first.py'\ntrain = dict(epochs=3.0)\nrun = settings\n")
    assert set_by_user(str(path)) == {"optim.lr", "train.epochs", "run"}
    assert set_by_user("photos/dino") == set_by_user(str(base)) == set()


def test_a_budget_of_the_user_s_own_replaces_what_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("train = dict(epochs=50.0)\nbudget = dict(images=20_000)\n")
    assert set_by_user(str(path)) == set()
