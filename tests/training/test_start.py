"""What a training is started with, and what its processes are told."""

from __future__ import annotations

import pytest

from sslbench import plugins
from sslbench.training import start


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((plugins.METHODS, "dino", None, None, [], False), ["pretrain", "--method", "dino"]),
        (
            (plugins.METHODS, None, "a b.py", "d", ["x=--out", "y=1"], False),
            [
                "pretrain",
                "--config",
                "a b.py",
                "--data",
                "d",
                "--set",
                "x=--out",
                "--set",
                "y=1",
            ],
        ),
        ((plugins.METHODS, None, None, None, [], True), ["pretrain", "--resume"]),
        (
            (plugins.TOKENIZERS, "dvae", None, None, ["a=1"], False),
            ["tokenizer", "train", "--kind", "dvae", "--set", "a=1"],
        ),
    ],
)
def test_a_process_is_told_all_that_was_asked(asked, told, monkeypatch) -> None:
    assert start._command(*asked) == ["-m", "sslbench.cli", *told]
    monkeypatch.setattr("sys.argv", ["sslbench", "--debug", "pretrain"])
    assert start._command(*asked) == ["-m", "sslbench.cli", "--debug", *told]
