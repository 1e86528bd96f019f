"""Which rows, columns and names of the records a table shows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

from sslbench.errors import UserError, nearest

DEFAULT = "frozen"
LAYOUTS = "layouts.toml"


@dataclass(frozen=True)
class View:
    """What a table shows.

    everything: all columns, not only the benchmarks' main ones. columns, labels: those alone, in
    this order; see `columns.asked` and `labels.field_of`. rows: patterns of rows, in their order,
    see `fits`. sort: label columns to order rows by. floors: whether they are shown. names: what
    is shown instead of a name. caption: instead of the usual one, {data} and {split} are filled in;
    label: of LaTeX's \\ref. notes: more remarks.
    """

    everything: bool = False
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    floors: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    label: str = ""
    notes: tuple[str, ...] = ()

    def renamed(self, text: str) -> str:
        return self.names.get(text, text)

    def changed(self, **given: Any) -> View:
        """With the settings that say something; names come on top of those it has."""
        names = {**self.names, **given.pop("names", {})}
        return replace(self, names=names, **{k: v for k, v in given.items() if v})


def layouts() -> dict[str, dict[str, Any]]:
    """name -> settings of every layout."""
    return tomllib.loads((files("sslbench.results") / LAYOUTS).read_text(encoding="utf-8"))


def layout_view(name: str) -> View:
    """The view that a layout stands for; UserError for one that does not exist."""
    known = layouts()
    if name not in known:
        raise UserError(f"unknown layout {name!r}: {nearest(name, known)}.")
    values: dict[str, Any] = dict(known[name])
    values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    return View(**values)


def items_of(text: str) -> tuple[str, ...]:
    """The items of a list such as "knn k=20 top1, linear"."""
    return tuple(item for part in text.split(",") if (item := part.strip()))


def names_of(changes: Iterable[str]) -> dict[str, str]:
    """OLD -> NEW of texts "OLD=NEW"; UserError for a text that is none."""
    names = {}
    for change in changes:
        old, mark, new = change.partition("=")
        if not (mark and old.strip()):
            raise UserError(f"--name {change!r} is not OLD=NEW, e.g. --name dino=DINO.")
        names[old.strip()] = new.strip()
    return names


def fits(pattern: str, names: Sequence[str]) -> bool:
    """Whether a pattern such as "dino ViT-S/16" or "my-*" fits a row of these names.

    It is one of them, or each of its words is.
    """
    return any(_is(pattern, name) for name in names) or all(
        any(_is(word, name) for name in names) for word in pattern.split()
    )


def _is(pattern: str, name: str) -> bool:
    return fnmatchcase(name.casefold(), pattern.casefold())
