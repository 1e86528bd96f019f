"""Options that stand for settings, and what contradicts them."""

from __future__ import annotations

import pytest

from sslbench.cli.checks import with_shortcuts
from sslbench.errors import UserError


def test_shortcuts_become_changes() -> None:
    assert with_shortcuts(["optim.lr=1"], None, None) == ["optim.lr=1"]
    assert with_shortcuts([], 3, 0.5) == ["train.seed=3", "train.epochs=0.5"]
    assert with_shortcuts(["train.seed=3"], 3, None)[-1] == "train.seed=3"
    assert with_shortcuts(["train.epochs=4"], 3, 4.0)[-1] == "train.epochs=4.0"


@pytest.mark.parametrize("text", ["4", "four", ""])
def test_a_contradiction_is_refused(text) -> None:
    with pytest.raises(UserError, match=f"--seed 3 contradicts --set train.seed={text}; drop one"):
        with_shortcuts([f"train.seed={text}"], 3, None)
