"""Looks through a file of `torch.save` before torch follows its instructions.

Nothing is allocated that the file does not hold, and nothing takes longer than its size explains: a
few bytes may ask for a tensor of gigabytes, or for the hash of a tuple of tuples without end.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslbench.errors import UserError

LARGEST = 2**22  # bytes of instructions; a checkpoint with its optimiser has a tenth
MOST = 10**6  # instructions, and objects, each counted wherever it stands
DEEPEST = 500  # objects inside one another
SHARED = 8  # times a file's size that its tensors have, some sharing their bytes
PICKLES = 5  # in the legacy format: a number, a version, the machine, the value, its storages
WIDTHS = {
    name: dtype.itemsize for dtype, name in torch.storage._dtype_to_storage_type_map().items()
}
MEMO_PUT, MEMO_GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
GATHER = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD", "ADDITEMS")
CUT = "is truncated or damaged: its tensors are larger than it"
MARK = pickletools.markobject


@dataclass(eq=False)
class _Made:
    """What an instruction leaves behind. weight: objects in it; value: a number, text or name."""

    weight: int = 1
    depth: int = 1
    value: Any = None
    parts: tuple[_Made, ...] = ()

    def take(self, others: list[_Made]) -> None:
        self.weight = min(self.weight + sum(other.weight for other in others), MOST + 1)
        self.depth = max([self.depth, *(other.depth + 1 for other in others)])
        if self.weight > MOST or self.depth > DEEPEST:
            raise UserError("")


def screen(path: Path, zipped: bool) -> None:
    """Raises UserError for a file that would cost more than it holds.

    What is no file of torch.save at all is left for torch to name, up to where it stops as well.
    """
    try:
        _screen_zip(path) if zipped else _screen_legacy(path)
    except UserError as error:
        said = str(error) or "asks for more memory or time than what it holds can need"
        raise UserError(f"{path} {said}; download it again from where you trust it.") from None
    except (ValueError, LookupError, zipfile.BadZipFile):
        return


def _screen_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        _check_parts(archive.infolist(), path)
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not names:
            return
        if len(names) > 1 or parts[names[0]].file_size > LARGEST:
            raise UserError("")
        stored = _screened(io.BytesIO(archive.read(names[0])))
    folder = names[0].removesuffix("data.pkl")
    for key, size in stored.items():
        part = parts.get(f"{folder}data/{key}")
        if part and size > part.file_size:
            raise UserError(CUT)


def _screen_legacy(path: Path) -> None:
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(LARGEST))
    stored: dict[str, int] = {}
    try:
        for _ in range(PICKLES):
            stored |= _screened(stream)
    finally:
        if stream.tell() >= LARGEST:
            raise UserError("")
        if sum(stored.values()) > path.stat().st_size:
            raise UserError(CUT)


def check_stored(path: Path, value: Any) -> None:
    """Raises UserError where a tensor in `value` has more elements than are stored."""
    seen, todo, total = set[int](), [value], 0
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            if one.is_meta or one.layout is not torch.strided:
                continue  # no weights, which is said where they are read
            total += (size := one.numel() * one.element_size())
            if size > one.untyped_storage().nbytes() or total > SHARED * path.stat().st_size:
                raise UserError(
                    f"{path} is unfit: it holds a tensor of shape {tuple(one.shape)} without "
                    "storing that many numbers; save it contiguous."
                )
        elif isinstance(one, Mapping):
            todo += [*one, *one.values()]
        elif isinstance(one, list | tuple | set):
            todo += one
        elif hasattr(one, "__dict__") and not isinstance(one, type):
            todo += vars(one).values()


def _check_parts(parts: list[zipfile.ZipInfo], path: Path) -> None:
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise UserError("has compressed parts, which torch.save does not write")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise UserError("has parts that overlap")


def _screened(stream: io.BytesIO) -> dict[str, int]:
    """Follows a pickle with weights for values: key -> bytes of the storages that it names."""
    stack: list[_Made | None] = []  # None: a mark
    memo: dict[int, _Made] = {}
    stored: dict[str, int] = {}
    given: Any  # what stands in the instruction itself
    for count, (op, given, _) in enumerate(pickletools.genops(stream)):
        if count > MOST:
            raise UserError("")
        if op.name in MEMO_PUT:
            memo[int(given)] = _top(stack)
        elif op.name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif op.name in MEMO_GET:
            stack.append(memo[int(given)])
        elif op.name == "MARK":
            stack.append(None)
        else:
            taken = _taken(stack, op)
            if op.name == "BINPERSID":
                stored |= _storage(taken[0])
                taken = []
            if op.name in ("REDUCE", "NEWOBJ"):
                _check_called(taken[0])
            if op.name in GATHER:
                made, taken = taken[0], taken[1:]
            else:
                made = _Made(value=given, parts=tuple(taken))
            made.take(taken)
            stack += [made] * len(op.stack_after)
    return stored


def _top(stack: list[_Made | None]) -> _Made:
    if (top := stack[-1]) is None:
        raise ValueError("a mark is no value")
    return top


def _taken(stack: list[_Made | None], op: pickletools.OpcodeInfo) -> list[_Made]:
    """What an instruction takes from the stack, in order."""
    before = list(op.stack_before)
    count = len(before)
    if MARK in before:
        place = len(stack) - 1 - stack[::-1].index(None)
        del stack[place]
        count = len(stack) - place + before.index(MARK)
    if count > len(stack):
        raise ValueError("it takes what is not there")
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return [made for made in taken if made is not None]


def _check_called(function: _Made) -> None:
    """Some classes that torch allows make room for as many bytes as they are told."""
    name = str(function.value).split(" ")[-1]
    if name == "bytearray" or name.endswith("Tensor"):
        raise UserError(f"wants to build a {name} of a size of its own")


def _storage(identity: _Made) -> dict[str, int]:
    """Key and bytes of a storage: ("storage", class, key, device, elements, ...)."""
    found = [part.value for part in identity.parts]
    if len(found) < 5 or not isinstance(found[4], int) or found[4] < 0:
        return {}  # torch says what it is instead
    return {str(found[2]): found[4] * WIDTHS.get(str(found[1]).split(" ")[-1], 1)}
