"""The records of the laboratory: results/speed/PROCESSOR/NAME.json."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslbench.evaluation.provenance import LIBRARIES, code_version, hardware, library_versions
from sslbench.storage.files import save_json
from sslbench.system.machine import of_first_cpu

RECORDS = Path(__file__).parents[2] / "results" / "speed"
PEERS = ("lightly", "albumentations", "faiss-cpu", "simplejpeg")


def save(name: str, record: Mapping[str, Any]) -> None:
    """Writes a record of this processor, with hardware, versions and time, under `name`."""
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    provenance = {"hardware": _hardware(), "versions": library_versions((*LIBRARIES, *PEERS))}
    save_json(path, {**record, **provenance, **stamp()})


def kept(name: str) -> dict[str, Any]:
    """The record of this processor under `name`, {} if there is none."""
    path = _path(name)
    return json.loads(path.read_text()) if path.exists() else {}


def stamp() -> dict[str, str]:
    """Which code measures, and when."""
    now = datetime.datetime.now(datetime.UTC)
    return {"code_version": code_version(), "created": now.isoformat(timespec="seconds")}


def _path(name: str) -> Path:
    words = re.findall("[a-z0-9]+", f"{_hardware().lower()} {_generation()}")
    return RECORDS / "-".join(words) / f"{name}.json"


def _hardware() -> str:
    return hardware(torch.device("cpu"))


def _generation() -> str:
    """Family and model of the processor: a cloud's of several generations have the same name."""
    return " ".join(of_first_cpu(name) for name in ("cpu family", "model"))
