"""Where a number was made: code version, library versions, hardware."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import sslbench

# what can move any number; benchmarks name what else moves theirs
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Provenance:
    """As the fields of `Result` of the same names."""

    code_version: str
    versions: dict[str, str]
    hardware: str

    @classmethod
    def here(cls, device: torch.device) -> Provenance:
        """The running code, the installed libraries and `device`."""
        versions = {"python": platform.python_version(), **library_versions(LIBRARIES)}
        return cls(code_version(), versions, hardware(device))


def code_version() -> str:
    """The package version, with "+<git describe>" where the package runs from a checkout."""
    package = Path(sslbench.__file__).parent
    # an environment inside somebody else's checkout is not a checkout of this package
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return sslbench.__version__
    described = _git(package, "describe", "--always", "--dirty")
    return f"{sslbench.__version__}+{described}" if described else sslbench.__version__


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """name -> version of an installed distribution; "" where it is missing."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def hardware(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git(directory: Path, *arguments: str) -> str | None:
    """git's answer, None where it fails or is not installed."""
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
