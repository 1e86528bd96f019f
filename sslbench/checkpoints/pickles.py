"""Reads files of `torch.save` without running anything that they hold.

Old checkpoints pickle more than tensors: arguments, paths, NumPy scalars. These come back as inert
stand-ins; every other object is refused by name, and nothing in a file is called.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslbench.checkpoints.files import ZIP, not_weights
from sslbench.errors import UserError
from sslbench.storage.screening import check_stored, screen

HARMLESS = (
    "argparse.Namespace",
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")  # the latter since Python 3.13
        for name in ("PosixPath", "WindowsPath")
    ),
    *(
        f"numpy.{name}"
        for core in ("core", "_core")
        for name in (f"{core}.multiarray.scalar", f"{core}.multiarray._reconstruct")
    ),
    "numpy.dtype",
    "numpy.ndarray",
)
PROTOCOL = 2  # of every pickle that torch.save writes unless told otherwise
COUNTABLE = 2**53  # no seed, epoch or size is larger; infinities and NaNs are not smaller
LAYOUTS = {"i8": "<q", "i4": "<i", "f8": "<d", "f4": "<f"}  # NumPy's name -> struct's


class Inert:
    """Stands for an object that is no tensor: keeps its parts and does nothing.

    args: of its constructor. The `__dict__` of the object is this one's too, so `vars` works.
    """

    args: tuple[Any, ...]

    def __new__(cls, *args: Any) -> Inert:
        stand_in = super().__new__(cls)
        stand_in.__dict__["args"] = args
        return stand_in

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


def number(value: Any) -> int | float | None:
    """A plain number, or that of a NumPy scalar; None for everything else and for huge ones."""
    match value:
        case Inert(args=(Inert(args=(str(name), *_)), bytes(data))) if name in LAYOUTS:
            with contextlib.suppress(struct.error):
                (value,) = struct.unpack(LAYOUTS[name], data)
    return value if type(value) in (int, float) and abs(value) < COUNTABLE else None


def read_pickle(path: Path, shells: Mapping[str, type] | None = None) -> Any:
    """The content of a file of `torch.save` (zip or legacy), tensors on the CPU.

    shells: full name in the file -> the class of ours that is built in its place.
    Raises UserError, naming the object, for any other object, and for any other kind of file.
    """
    if reason := not_weights(path):
        raise UserError(f"{path} {reason}.")
    stand_ins = {**dict.fromkeys(HARMLESS, Inert), **(shells or {})}
    allowed: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
    try:
        screen(path, _start(path) == ZIP)
        _check_sums(path)
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is fine, or refused below
            with path.open("rb") as file:  # opened here, so that any file name works
                content = torch.load(file, map_location="cpu", weights_only=True)
        check_stored(path, content)
        return content
    except UserError:
        raise
    except Exception as error:  # a damaged or hostile stream may end in any way
        raise UserError(_why(path, str(error))) from error


def _check_sums(path: Path) -> None:
    """Raises ValueError for a damaged zip; torch.load does not look at checksums."""
    if _start(path) == ZIP:
        with zipfile.ZipFile(path) as file:
            if wrong := file.testzip():
                raise ValueError(f"{wrong} does not match its checksum")


def _why(path: Path, message: str) -> str:
    message = re.sub(r"\[enforce fail[^]]*\][ .]*", "", message)  # a place in torch's source
    refused = re.search(r"(?:GLOBAL|unrecognized function) (?:<\w+(?: \w+)* ')?([\w.]+)", message)
    unsupported = "Invalid magic number" in message or "torch.storage._load_from_bytes" in message
    if unsupported or _protocol(path) > PROTOCOL:
        return (
            f"{path} was written by pickle itself or in a newer protocol than torch.save's; where "
            "you trust its origin, re-save it with torch.save."
        )
    if refused:
        return (
            f"{path} wants to build a {refused.group(1)}, which is no part of weights: refused, "
            "and nothing of it was run; save the plain state dict instead."
        )
    if "persistent_load" in message or "TorchScript" in message or "not list" in message:
        return f"{path} holds a whole module, not its weights; save its state dict instead."
    detail = f" ({message.split('. ')[0][:120]})" if message else ""
    return f"{path} is truncated or damaged{detail}; download it again."


def _protocol(path: Path) -> int:
    """The pickle protocol that the file says it is in."""
    if _start(path) != ZIP:
        return _start(path)[1]
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as file:
        name = next(n for n in file.namelist() if n.endswith("/data.pkl"))
        with file.open(name) as stream:
            return stream.read(2)[1]
    return PROTOCOL


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2).ljust(2, b"\0")
