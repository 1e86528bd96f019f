"""Finds methods, tokenizers and benchmarks through entry points; the engine knows none by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sslbench.errors import UserError, nearest

METHODS = "sslbench.methods"
TOKENIZERS = "sslbench.tokenizers"
BENCHMARKS = "sslbench.benchmarks"


def group_of(kind: str) -> str:
    """The entry-point group of a kind of plugin: "tokenizer" -> "sslbench.tokenizers"."""
    return f"sslbench.{kind}s"


def available(group: str) -> dict[str, EntryPoint]:
    """name -> entry point of a group, sorted by name."""
    return {e.name: e for e in sorted(entry_points(group=group), key=lambda e: e.name)}


def load(group: str, name: str) -> Any:
    """The class registered as `name`; raises UserError with the nearest names otherwise."""
    found = available(group)
    if name not in found:
        kind = group.rsplit(".", 1)[-1].removesuffix("s")
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, found)}.")
    return found[name].load()
