"""The rows, columns and names that a table shows."""

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
    """The content of a table.

    everything: all columns, not only the benchmarks' main ones. columns, labels: only these, in
    this order; see `columns.matching_columns` and `labels.field_of`. partial: leaves out columns
    without records instead of refusing them, unless all are. rows: patterns of rows, in
    this order, see `fits`. sort: label columns to sort rows by. floors: whether to show them.
    names: old name -> new name. caption: replaces the default; {data} and {split} are filled in.
    label: for LaTeX's \\ref. notes: additional remarks. published: the tables, as "SOURCE, TABLE",
    whose figures `table --published` shows beside our records; (): those of all tables.
    """

    everything: bool = False
    columns: tuple[str, ...] = ()
    partial: bool = False
    rows: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    floors: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    label: str = ""
    notes: tuple[str, ...] = ()
    published: tuple[str, ...] = ()

    def renamed(self, text: str) -> str:
        return self.names.get(text, text)

    def changed(self, **settings: Any) -> View:
        """Return a copy with the settings that are not empty; names are added to existing ones.

        New columns must all exist, even where those of the layout need not.
        """
        names = {**self.names, **settings.pop("names", {})}
        partial = self.partial and not settings.get("columns")
        changes = {"partial": partial, **{k: v for k, v in settings.items() if v}}
        return replace(self, names=names, **changes)


def layouts() -> dict[str, dict[str, Any]]:
    """name -> settings of every layout."""
    return tomllib.loads((files("sslbench.results") / LAYOUTS).read_text(encoding="utf-8"))


def layout_view(name: str, figures: bool = False) -> View:
    """Return the view of a layout; UserError if it does not exist.

    figures: for `table --published`, which has columns of its own, if the layout names tables.
    """
    known = layouts()
    if name not in known:
        raise UserError(f"unknown layout {name!r}: {nearest(name, known)}.")
    values: dict[str, Any] = dict(known[name])
    values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    view = View(**values)
    if figures and view.published:
        return View(published=view.published)
    return view


def items_of(text: str) -> tuple[str, ...]:
    """Return the items of a list such as "knn k=20 top1, linear"."""
    return tuple(item for part in text.split(",") if (item := part.strip()))


def names_of(changes: Iterable[str]) -> dict[str, str]:
    """Parse texts "OLD=NEW" to OLD -> NEW; UserError if one has another form."""
    names = {}
    for change in changes:
        old, mark, new = change.partition("=")
        if not (mark and old.strip()):
            raise UserError(f"--name {change!r} is not OLD=NEW, e.g. --name dino=DINO.")
        names[old.strip()] = new.strip()
    return names


def fits(pattern: str, names: Sequence[str]) -> bool:
    """Return whether a pattern such as "dino ViT-S/16" or "my-*" matches a row of these names.

    Either the pattern matches one of them, or each of its words does.
    """
    return any(_matches(pattern, name) for name in names) or all(
        any(_matches(word, name) for name in names) for word in pattern.split()
    )


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name.casefold(), pattern.casefold())
