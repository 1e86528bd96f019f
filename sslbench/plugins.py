"""Methods, tokenizers and benchmarks found through entry points; the engine names none of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sslbench.errors import UserError, nearest

METHODS = "sslbench.methods"
TOKENIZERS = "sslbench.tokenizers"
CLASSIFIERS = "sslbench.classifiers"  # methods that learn from labels; benchmarks train them
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
    "sslbench.data.colours",
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
    "sslbench.tokenizer",
)


def group_of(kind: str) -> str:
    """Return the entry-point group of a kind of plugin: "tokenizer" -> "sslbench.tokenizers"."""
    return f"sslbench.{kind}s"


def group_with(name: object) -> str:
    """Return the group in which `name` is trained: methods, else tokenizers, else classifiers."""
    groups = (METHODS, TOKENIZERS, CLASSIFIERS)
    return next((group for group in groups if name in available(group)), METHODS)


def available(group: str) -> dict[str, EntryPoint]:
    """Return name -> entry point, sorted by name; the first of those that claim the same name."""
    return {name: entries[0] for name, entries in registered(group).items()}


def registered(group: str) -> dict[str, list[EntryPoint]]:
    """Return name -> its different entry points, sorted by name; more than one is a clash.

    A package found twice on `sys.path` (installed and as a source tree) counts once, because Python
    imports only the first copy.
    """
    first_copies: dict[str, Any] = {}
    entries_by_name: dict[str, list[EntryPoint]] = {}
    for entry in _scan(entry_points, group, _path_state()):
        if first_copies.setdefault(package_of(entry), entry.dist) is not entry.dist:
            continue
        namesakes = entries_by_name.setdefault(entry.name, [])
        if entry.value not in [other.value for other in namesakes]:
            namesakes.append(entry)
    return dict(sorted(entries_by_name.items()))


def _path_state() -> tuple[tuple[str, int], ...]:
    """Return the folders of `sys.path` with their modification times."""
    return tuple((p, Path(p).stat().st_mtime_ns) for p in sys.path if Path(p).exists())


@cache
def _scan(
    scan: Callable[..., Iterable[EntryPoint]], group: str, path_state: tuple[tuple[str, int], ...]
) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group; cached until `sys.path` or one of its folders changes."""
    return tuple(scan(group=group))


def package_of(entry: EntryPoint) -> str:
    """Return the distribution's normalised name, or the module's top-level package without one."""
    name = _name_of(entry.dist) if entry.dist else ""
    return re.sub(r"[-_.]+", "-", name or entry.value.partition(".")[0]).lower()


@cache
def _name_of(distribution: Distribution) -> str:
    """Return the name in a distribution's metadata, which take a moment to parse; "" without."""
    try:
        return distribution.name
    except (TypeError, KeyError):  # the metadata are missing or have no name
        return ""


def claimed_by(entries: Iterable[EntryPoint]) -> str:
    """Return packages and entry points as text: "sslbench (x = a.b:C) and toy (x = d.e:F)"."""
    return " and ".join(f"{package_of(e)} ({e.name} = {e.value})" for e in entries)


def clash(group: str, name: str) -> str:
    """Return the error message for a name that several entry points claim, else ""."""
    entries, kind = registered(group).get(name, []), kind_of(group)
    if len(entries) < 2:
        return ""
    return (
        f"the {kind} {name!r} is registered more than once, by {claimed_by(entries)}: uninstall "
        "one of these packages or rename the entry point there."
    )


def check_known(group: str, name: str) -> None:
    """Raise UserError with the nearest name if no entry point of a group has this name."""
    if name not in (entries := available(group)):
        raise UserError(f"unknown {kind_of(group)} {name!r}: {nearest(name, entries)}.")


def load(group: str, name: str) -> Any:
    """Return the class registered as `name`; UserError if it is unknown, ambiguous or broken."""
    check_known(group, name)
    entries, kind = available(group), kind_of(group)
    if message := clash(group, name):
        raise UserError(message)
    try:
        plugin = entries[name].load()
    except Exception as error:  # a foreign package may fail in any way
        raise UserError(
            f"the {kind} {name!r} ({entries[name].value}) cannot be loaded, "
            f"{type(error).__name__}: {error}; repair or uninstall its package."
        ) from error
    if (class_name := getattr(plugin, "name", name)) != name:  # runs are stored under this name
        raise UserError(
            f"the {kind} {name!r} of {claimed_by([entries[name]])} calls itself {class_name!r}; "
            "let the entry point and the class's `name` agree."
        )
    return plugin


def kind_of(group: str) -> str:
    """Return the kind of plugin in a group: "sslbench.tokenizers" -> "tokenizer"."""
    return group.rsplit(".", 1)[-1].removesuffix("s")
