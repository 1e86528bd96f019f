"""Finds methods, tokenizers and benchmarks through entry points; the engine knows none by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sslbench.errors import UserError, nearest

METHODS = "sslbench.methods"
TOKENIZERS = "sslbench.tokenizers"
BENCHMARKS = "sslbench.benchmarks"
CONFIGS = "sslbench.configs"
DATA = "sslbench.data"  # kinds of data besides images, see `evaluation.opening.open_kind`

# The modules that packages outside may import; all others may change at any time.
PUBLIC = (
    "sslbench.backbones.base",
    "sslbench.backbones.sampling",
    "sslbench.benchmark",
    "sslbench.checkpoints.load",
    "sslbench.data.augment",
    "sslbench.data.dataset",
    "sslbench.data.dense",
    "sslbench.data.masks",
    "sslbench.data.rng",
    "sslbench.data.views",
    "sslbench.errors",
    "sslbench.method",
    "sslbench.result",
    "sslbench.settings",
    "sslbench.testing",
)


def group_of(kind: str) -> str:
    """The entry-point group of a kind of plugin: "tokenizer" -> "sslbench.tokenizers"."""
    return f"sslbench.{kind}s"


def available(group: str) -> dict[str, EntryPoint]:
    """name -> entry point of a group, sorted by name; the first where several packages claim it."""
    return {name: entries[0] for name, entries in registered(group).items()}


def registered(group: str) -> dict[str, list[EntryPoint]]:
    """name -> the different entry points called so, sorted by name; more than one is a clash.

    A package that lies on the path twice (installed and as a source tree) counts once, as Python
    imports only the first.
    """
    first: dict[str, Any] = {}
    found: dict[str, list[EntryPoint]] = {}
    for entry in _scanned(entry_points, group, _places()):
        if first.setdefault(package_of(entry), entry.dist) is not entry.dist:
            continue
        same = found.setdefault(entry.name, [])
        if entry.value not in [other.value for other in same]:
            same.append(entry)
    return dict(sorted(found.items()))


def _places() -> tuple[tuple[str, int], ...]:
    """Where Python looks for packages, and when each folder last gained or lost one."""
    return tuple((p, Path(p).stat().st_mtime_ns) for p in sys.path if Path(p).exists())


@cache
def _scanned(
    scan: Callable[..., Iterable[EntryPoint]], group: str, places: tuple[tuple[str, int], ...]
) -> tuple[EntryPoint, ...]:
    """What the packages in `places` declare; reading them all takes a moment."""
    return tuple(scan(group=group))


def package_of(entry: EntryPoint) -> str:
    """The normalised name of the distribution, of the module's outermost package without one."""
    try:
        name = entry.dist.name if entry.dist else ""
    except (TypeError, KeyError):  # metadata that lack a name or do not exist
        name = ""
    return re.sub(r"[-_.]+", "-", name or entry.value.partition(".")[0]).lower()


def claimed_by(entries: Iterable[EntryPoint]) -> str:
    """Packages and entry points in words: "sslbench (a.b:C) and toy (d.e:F)"."""
    return " and ".join(f"{package_of(e)} ({e.name} = {e.value})" for e in entries)


def clash(group: str, name: str) -> str:
    """The sentence for a name that different entry points claim, else ""."""
    entries, kind = registered(group).get(name, []), kind_of(group)
    if len(entries) < 2:
        return ""
    return (
        f"the {kind} {name!r} is registered more than once, by {claimed_by(entries)}: uninstall "
        "one of these packages or rename the entry point there."
    )


def load(group: str, name: str) -> Any:
    """The class registered as `name`; UserError with the nearest names, or why it is broken."""
    found, kind = available(group), kind_of(group)
    if name not in found:
        raise UserError(f"unknown {kind} {name!r}: {nearest(name, found)}.")
    if said := clash(group, name):
        raise UserError(said)
    try:
        plugin = found[name].load()
    except Exception as error:  # other people's code may break in any way
        raise UserError(
            f"the {kind} {name!r} ({found[name].value}) cannot be loaded, "
            f"{type(error).__name__}: {error}; repair or uninstall its package."
        ) from error
    if (own := getattr(plugin, "name", name)) != name:  # runs and records are kept under its own
        raise UserError(
            f"the {kind} {name!r} of {claimed_by([found[name]])} calls itself {own!r}; let the "
            "entry point and the class's `name` agree."
        )
    return plugin


def kind_of(group: str) -> str:
    """The inverse of `group_of`: "sslbench.tokenizers" -> "tokenizer"."""
    return group.rsplit(".", 1)[-1].removesuffix("s")
