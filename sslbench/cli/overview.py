"""What is installed and what this machine offers, for `list` and `doctor`."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from sslbench import plugins
from sslbench.backbones.config import SIZES, SWINS
from sslbench.checkpoints.download import releases
from sslbench.errors import UserError
from sslbench.recipes.discovery import config_faults
from sslbench.recipes.load import benchmark_configs, config_files, read_outline
from sslbench.storage.home import home, writing
from sslbench.system.machine import cpu_flags, usable_cores

PACKAGES = ("torch", "torchvision", "timm", "onedl-mmengine", "scikit-learn", "safetensors")
DATASETS = {
    "shapes": "procedural shapes, generated on first use",
    "digits": "scikit-learn's handwritten digits",
    "torchvision:NAME": "any classification set of torchvision",
    "DIR or FILE.txt": "your images, with or without class folders, or a list of files",
}


def inventory() -> dict[str, dict[str, str]]:
    """kind -> name -> one line about it."""
    return {kind: lines() for kind, lines in kinds().items()}


def kinds() -> dict[str, Callable[[], dict[str, str]]]:
    """kind -> the function that returns name -> one line about it; none loads torch."""
    return {
        "methods": partial(_plugins, plugins.METHODS),
        "tokenizers": partial(_plugins, plugins.TOKENIZERS),
        "benchmarks": _benchmarks,
        "configs": _recipes,
        **{
            f"configs of {name}": partial(_benchmark_configs, name)
            for name in plugins.available(plugins.BENCHMARKS)
            if benchmark_configs(name)
        },
        "backbones": _backbones,
        "weights": _weights,
        "datasets": lambda: DATASETS,
    }


def _plugins(group: str) -> dict[str, str]:
    return {name: _about(group, name, e) for name, e in plugins.available(group).items()}


def _benchmarks() -> dict[str, str]:
    lines = {}
    for name in plugins.available(plugins.BENCHMARKS):
        try:
            kind = plugins.load(plugins.BENCHMARKS, name)
        except UserError as error:
            lines[name] = f"broken: {error}"
            continue
        suites = ", ".join(kind.suites)
        lines[name] = f"version {kind.version}, suites {suites}: {_first_line(kind.__doc__)}"
    return lines


def _recipes() -> dict[str, str]:
    faults = config_faults()
    lines = {
        name: f"broken: {faults[name]}" if name in faults else _recipe_line(name, path)
        for name, path in config_files().items()
    }
    return lines | {n: f"broken: {w}" for n, w in faults.items() if n.startswith("configs ")}


def _benchmark_configs(benchmark: str) -> dict[str, str]:
    faults = config_faults()
    return {
        name: f"broken: {fault}"
        if (fault := faults.get(f"{benchmark}/{name}"))
        else _config_line(path)
        for name, path in benchmark_configs(benchmark).items()
    }


def _backbones() -> dict[str, str]:
    return {n: f"width {w}, depth {d}, heads {h}" for n, (w, d, h, _) in SIZES.items()} | {
        n: f"width {w}, blocks {d}, heads {h} per stage" for n, (w, d, h, _) in SWINS.items()
    }


def _weights() -> dict[str, str]:
    return {r.name: f"{r.arch}, {r.data}, as {r.filename}" for r in releases().values()}


def _about(group: str, name: str, entry: EntryPoint) -> str:
    """The first line of a module's docstring; ours are read, as importing them loads torch."""
    if _is_ours(entry) and (spec := find_spec(entry.module)) and spec.origin:
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        return _first_line(ast.get_docstring(tree)) or entry.module
    try:
        plugin = plugins.load(group, name)
    except UserError as error:
        return f"broken: {error}"
    return _first_line(sys.modules[plugin.__module__].__doc__) or plugin.__module__


def _first_line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")


def _recipe_line(name: str, path: Path) -> str:
    """A recipe's own description, its data and epochs, and the figures to expect."""
    try:
        outline = read_outline(name, path)
    except UserError as error:
        return f"broken: {error}"
    about = outline.about
    facts = f"{about.dataset or outline.data.source}, {outline.train.epochs:g} epochs"
    expected = [f"{b.removeprefix('imagenet_')} {v:.1f}" for b, _, v, _ in about.expected]
    figures = ", expected " + ", ".join(expected) if expected else ""
    return f"{_config_line(path)} [{facts}{figures}]"


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
        with writing(folder := home()):
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free / 2**30
    except UserError as error:
        return False, str(error)
    return free > 2, f"{free:.0f} GiB free for {folder}"


def _is_ours(entry: EntryPoint) -> bool:
    return plugins.package_of(entry) == "sslbench" and not plugins.clash(entry.group, entry.name)


def _has_gpu() -> bool:
    """Whether a driver of a GPU is there; asking torch takes seconds."""
    drivers = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/kfd"))
    return any(path.exists() for path in drivers) or shutil.which("nvidia-smi") is not None


def _gpus() -> list[str]:
    if not _has_gpu():
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _multiplies_bf16() -> bool:
    """As `training.precision.use_bf16` decides, from the flags of the CPU where there is no GPU."""
    if not _gpus() and (flags := cpu_flags()):
        return not flags.isdisjoint(("avx512_bf16", "amx_tile"))
    import torch

    from sslbench.training.precision import use_bf16

    return use_bf16("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def diagnosis() -> dict[str, tuple[bool, str]]:
    """name -> (whether it is fine, a description)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "python": (sys.version_info >= (3, 11), platform.python_version()),
        "device": (True, ", ".join(_gpus()) or f"CPU, {usable_cores()} cores, no GPU"),
        "memory": (memory > 4, f"{memory:.0f} GiB"),
        "bf16": (True, "used" if _multiplies_bf16() else "not on this hardware: fp32"),
        "disk": _disk(),
    }
    for package in PACKAGES:
        try:
            found[package] = (True, version(package))
        except PackageNotFoundError:
            found[package] = (False, "missing; run `make setup`")
    for group in (plugins.METHODS, plugins.TOKENIZERS, plugins.BENCHMARKS):
        for name, entry in plugins.available(group).items():
            if group != plugins.BENCHMARKS and _is_ours(entry):
                continue  # importing it takes seconds, and the tests have done so
            try:
                plugin = plugins.load(group, name)
            except UserError as error:
                found[name] = (False, str(error))
                continue
            if group == plugins.BENCHMARKS:
                found |= plugin.diagnosis()
    names = {sentence: name for name, sentence in reversed(config_faults().items())}
    return found | {name: (False, sentence) for sentence, name in names.items()}
