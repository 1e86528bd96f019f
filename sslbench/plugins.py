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
    """The class registered as `name`; UserError with the nearest names, or why it is broken."""
    found, kind = available(group), group.rsplit(".", 1)[-1].removesuffix("s")
    if name not in found:
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, found)}.")
    try:
        return found[name].load()
    except Exception as error:  # other people's code may break in any way
        raise UserError(
            f"the {kind} {name!r} ({found[name].value}) cannot be loaded, "
            f"{type(error).__name__}: {error}; repair or uninstall its package."
        ) from error
