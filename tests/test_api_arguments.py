"""What Python passes and no shell would: "~", numpy's numbers, paths, another working folder."""

from __future__ import annotations

import pytest

import sslbench as public
from tests.training import small


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and a home folder beside it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def recipe(tmp_path, images):
    return small.write_config(tmp_path / "tiny.py", "dino", images, train={"epochs": 1})


def test_every_path_may_begin_with_the_home_folder(here, recipe, images, labelled) -> None:
    home = here.parent / "home"
    assert public.pretrain(recipe, images, "~/run", epochs=0.4) == home / "run"
    written = public.evaluate("~/run", labelled, ["knn"], out="~/results")
    assert list(public.load_records("~/results")) == list(written)
    saved = public.features("~/run", labelled).save("~/x.npz")
    assert saved == home / "x.npz" and saved.is_file()
    with pytest.raises(public.UserError, match=f"{home}/none.pth does not exist"):
        public.evaluate("~/run", labelled, ["knn"], classifier="~/none.pth")
    assert not (here / "~").exists()
