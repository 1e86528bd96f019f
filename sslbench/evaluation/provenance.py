"""The code version, library versions and hardware that produced a number."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import sslbench

# libraries that can change any number; benchmarks name further ones
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Provenance:
    """See the fields of `Result` of the same names."""

    code_version: str
    versions: dict[str, str]
    hardware: str

    @classmethod
    def here(cls, device: torch.device) -> Provenance:
        """Return the running code, the installed libraries and `device`."""
        versions = {"python": platform.python_version(), **library_versions(LIBRARIES)}
        return cls(code_version(), versions, hardware(device))


def code_version() -> str:
    """Return the package version, with "+<git describe>" if the package runs from a checkout."""
    package = Path(sslbench.__file__).parent
    # the package may be installed inside the checkout of another project
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return sslbench.__version__
    described = _git(package, "describe", "--always", "--dirty")
    return f"{sslbench.__version__}+{described}" if described else sslbench.__version__


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return name -> version of an installed distribution; "" if it is missing."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git(directory: Path, *arguments: str) -> str | None:
    """Return git's output; None if it fails or is not installed."""
    command = ["git", "-C", str(directory), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None
