"""A package of somebody else's adds a method and its config with no change here."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.config import config_files
from sslbench.errors import UserError
from sslbench.training import checkpoint
from sslbench.training.log import read_log

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "toy-rotation"
version = "1.0"
[project.entry-points."sslbench.methods"]
rotation = "toy_rotation.rotation:Rotation"
[project.entry-points."sslbench.configs"]
toy = "toy_rotation.configs"
[tool.setuptools]
packages = ["toy_rotation", "toy_rotation.configs"]
"""
METHOD = '''"""Rotation: tells by how many quarters an image is turned (Gidaris et al., 2018)."""
from dataclasses import dataclass, field
import torch
import torch.nn.functional as F
from torch import nn
from sslbench.data.views import PlainCrop, PlainCropConfig
from sslbench.method import Method

@dataclass(frozen=True)
class RotationConfig:
    turns: int = 4
    views: PlainCropConfig = field(default_factory=PlainCropConfig)

class Rotation(Method):
    name, Config = "rotation", RotationConfig

    def __init__(self, config, make_backbone):
        super().__init__(config, make_backbone)
        self.config, self.student = config, make_backbone()
        self.classifier = nn.Linear(self.student.embed_dim, config.turns)

    @classmethod
    def views(cls, config, patch_size):
        return PlainCrop(config.views)

    def loss(self, batch, progress):
        images = batch.images("image")[0]
        turns = torch.arange(len(images)) % self.config.turns
        turned = [torch.rot90(x, int(k), (1, 2)) for x, k in zip(images, turns)]
        logits = self.classifier(self.student(torch.stack(turned)).cls)
        return {"loss": F.cross_entropy(logits, turns)}

    def backbone(self):
        return self.student
'''
CONFIG = '''"""Rotation in seconds."""
method = dict(name="rotation", views=dict(size=32))
backbone = dict(name="vit_nano", patch_size=8, image_size=32)
optim = dict(lr=1e-3, scale_lr=False, warmup_epochs=0.0)
train = dict(epochs=1.0, batch_size=8)
run = dict(workers=0, threads=1, log_every=1)
'''


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """The toy package, built and installed by pip into a folder on the path."""
    package = tmp_path / "source" / "toy_rotation"
    (package / "configs").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "configs" / "__init__.py").touch()
    (package / "rotation.py").write_text(METHOD)
    (package / "configs" / "rotation.py").write_text(CONFIG)
    (package.parent / "pyproject.toml").write_text(PROJECT)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--target", site, package.parent]
    subprocess.run(pip, check=True, capture_output=True)
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [n for n in sys.modules if n.startswith("toy_rotation")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_foreign_method_is_listed_trained_and_evaluated(
    sslbench, toy, tmp_path, labelled
) -> None:
    listed = sslbench("list").out
    assert re.search(r"^  rotation +Rotation: tells by how many quarters", listed, re.MULTILINE)
    assert "Rotation in seconds." in listed
    assert config_files()["rotation"].parent == toy / "toy_rotation" / "configs"

    given = ("--config", "rotation", "--data", labelled, "--out", "run")
    ended = sslbench("pretrain", "--method", "rotation", *given, "--set", "method.turns=2")
    assert ended.code == 0, ended.err
    assert len(read_log(tmp_path / "run")) == 5
    assert (tmp_path / "run" / checkpoint.WEIGHTS).exists()
    judged = sslbench("evaluate", "--benchmark", "knn", "--model", "run", "--data", labelled)
    assert judged.code == 0, judged.err
    assert "rotation" in judged.out


def test_plugins_are_sorted_and_named_by_what_they_are() -> None:
    names = list(plugins.available(plugins.METHODS))
    assert names == sorted(names) and {"beit", "dino", "ibot"} <= set(names)
    assert plugins.load(plugins.METHODS, "dino").name == "dino"
    assert plugins.group_of("tokenizer") == plugins.TOKENIZERS


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown benchmark 'kn': did you mean 'knn'\?"):
        plugins.load(plugins.BENCHMARKS, "kn")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("Other = 1", "AttributeError: .*'Bad'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_reason(monkeypatch, tmp_path, code, reason) -> None:
    (tmp_path / "bad_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bad_plugin", raising=False)
    entry = EntryPoint("bad", "bad_plugin:Bad", plugins.METHODS)
    monkeypatch.setattr(plugins, "available", lambda group: {"bad": entry})
    with pytest.raises(UserError, match=rf"the method 'bad' \(bad_plugin:Bad\).*{reason}; repair"):
        plugins.load(plugins.METHODS, "bad")
