"""The label columns of a table: as few as distinguish its rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sslbench.errors import UserError, nearest
from sslbench.reporting.parameters import parameters_of
from sslbench.reporting.rows import FLOORS, UNKNOWN, RowKey, Rows
from sslbench.reporting.texts import data_name, tails
from sslbench.result import Result

BLANK = "–"
# The usual fields are shown if they differ, the extra ones only if needed to distinguish rows.
USUAL = (
    "label", "method", "started_from", "arch", "pretrain_data", "settings", "epochs",
    "effective_epochs", "tokens", "pool",
)  # fmt: skip
EXTRA = ("config", "recipe", "normalisation", "source", "steps", "recipe_digest", "weights")
ON_REQUEST = ("parameters", "seeds")  # shown only if requested
COMPARED = ("arch", "pretrain_data", "epochs", "effective_epochs", "tokens", "pool")
HEADINGS = {
    "label": "model",
    "started_from": "started from",
    "pretrain_data": "pretraining data",
    "effective_epochs": "effective epochs",
    "tokens": "billion image tokens",
    "pool": "features",
    "normalisation": "input",
    "recipe_digest": "recipe digest",
    "parameters": "parameters (M)",
}
FILE_NAME, USER = "file name", "user"
IDENTIFIED = {
    FILE_NAME: "Method, data and epochs are derived from its file name, not verified.",
    USER: "Method, data and epochs are as the user states them.",
}
UNKNOWN_SETTINGS = (
    "These records are of an older version without settings: runs of recipes with the same name "
    "are averaged as seeds."
)
SETTINGS_SHOWN = 2  # per row; a footnote lists all


@dataclass(frozen=True)
class Label:
    """One label column: its field, name and text by row."""

    field: str
    texts: Mapping[RowKey, str]

    @property
    def heading(self) -> str:
        return HEADINGS.get(self.field, self.field)


@dataclass(frozen=True)
class Labels:
    """The label columns, and (heading, text) of those that are equal in all rows of models."""

    columns: tuple[Label, ...]
    constant: tuple[tuple[str, str], ...] = ()


def label_rows(rows: Rows, wanted: Sequence[str] = ()) -> Labels:
    """Return the columns that name the rows.

    wanted: names of label columns to use, plus others if needed to distinguish rows. Raises
    UserError for an unknown name.
    """
    texts = _texts(rows)
    if wanted:
        fields = list(dict.fromkeys(map(field_of, wanted)))
        fields = _distinguishing(fields, (*USUAL, *EXTRA), texts)
        return Labels(tuple(Label(f, texts[f]) for f in fields))
    shown = [f for f in USUAL if any(text != BLANK for text in texts[f].values())]
    if {"label", "method"} <= set(shown) and _is_redundant(texts["method"], texts["label"], rows):
        shown.remove("method")
    constant = [f for f in shown if f not in ("label", "method") and _is_constant(f, texts[f])]
    shown = [f for f in shown if f not in constant]
    shown = _distinguishing(shown, EXTRA, texts)
    constants = tuple((HEADINGS.get(f, f), next(iter(_trained(texts[f])))) for f in constant)
    return Labels(tuple(Label(f, texts[f]) for f in shown), constants)


def _distinguishing(
    shown: Sequence[str], more: Sequence[str], texts: Mapping[str, Mapping[RowKey, str]]
) -> list[str]:
    """Return `shown` and those fields of `more` that distinguish rows with equal labels."""
    fields = list(shown)
    for extra in (f for f in more if f not in shown):
        values = defaultdict(set)
        for key, text in texts[extra].items():
            values[tuple(texts[f][key] for f in fields)].add(text)
        if any(len(different) > 1 for different in values.values()):
            fields.append(extra)
    return fields


def field_of(name: str) -> str:
    """Return the field of a label column, named by its field or its heading."""
    known = {f.casefold(): f for f in (*USUAL, *EXTRA, *ON_REQUEST)}
    known |= {heading.casefold(): f for f, heading in HEADINGS.items()}
    known |= {"data": "pretrain_data", "name": "label"}
    plain = " ".join(name.casefold().replace("_", " ").split())
    for spelling in (name.casefold().strip(), plain, plain.replace(" ", "_")):
        if spelling in known:
            return known[spelling]
    raise UserError(f"unknown label column {name!r}: {nearest(name, sorted(known))}.")


def card_notes(members: Iterable[Result]) -> list[str]:
    """Return the footnotes of a row's name: how it was identified, and unknown settings."""
    newest: dict[str, Result] = {}  # a later record may identify weights better
    for r in sorted(members, key=lambda r: (r.date, r.model.identified)):
        newest[r.model.sha256] = r
    cards = [r.model for r in newest.values()]
    notes = [note for how, note in IDENTIFIED.items() if any(c.identified == how for c in cards)]
    runs = {c.sha256 for c in cards if c.method not in FLOORS and not c.recipe_digest}
    return [*notes, UNKNOWN_SETTINGS] if len(runs) > 1 else notes


def difference_notes(label: Label) -> list[str]:
    """Return the footnote of a label column in which trained rows differ."""
    values = list(dict.fromkeys(t for k, t in label.texts.items() if k.method not in FLOORS))
    if label.field not in COMPARED or len(values) < 2:
        return []
    return [f"Rows differ in {label.heading} ({', '.join(values)})."]


def _trained(texts: Mapping[RowKey, str]) -> list[str]:
    """Return the distinct texts of trained rows, or of all rows if none is trained."""
    trained = [t for k, t in texts.items() if k.method not in FLOORS]
    return list(dict.fromkeys(trained or texts.values()))


def _is_constant(field: str, texts: Mapping[RowKey, str]) -> bool:
    """Return whether all trained rows, and floors with a value, agree."""
    different = {*_trained(texts), *(t for t in texts.values() if t not in (BLANK, "none"))}
    return field != "settings" and len(different) == 1


def _is_redundant(methods: Mapping[RowKey, str], labels: Mapping[RowKey, str], rows: Rows) -> bool:
    """Return whether the methods add nothing to the users' names."""
    return all(
        methods[k] in (BLANK, UNKNOWN, labels[k]) or methods[k].casefold() == labels[k].casefold()
        for k in rows
    )


def _texts(rows: Rows) -> dict[str, dict[RowKey, str]]:
    """Return field -> row -> text."""
    named = any(key.label for key in rows)
    texts = {
        "label": {k: (k.label or k.method) if named else BLANK for k in rows},
        "pretrain_data": {k: data_name(k.pretrain_data) or BLANK for k in rows},
        "started_from": {k: _start(members) for k, members in rows.items()},
        "settings": {k: _settings_text(s) for k, s in differing_settings(rows).items()},
        "source": _sources(rows),
        "weights": {k: next(r.model.sha256 for r in rows[k])[:8] for k in rows},
        "seeds": {k: str(len({r.model.sha256 for r in members})) for k, members in rows.items()},
        "parameters": {k: _millions(k.arch) for k in rows},
    }
    texts["effective_epochs"] = {k: _text(k.effective_epochs) for k in rows}
    if all(k.effective_epochs in (0, k.epochs) for k in rows):
        texts["effective_epochs"] = dict.fromkeys(rows, BLANK)
    plain = ("method", "arch", "recipe", "recipe_digest", "epochs", "tokens", "steps", "pool")
    for field in (*plain, "normalisation", "config"):
        texts[field] = {k: _text(getattr(k, field)) for k in rows}
    return texts


def _text(value: str | float) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}"
    return BLANK if text in ("", "0") else text


def _start(members: Iterable[Result]) -> str:
    """Return the names of the weights that the runs of a row started from."""
    names = {str(r.model.started_from.get("name", "")) for r in members}
    return ", ".join(sorted(names - {""})) or BLANK


def _millions(arch: str) -> str:
    count = parameters_of(arch)
    return f"{count / 1e6:.3g}" if count else BLANK


def _sources(rows: Rows) -> dict[RowKey, str]:
    """Return the shortest distinguishing path of each row's source, if it has only one."""
    source_of = {}
    for key, members in rows.items():
        sources = {r.model.source for r in members}
        if len(sources) == 1:
            source_of[key] = sources.pop()
    short = tails({source for source in source_of.values() if source})
    return {key: short.get(source_of.get(key, ""), "") or BLANK for key in rows}


def differing_settings(rows: Rows) -> dict[RowKey, dict[str, object]]:
    """Return row -> the settings in which it differs from rows of the same method and recipe."""
    settings = {k: dict(members[0].model.settings) for k, members in rows.items()}
    by_recipe = defaultdict(list)
    for key in rows:
        by_recipe[key.method, key.recipe].append(key)
    differing: dict[RowKey, dict[str, object]] = {key: {} for key in rows}
    for keys in by_recipe.values():
        names = {name for k in keys for name in settings[k]}
        differ = [
            n
            for n in names
            if len({json.dumps(settings[k].get(n, BLANK), default=str) for k in keys}) > 1
        ]
        for key in keys:
            differing[key] = {n: settings[key][n] for n in sorted(differ) if n in settings[key]}
    return differing


def settings_notes(settings: Mapping[str, object]) -> list[str]:
    """Return the footnote of a row with too many settings to show in it."""
    if len(settings) <= SETTINGS_SHOWN:
        return []
    return [f"Settings: {', '.join(map(_setting, settings.items()))}."]


def _settings_text(settings: Mapping[str, object]) -> str:
    texts = [_setting(item) for item in settings.items()][:SETTINGS_SHOWN]
    more = len(settings) - len(texts)
    return ", ".join([*texts, *([f"{more} more"] if more else [])]) or BLANK


def _setting(item: tuple[str, object]) -> str:
    name, value = item
    return f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
