"""Checks a `torch.save` file before torch executes its pickle instructions.

A few bytes can ask for a tensor of gigabytes, or for the hash of endlessly nested tuples. A file
that passes neither allocates more than it holds nor takes longer than its size explains.
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

MAX_PICKLE_BYTES = 2**22  # of instructions; a checkpoint with its optimiser has a tenth of that
MAX_OBJECTS = 10**6  # also of instructions; an object counts once per reference
MAX_DEPTH = 500  # of nested objects
MAX_SHARING = 8  # bytes of all tensors / bytes of the file; tensors may share their storage
LEGACY_PICKLES = 5  # of the legacy format: magic number, version, machine, value, storage keys
WIDTHS = {
    name: dtype.itemsize for dtype, name in torch.storage._dtype_to_storage_type_map().items()
}
MEMO_PUT, MEMO_GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
GATHER = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD", "ADDITEMS")
TRUNCATED = "is truncated or damaged: its tensors are larger than the file"
TOO_EXPENSIVE = "asks for more memory or time than its content can need"
MARK = pickletools.markobject


@dataclass(eq=False)
class _Object:
    """The result of an instruction. weight: objects in it; value: a number, text or name."""

    weight: int = 1
    depth: int = 1
    value: Any = None
    parts: tuple[_Object, ...] = ()

    def add(self, others: list[_Object]) -> None:
        self.weight = min(self.weight + sum(other.weight for other in others), MAX_OBJECTS + 1)
        self.depth = max([self.depth, *(other.depth + 1 for other in others)])
        if self.weight > MAX_OBJECTS or self.depth > MAX_DEPTH:
            raise UserError(TOO_EXPENSIVE)


def screen(path: Path, zipped: bool) -> None:
    """Raise UserError if loading the file would cost more than its content explains.

    Files that are not valid torch.save files pass: torch refuses them itself.
    """
    try:
        _screen_zip(path) if zipped else _screen_legacy(path)
    except UserError as error:
        raise UserError(f"{path} {error}; download it again from a source you trust.") from None
    except (ValueError, LookupError, zipfile.BadZipFile):
        return


def _screen_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        _check_parts(archive.infolist(), path)
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not names:
            return
        if len(names) > 1 or parts[names[0]].file_size > MAX_PICKLE_BYTES:
            raise UserError(TOO_EXPENSIVE)
        stored = _storages(io.BytesIO(archive.read(names[0])))
    folder = names[0].removesuffix("data.pkl")
    for key, size in stored.items():
        part = parts.get(f"{folder}data/{key}")
        if part and size > part.file_size:
            raise UserError(TRUNCATED)


def _screen_legacy(path: Path) -> None:
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    stored: dict[str, int] = {}
    try:
        for _ in range(LEGACY_PICKLES):
            stored |= _storages(stream)
    finally:
        if stream.tell() >= MAX_PICKLE_BYTES:
            raise UserError(TOO_EXPENSIVE)
        if sum(stored.values()) > path.stat().st_size:
            raise UserError(TRUNCATED)


def check_stored(path: Path, value: Any) -> None:
    """Raise UserError if a tensor in `value` has more elements than its storage."""
    seen, todo, total = set[int](), [value], 0
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            if item.is_meta or item.layout is not torch.strided:
                continue  # refused where weights are read
            total += (size := item.numel() * item.element_size())
            if size > item.untyped_storage().nbytes() or total > MAX_SHARING * path.stat().st_size:
                raise UserError(
                    f"{path} cannot be used: it holds a tensor of shape {tuple(item.shape)} "
                    "without storing that many numbers; save it contiguous."
                )
        elif isinstance(item, Mapping):
            todo += [*item, *item.values()]
        elif isinstance(item, list | tuple | set):
            todo += item
        elif hasattr(item, "__dict__") and not isinstance(item, type):
            todo += vars(item).values()


def _check_parts(parts: list[zipfile.ZipInfo], path: Path) -> None:
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise UserError("has compressed parts, which torch.save does not write")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise UserError("has parts that overlap")


def _storages(stream: io.BytesIO) -> dict[str, int]:
    """Simulate a pickle without building its objects; return storage key -> bytes."""
    stack: list[_Object | None] = []  # None: a mark
    memo: dict[int, _Object] = {}
    stored: dict[str, int] = {}
    argument: Any
    for count, (op, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OBJECTS:
            raise UserError(TOO_EXPENSIVE)
        if op.name in MEMO_PUT:
            memo[int(argument)] = _top(stack)
        elif op.name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif op.name in MEMO_GET:
            stack.append(memo[int(argument)])
        elif op.name == "MARK":
            stack.append(None)
        else:
            operands = _popped(stack, op)
            if op.name == "BINPERSID":
                stored |= _storage(operands[0])
                operands = []
            if op.name in ("REDUCE", "NEWOBJ"):
                _check_called(operands[0])
            if op.name in GATHER:
                result, operands = operands[0], operands[1:]
            else:
                result = _Object(value=argument, parts=tuple(operands))
            result.add(operands)
            stack += [result] * len(op.stack_after)
    return stored


def _top(stack: list[_Object | None]) -> _Object:
    if (top := stack[-1]) is None:
        raise ValueError("a mark is not a value")
    return top


def _popped(stack: list[_Object | None], op: pickletools.OpcodeInfo) -> list[_Object]:
    """Remove an instruction's operands from the stack and return them in order."""
    before = list(op.stack_before)
    count = len(before)
    if MARK in before:
        mark_index = len(stack) - 1 - stack[::-1].index(None)
        del stack[mark_index]
        count = len(stack) - mark_index + before.index(MARK)
    if count > len(stack):
        raise ValueError("the stack has too few objects")
    operands = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return [operand for operand in operands if operand is not None]


def _check_called(function: _Object) -> None:
    """Refuse classes that torch allows but that allocate as many bytes as their argument says."""
    name = str(function.value).split(" ")[-1]
    if name == "bytearray" or name.endswith("Tensor"):
        raise UserError(f"builds a {name} of an arbitrary size")


def _storage(identity: _Object) -> dict[str, int]:
    """Key and bytes of a storage: ("storage", class, key, device, elements, ...)."""
    values = [part.value for part in identity.parts]
    if len(values) < 5 or not isinstance(values[4], int) or values[4] < 0:
        return {}  # torch refuses it
    return {str(values[2]): values[4] * WIDTHS.get(str(values[1]).split(" ")[-1], 1)}
