"""`list` and `doctor` go on where a plugin is broken, and say which."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sslbench import plugins
from sslbench.benchmark import Benchmark
from sslbench.cli import overview
from sslbench.recipes import discovery, load
from sslbench.recipes.load import config_files


class Boxes(Benchmark):
    """Boxes."""

    name, version = "boxes", "1"

    @classmethod
    def diagnosis(cls):
        return {"boxlib": (False, "missing"), "operators": (True, "torchvision's")}


@pytest.fixture
def boxes(monkeypatch):
    """A benchmark with needs and configs of its own."""
    available, all_configs = plugins.available, load.all_configs
    entry = EntryPoint("boxes", f"{__name__}:Boxes", plugins.BENCHMARKS)
    own = config_files()["shapes/dino"]

    def with_boxes(group):
        return {**available(group), **({"boxes": entry} if group == plugins.BENCHMARKS else {})}

    monkeypatch.setattr(plugins, "available", with_boxes)
    monkeypatch.setattr(load, "all_configs", lambda: {**all_configs(), "boxes/small": own})


@pytest.fixture
def broken(monkeypatch):
    """Every group gets a plugin "bad" that cannot be imported."""
    available = plugins.available

    def with_bad(group):
        bad = EntryPoint("bad", "no_such_package.bad:Bad", group)
        return {**available(group), "bad": bad}

    monkeypatch.setattr(plugins, "available", with_bad)


def test_the_folders_of_configs_are_not_read_again_for_every_config(monkeypatch) -> None:
    list_configs, reads, folders = overview.kinds()["configs"], [], discovery._folders
    monkeypatch.setattr(discovery, "_folders", lambda: reads.append(1) or folders())
    assert len(list_configs()) > 30
    assert len(reads) <= 3


def test_everything_installed_is_listed() -> None:
    listed = overview.inventory()
    assert set(listed["methods"]) == set(plugins.available(plugins.METHODS))
    assert listed["methods"]["dino"].startswith("DINO: self-distillation with no labels")
    assert listed["tokenizers"]["dvae"].startswith("A small discrete VAE")
    assert listed["benchmarks"]["knn"].startswith("version ")
    assert "frozen" in listed["benchmarks"]["knn"]
    assert listed["configs"]["shapes/dino"].startswith("DINO in minutes")
    assert listed["configs"]["shapes/dino"].endswith("[shapes, 2.4 epochs]")
    paper = listed["configs"]["papers/dino_vit-small-p16_16xb64-coslr-800e_in1k"]
    assert paper.endswith("[IN-1K, 800 epochs, expected knn 74.5, linear 77.0]")
    assert listed["configs"]["papers/dvae"].endswith("[IN-1K, 10 epochs]")
    assert listed["backbones"]["vit_small"] == "width 384, depth 12, heads 6"
    assert {"shapes", "digits"} <= set(listed["datasets"])
    assert all(line for names in listed.values() for line in names.values())


def test_a_broken_plugin_does_not_hide_the_others(broken) -> None:
    listed = overview.inventory()
    for kind in ("methods", "tokenizers", "benchmarks"):
        assert listed[kind]["bad"].startswith("broken: ")
        assert "ModuleNotFoundError: No module named 'no_such_package'" in listed[kind]["bad"]
        assert len(listed[kind]) > 1


def test_a_broken_config_does_not_hide_the_others(monkeypatch, tmp_path) -> None:
    (tmp_path / "bad.py").write_text("method = dict(name='dinno')\n")
    files = {"bad": tmp_path / "bad.py", **config_files()}
    for module in (overview, load):
        monkeypatch.setattr(module, "config_files", lambda: files)
    listed = overview.inventory()["configs"]
    assert listed["bad"].startswith("broken: unknown method 'dinno': did you mean 'dino'?")
    assert listed["shapes/dino"].startswith("DINO")


def test_a_healthy_machine() -> None:
    found = overview.diagnosis()
    assert found["python"][0] and found["torch"][0]
    assert "bad" not in found


def test_a_benchmark_says_what_it_needs(boxes) -> None:
    found = overview.diagnosis()
    assert found["boxlib"] == (False, "missing")
    assert found["operators"] == (True, "torchvision's")


def test_configs_of_a_benchmark_are_listed_apart(boxes) -> None:
    listed = overview.inventory()
    assert listed["configs of boxes"]["small"].startswith("DINO in minutes")
    assert not [name for name in listed["configs"] if name.startswith("boxes")]
    assert "configs of knn" not in listed


def test_a_broken_plugin_is_diagnosed(broken) -> None:
    good, about = overview.diagnosis()["bad"]
    assert not good
    assert "no_such_package" in about


def test_a_missing_package_is_diagnosed(monkeypatch) -> None:
    monkeypatch.setattr(overview, "PACKAGES", ("torch", "no-such-package"))
    found = overview.diagnosis()
    assert found["torch"][0]
    assert found["no-such-package"] == (False, "missing; run `make setup`")
