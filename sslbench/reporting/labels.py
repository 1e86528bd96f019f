"""What a table's rows are called: by as few columns as tell them apart."""

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
# Shown where they differ; of the others only those that tell rows apart, in this order.
USUAL = (
    "label", "method", "arch", "pretrain_data", "settings", "epochs", "effective_epochs", "tokens",
    "pool",
)  # fmt: skip
EXTRA = ("recipe", "normalisation", "source", "steps", "recipe_digest", "weights")
ASKED = ("parameters", "seeds")  # shown only where asked for
COMPARED = ("arch", "pretrain_data", "epochs", "effective_epochs", "tokens", "pool")
HEADINGS = {
    "label": "model",
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
    FILE_NAME: "Method, data and epochs are told by its file name, not verified.",
    USER: "Method, data and epochs are as its user states them.",
}
UNSAID = (
    "These records are of an older version and do not say their settings: runs of one recipe's "
    "name are averaged as its seeds."
)
SETTINGS_SHOWN = 2  # in a row; a footnote lists them all


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
    """The columns that name the rows; where given `wanted`, and what else tells rows apart.

    UserError for an unknown name.
    """
    texts = _texts(rows)
    if wanted:
        chosen = list(dict.fromkeys(map(field_of, wanted)))
        return Labels(tuple(Label(f, texts[f]) for f in _apart(chosen, (*USUAL, *EXTRA), texts)))
    shown = [f for f in USUAL if any(text != BLANK for text in texts[f].values())]
    if {"label", "method"} <= set(shown) and _only(texts["label"], texts["method"], rows):
        shown.remove("method")
    constant = [f for f in shown if f not in ("label", "method") and _constant(f, texts[f])]
    shown = [f for f in shown if f not in constant]
    shown = _apart(shown, EXTRA, texts)
    said = tuple((HEADINGS.get(f, f), next(iter(_trained(texts[f])))) for f in constant)
    return Labels(tuple(Label(f, texts[f]) for f in shown), said)


def _apart(
    shown: Sequence[str], more: Sequence[str], texts: Mapping[str, Mapping[RowKey, str]]
) -> list[str]:
    """`shown` and those fields of `more` that tell rows apart which would look alike."""
    fields = list(shown)
    for extra in (f for f in more if f not in shown):
        alike = defaultdict(set)
        for key, text in texts[extra].items():
            alike[tuple(texts[f][key] for f in fields)].add(text)
        if any(len(different) > 1 for different in alike.values()):
            fields.append(extra)
    return fields


def field_of(name: str) -> str:
    """The field of a label column, which is asked for by its own name or its heading."""
    known = {f.casefold(): f for f in (*USUAL, *EXTRA, *ASKED)}
    known |= {heading.casefold(): f for f, heading in HEADINGS.items()}
    known |= {"data": "pretrain_data", "name": "label"}
    plain = " ".join(name.casefold().replace("_", " ").split())
    for spelling in (name.casefold().strip(), plain, plain.replace(" ", "_")):
        if spelling in known:
            return known[spelling]
    raise UserError(f"unknown label column {name!r}: {nearest(name, sorted(known))}.")


def card_notes(members: Iterable[Result]) -> list[str]:
    """The footnotes of a row's name: how it is known, and what nobody knows of it."""
    newest: dict[str, Result] = {}  # how weights are known may be learnt later
    for r in sorted(members, key=lambda r: (r.date, r.model.identified)):
        newest[r.model.sha256] = r
    cards = [r.model for r in newest.values()]
    said = [note for how, note in IDENTIFIED.items() if any(c.identified == how for c in cards)]
    runs = {c.sha256 for c in cards if c.method not in FLOORS and not c.recipe_digest}
    return [*said, UNSAID] if len(runs) > 1 else said


def mixed(label: Label) -> list[str]:
    """The footnote of a column whose values make trained rows unequal."""
    values = list(dict.fromkeys(t for k, t in label.texts.items() if k.method not in FLOORS))
    if label.field not in COMPARED or len(values) < 2:
        return []
    return [f"Rows differ in {label.heading} ({', '.join(values)})."]


def _trained(texts: Mapping[RowKey, str]) -> list[str]:
    """Distinct texts of trained rows, of all rows where none is trained."""
    trained = [t for k, t in texts.items() if k.method not in FLOORS]
    return list(dict.fromkeys(trained or texts.values()))


def _constant(field: str, texts: Mapping[RowKey, str]) -> bool:
    """Whether trained rows agree, and floors where they have such a thing."""
    different = {*_trained(texts), *(t for t in texts.values() if t not in (BLANK, "none"))}
    return field != "settings" and len(different) == 1


def _only(labels: Mapping[RowKey, str], methods: Mapping[RowKey, str], rows: Rows) -> bool:
    """Whether the methods say nothing beside the users' names."""
    return all(
        methods[k] in (BLANK, UNKNOWN, labels[k]) or methods[k].casefold() == labels[k].casefold()
        for k in rows
    )


def _texts(rows: Rows) -> dict[str, dict[RowKey, str]]:
    """field -> row -> text."""
    named = any(key.label for key in rows)
    found = {
        "label": {k: (k.label or k.method) if named else BLANK for k in rows},
        "pretrain_data": {k: data_name(k.pretrain_data) or BLANK for k in rows},
        "settings": {k: _shown(s) for k, s in differing_settings(rows).items()},
        "source": _sources(rows),
        "weights": {k: next(r.model.sha256 for r in rows[k])[:8] for k in rows},
        "seeds": {k: str(len({r.model.sha256 for r in members})) for k, members in rows.items()},
        "parameters": {k: _millions(k.arch) for k in rows},
    }
    found["effective_epochs"] = {k: _text(k.effective_epochs) for k in rows}
    if all(k.effective_epochs in (0, k.epochs) for k in rows):
        found["effective_epochs"] = dict.fromkeys(rows, BLANK)
    plain = ("method", "arch", "recipe", "recipe_digest", "epochs", "tokens", "steps", "pool")
    for field in (*plain, "normalisation"):
        found[field] = {k: _text(getattr(k, field)) for k in rows}
    return found


def _text(value: str | float) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}"
    return BLANK if text in ("", "0") else text


def _millions(arch: str) -> str:
    count = parameters_of(arch)
    return f"{count / 1e6:.3g}" if count else BLANK


def _sources(rows: Rows) -> dict[RowKey, str]:
    """As much of each row's only source as tells it from the others'."""
    only = {}
    for key, members in rows.items():
        sources = {r.model.source for r in members}
        if len(sources) == 1:
            only[key] = sources.pop()
    short = tails({source for source in only.values() if source})
    return {key: short.get(only.get(key, ""), "") or BLANK for key in rows}


def differing_settings(rows: Rows) -> dict[RowKey, dict[str, object]]:
    """row -> the settings in which it differs from others of its recipe's name."""
    settings = {k: dict(members[0].model.settings) for k, members in rows.items()}
    alike = defaultdict(list)
    for key in rows:
        alike[key.method, key.recipe].append(key)
    found: dict[RowKey, dict[str, object]] = {key: {} for key in rows}
    for keys in alike.values():
        names = {name for k in keys for name in settings[k]}
        differ = [
            n
            for n in names
            if len({json.dumps(settings[k].get(n, BLANK), default=str) for k in keys}) > 1
        ]
        for key in keys:
            found[key] = {n: settings[key][n] for n in sorted(differ) if n in settings[key]}
    return found


def settings_notes(settings: Mapping[str, object]) -> list[str]:
    """The footnote of a row whose settings are too many to stand in it."""
    if len(settings) <= SETTINGS_SHOWN:
        return []
    return [f"Settings: {', '.join(map(_setting, settings.items()))}."]


def _shown(settings: Mapping[str, object]) -> str:
    texts = [_setting(item) for item in settings.items()][:SETTINGS_SHOWN]
    more = len(settings) - len(texts)
    return ", ".join([*texts, *([f"{more} more"] if more else [])]) or BLANK


def _setting(item: tuple[str, object]) -> str:
    name, value = item
    return f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
