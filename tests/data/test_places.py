"""Where images come from, spelt so that it holds in every working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslbench.data.places import absolute_place


@pytest.mark.parametrize("name", ["plain", "a?b", "a?labels=official", "a?b?c"])
def test_a_folder_is_absolute_whatever_its_name_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_place(name) == str(tmp_path / name)


def test_options_stay_behind_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inat").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_place("inat?labels=official") == f"{tmp_path / 'inat'}?labels=official"
    for named in ("", "shapes", "torchvision:CIFAR10", "nowhere", "nowhere?x=y"):
        assert absolute_place(named) == named
