"""Reads files of `torch.save` without running anything that they hold.

Old checkpoints pickle more than tensors (arguments, paths, NumPy scalars). Those few kinds come
back as inert stand-ins; every other object is refused by name, and nothing in a file is called.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslbench.errors import UserError

HARMLESS = (
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    *(
        f"numpy.{name}"
        for core in ("core", "_core")
        for name in (f"{core}.multiarray.scalar", f"{core}.multiarray._reconstruct")
    ),
    "numpy.dtype",
    "numpy.ndarray",
)
ZIP, PICKLE = b"PK", b"\x80"


class Inert:
    """Stands for an object that is no tensor: keeps what it was made of and does nothing.

    args: of its constructor; what was its `__dict__` is this object's too, so `vars` works.
    """

    def __new__(cls, *args: Any) -> Inert:
        made = super().__new__(cls)
        made.__dict__["args"] = args
        return made

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


def read_pickle(path: Path, shells: Mapping[str, type] | None = None) -> Any:
    """What a file of `torch.save` (zip or legacy) holds, tensors on the CPU.

    shells: full name in the file -> the class of ours that is built in its place.
    Raises UserError, naming the offender, for any other object and for what is no such file.
    """
    if said := not_weights(path):
        raise UserError(f"{path} {said}.")
    stand_ins = {**dict.fromkeys(HARMLESS, Inert), **(shells or {})}
    allowed: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile stream may end in any way
        raise UserError(_why(path, str(error))) from error


def not_weights(path: Path) -> str | None:
    """What a file that cannot hold weights is, with the remedy; None if it may hold some."""
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start and path.suffix != ".safetensors":
        return "is empty; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")):
        return "is a web page, not weights: the link is dead or asks to log in; download it anew"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves; run `git lfs pull` where it lies"
    if re.match(rb"(--\d{4}-\d\d-\d\d|will not apply hsts|saving to:|resolving )", text):
        return "is a log of wget, not weights; download it again with `wget -O FILE URL`"
    if start.startswith(b"\x1f\x8b"):
        return "is compressed; unpack it with gunzip first"
    if start.startswith(ZIP) and not zipfile.is_zipfile(path):
        return f"ends after {path.stat().st_size:,} bytes, in its middle; download it again"
    if path.suffix != ".safetensors" and not start.startswith((ZIP, PICKLE)):
        kind = "a text" if all(9 <= b < 127 for b in start) else "of another kind"
        return f"is no file of torch.save but {kind}; give the .pth file itself"
    return None


def _why(path: Path, said: str) -> str:
    if found := re.search(r"(?:GLOBAL|unrecognized function) (?:<\w+(?: \w+)* ')?([\w.]+)", said):
        return (
            f"{path} wants to build a {found.group(1)}, which is no part of weights: refused, and "
            "nothing of it was run; save the plain state dict instead."
        )
    if "persistent_load" in said or "TorchScript" in said or "not list" in said:
        return f"{path} holds a whole module, not its weights; save its state dict instead."
    return f"{path} is truncated or damaged ({said.split('. ')[0][:120]}); download it again."
