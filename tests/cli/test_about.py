"""Help, lists and tracebacks."""

from __future__ import annotations

import re
import sys

import pytest

from sslbench import cli
from tests.cli.ended import assert_one_sentence


def test_help_and_version(sslbench) -> None:
    assert sslbench().code == sslbench("--help").code == 0
    assert "pretrain" in sslbench().out
    assert re.fullmatch(r"\d+\.\d+\S*\n", sslbench("version").out)
    assert sslbench("--version").out == sslbench("version").out
    assert sslbench("pretrain", "-h").out == sslbench("pretrain", "--help").out


def test_debug_shows_the_traceback(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sslbench", "--debug", "pretrain", "--method", "dinno"])
    with pytest.raises(Exception, match="unknown method 'dinno'"):
        cli.main()


def test_list_and_doctor(sslbench) -> None:
    listed = sslbench("list")
    assert listed.code == 0
    for name in ("ibot", "dvae", "knn", "shapes/dino", "vit_nano", "digits"):
        assert re.search(rf"^  {name} ", listed.out, re.MULTILINE)
    assert re.search(r"^ok  torch ", sslbench("doctor").out, re.MULTILINE)


def test_list_of_one_kind(sslbench) -> None:
    listed = sslbench("list", "configs")
    assert listed.out.startswith("configs\n  init/")
    assert "methods" not in listed.out.splitlines()
    assert_one_sentence(sslbench("list", "config"), "kind 'config': did you mean 'configs'")


def test_settings_of_a_recipe(sslbench) -> None:
    listed = sslbench("settings", "shapes/dino", "--set", "optim.clip=0")
    assert listed.code == 0, listed.err
    assert "optim.clip=0.0\n    largest gradient norm; 0 or None: off" in listed.out
    assert "set by shapes/_base.py:6\n" in listed.out
    assert_one_sentence(sslbench("settings", "shapes/dinno"), "did you mean 'shapes/dino'")
    assert_one_sentence(
        sslbench("settings", "shapes/dino", "--set", "optim.lr=0"),
        r"optim.lr=0: must be greater than 0 .* `sslbench settings shapes/dino` lists",
    )
