"""What is installed and what this machine offers, for `list` and `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from sslbench import plugins
from sslbench.backbones.config import SIZES, SWINS
from sslbench.checkpoints.download import releases
from sslbench.errors import UserError
from sslbench.recipes.discovery import config_faults
from sslbench.recipes.load import benchmark_configs, config_files, load_recipe
from sslbench.storage.home import home, kept
from sslbench.system.machine import usable_cores
from sslbench.training.precision import use_bf16

PACKAGES = ("torch", "torchvision", "timm", "onedl-mmengine", "scikit-learn", "safetensors")


def inventory() -> dict[str, dict[str, str]]:
    """kind -> name -> one line about it."""
    listed: dict[str, dict[str, str]] = {}
    for kind, group in (("methods", plugins.METHODS), ("tokenizers", plugins.TOKENIZERS)):
        listed[kind] = {name: _about(group, name) for name in plugins.available(group)}
    benchmarks = {}
    for name in plugins.available(plugins.BENCHMARKS):
        try:
            found = plugins.load(plugins.BENCHMARKS, name)
        except UserError as error:
            benchmarks[name] = f"broken: {error}"
            continue
        suites = ", ".join(found.suites)
        benchmarks[name] = f"version {found.version}, suites {suites}: {_first_line(found.__doc__)}"
    listed["benchmarks"] = benchmarks
    faults = config_faults()
    listed["configs"] = {name: _recipe_line(name, path) for name, path in config_files().items()}
    listed["configs"] |= {n: f"broken: {w}" for n, w in faults.items() if n.startswith("configs ")}
    for name in benchmarks:
        if own := benchmark_configs(name):
            wrong = {n: faults.get(f"{name}/{n}", "") for n in own}
            listed[f"configs of {name}"] = {
                n: f"broken: {wrong[n]}" if wrong[n] else _config_line(path)
                for n, path in own.items()
            }
    listed["backbones"] = {
        n: f"width {w}, depth {d}, heads {h}" for n, (w, d, h, _) in SIZES.items()
    } | {n: f"width {w}, blocks {d}, heads {h} a stage" for n, (w, d, h, _) in SWINS.items()}
    listed["weights"] = {
        r.name: f"{r.arch}, {r.data}, as {r.filename}" for r in releases().values()
    }
    listed["datasets"] = {
        "shapes": "procedural shapes, generated on first use",
        "digits": "scikit-learn's handwritten digits",
        "torchvision:NAME": "any classification set of torchvision",
        "DIR or FILE.txt": "your images, with or without class folders, or a list of files",
    }
    return listed


def _about(group: str, name: str) -> str:
    try:
        found = plugins.load(group, name)
    except UserError as error:
        return f"broken: {error}"
    return _first_line(sys.modules[found.__module__].__doc__) or found.__module__


def _first_line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")


def _recipe_line(name: str, path: Path) -> str:
    """What a recipe says of itself, its data and epochs, and what to expect of it."""
    tokenizer = Path(name).name.partition("_")[0] in plugins.available(plugins.TOKENIZERS)
    try:
        recipe = load_recipe(name, group=plugins.TOKENIZERS if tokenizer else plugins.METHODS)
    except UserError as error:
        return f"broken: {error}"
    about = recipe.about
    facts = f"{about.dataset or recipe.data.source}, {recipe.train.epochs:g} epochs"
    expected = [f"{b.removeprefix('imagenet_')} {v:.1f}" for b, _, v, _ in about.expected]
    said = ", expected " + ", ".join(expected) if expected else ""
    return f"{_config_line(path)} [{facts}{said}]"


def _config_line(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith('"""'):
            return line.strip('"')
        if line and not line.startswith("#"):
            break
    return ""


def _disk() -> tuple[bool, str]:
    """Room for what is kept between commands."""
    try:
        with kept(folder := home()):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free / 2**30
    except UserError as error:
        return False, str(error)
    return free > 2, f"{free:.0f} GiB free for {folder}"


def diagnosis() -> dict[str, tuple[bool, str]]:
    """name -> (fine, what was found)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "python": (sys.version_info >= (3, 11), platform.python_version()),
        "device": (True, ", ".join(gpus) or f"CPU, {usable_cores()} cores, no GPU"),
        "memory": (memory > 4, f"{memory:.0f} GiB"),
        "bf16": (True, "used" if use_bf16("auto", device) else "not on this hardware: fp32"),
        "disk": _disk(),
    }
    for package in PACKAGES:
        try:
            found[package] = (True, version(package))
        except PackageNotFoundError:
            found[package] = (False, "missing; run `make setup`")
    for group in (plugins.METHODS, plugins.TOKENIZERS, plugins.BENCHMARKS):
        for name in plugins.available(group):
            try:
                plugin = plugins.load(group, name)
            except UserError as error:
                found[name] = (False, str(error))
                continue
            if group == plugins.BENCHMARKS:
                found |= plugin.diagnosis()
    told = {sentence: name for name, sentence in reversed(config_faults().items())}
    return found | {name: (False, sentence) for sentence, name in told.items()}
