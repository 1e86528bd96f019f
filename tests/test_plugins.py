"""A package of somebody else's adds a method and its config with no change here."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sslbench import plugins
from sslbench.cli import overview
from sslbench.errors import UserError
from sslbench.recipes.discovery import config_faults
from sslbench.recipes.load import config_files, find_config, load_recipe
from sslbench.storage import layout
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
    assert (tmp_path / "run" / layout.WEIGHTS).exists()
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


def install(site: Path, name: str, points: dict[str, dict[str, str]], version: str = "1.0") -> None:
    """Puts a distribution with these entry points (group -> name -> value) into a folder."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def write_module(site: Path, name: str, text: str = "") -> Path:
    path = site / name
    for folder in list(path.parents)[: len(Path(name).parts) - 1]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    path.write_text(text)
    return path


def some_configs() -> dict[str, Path]:
    """Those of the embedded dataset: to read all that are shipped takes seconds."""
    return {name: path for name, path in config_files().items() if name.startswith("shapes/")}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(overview, "config_files", some_configs)
    yield tmp_path / "site"
    for name in [n for n in sys.modules if n.partition(".")[0] in ("thief", "other")]:
        del sys.modules[name]


BENCHMARK = "from sslbench.benchmark import Benchmark\nclass Thief(Benchmark):\n"
KINDS = {
    plugins.METHODS: ("dino", "method"),
    plugins.TOKENIZERS: ("dvae", "tokenizer"),
    plugins.BENCHMARKS: ("knn", "benchmark"),
}


@pytest.mark.parametrize("group", KINDS)
def test_a_name_of_two_packages_is_refused_and_shown(site, group) -> None:
    name, kind = KINDS[group]
    ours = plugins.available(group)[name].value
    write_module(site, "thief/code.py", f"class Thief:\n    name = {name!r}\n")
    install(site, "The_Thief", {group: {name: "thief.code:Thief"}})
    with pytest.raises(UserError) as caught:
        plugins.load(group, name)
    said = str(caught.value)
    assert said.startswith(f"the {kind} {name!r} is registered more than once, by ")
    assert f"sslbench ({name} = {ours})" in said
    assert f"the-thief ({name} = thief.code:Thief)" in said
    listed = overview.inventory()[f"{kind}s"]
    assert listed[name] == f"broken: {said}"
    assert len([n for n, line in listed.items() if not line.startswith("broken")]) > 0
    assert overview.diagnosis()[name] == (False, said)
    if group == plugins.METHODS:
        with pytest.raises(UserError, match="method 'dino' is registered more than once"):
            load_recipe("shapes/dino")
        assert load_recipe("shapes/ibot").method_name == "ibot"


def test_a_package_that_lies_on_the_path_twice_is_no_clash(site, tmp_path, monkeypatch) -> None:
    write_module(site, "thief/code.py", "class Thief:\n    name = 'thief'\n")
    write_module(site, "thief/configs/mine.py", '"""Mine."""\n')
    points = {
        plugins.METHODS: {"thief": "thief.code:Thief"},
        plugins.CONFIGS: {"a": "thief.configs"},
    }
    install(site, "the-thief", points)
    second = tmp_path / "second"
    old = {plugins.METHODS: {"thief": "thief.old:Thief"}, plugins.CONFIGS: {"a": "thief.configs"}}
    install(second, "The.Thief", old, version="0.9")
    monkeypatch.syspath_prepend(second)
    monkeypatch.syspath_prepend(site)
    assert [e.value for e in plugins.registered(plugins.METHODS)["thief"]] == ["thief.code:Thief"]
    assert plugins.load(plugins.METHODS, "thief").name == "thief"
    assert config_faults() == {}
    assert find_config("mine") == site / "thief" / "configs" / "mine.py"


def test_two_names_of_one_object_are_no_clash(site) -> None:
    """A package under its old and new name, say."""
    ours = plugins.available(plugins.METHODS)["dino"].value
    install(site, "the-thief", {plugins.METHODS: {"dino": ours}})
    assert plugins.load(plugins.METHODS, "dino").name == "dino"


def test_a_package_that_claims_a_name_twice_is_refused(site) -> None:
    write_module(site, "thief/code.py")
    install(site, "the-thief", {plugins.METHODS: {"x": "thief.code:A\nx = thief.code:B"}})
    with pytest.raises(UserError, match=r"by the-thief \(x = thief\.code:A\) and the-thief \(x ="):
        plugins.load(plugins.METHODS, "x")


def test_a_class_that_calls_itself_otherwise_is_refused(site) -> None:
    """Runs are kept under the class's own name, which may be another method's."""
    write_module(site, "thief/code.py", "class Thief:\n    name = 'dino'\n")
    install(site, "the-thief", {plugins.METHODS: {"mine": "thief.code:Thief"}})
    with pytest.raises(UserError, match=r"the-thief \(mine = .*\) calls itself 'dino'; let"):
        plugins.load(plugins.METHODS, "mine")


def test_a_config_of_two_packages_is_refused_and_shown(site) -> None:
    write_module(site, "thief/configs/shapes/dino.py", "method = dict(name='ibot')\n")
    write_module(site, "thief/configs/shapes/mine.py", '"""Mine."""\nmethod = dict(name="dino")\n')
    install(site, "the-thief", {plugins.CONFIGS: {"thief": "thief.configs"}})
    with pytest.raises(UserError) as caught:
        load_recipe("shapes/dino")
    said = str(caught.value)
    assert said.startswith("the config 'shapes/dino' exists more than once, in ")
    assert "sslbench (sslbench = sslbench.configs)" in said
    assert "the-thief (thief = thief.configs)" in said
    listed = overview.inventory()["configs"]
    assert listed["shapes/dino"] == f"broken: {said}"
    assert listed["shapes/mine"].startswith("Mine.")
    assert overview.diagnosis()["shapes/dino"] == (False, said)
    assert load_recipe("shapes/mine").method_name == "dino"
    assert load_recipe("shapes/ibot").method_name == "ibot"


def test_a_config_folder_called_like_a_benchmark_of_another_package(site) -> None:
    """Its recipes would vanish among the benchmark's configs."""
    write_module(site, "thief/configs/knn/dino.py", "method = dict(name='dino')\n")
    install(site, "the-thief", {plugins.CONFIGS: {"thief": "thief.configs"}})
    pattern = (
        r"the config folder 'knn' of the-thief \(thief = thief\.configs\) is called like the "
        r"benchmark 'knn' of sslbench \(knn = sslbench\.benchmarks\.knn:KNN\): rename"
    )
    with pytest.raises(UserError, match=pattern):
        find_config("knn/dino")
    assert re.search(pattern, overview.inventory()["configs of knn"]["dino"])
    assert re.search(pattern, overview.diagnosis()["knn/dino"][1])


def test_a_benchmark_called_like_a_config_folder_of_another_package(site) -> None:
    write_module(site, "thief/code.py", f"{BENCHMARK}    name = 'shapes'\n")
    install(site, "the-thief", {plugins.BENCHMARKS: {"shapes": "thief.code:Thief"}})
    with pytest.raises(UserError, match=r"benchmark 'shapes' of the-thief .*: rename one"):
        load_recipe("shapes/dino")
    assert find_config("papers/dvae").name == "dvae.py"
    wrong = [name for name, _ in overview.diagnosis().items() if name.startswith("shapes/")]
    assert len(wrong) == 1  # one line for the folder


def test_a_benchmarks_config_of_two_packages_is_refused(site) -> None:
    from sslbench.benchmarks.dense.prepare import read_config

    write_module(site, "thief/configs/detection/shapes.py", "model = dict()\n")
    install(site, "the-thief", {plugins.CONFIGS: {"thief": "thief.configs"}})
    with pytest.raises(UserError, match="config 'detection/shapes' exists more than once"):
        read_config("detection", "shapes")


def test_configs_that_cannot_be_found_hide_no_others(site) -> None:
    write_module(site, "thief/__init__.py", "import no_such_module\n")
    install(site, "the-thief", {plugins.CONFIGS: {"thief": "thief.configs"}})
    assert "shapes/dino" in config_files()
    for said in (
        overview.inventory()["configs"]["configs of the-thief"],
        overview.diagnosis()["configs of the-thief"][1],
    ):
        assert "cannot be found, ModuleNotFoundError: No module named 'no_such_module'" in said
