"""Checks of options that need neither data nor models, made before anything else happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sslbench import plugins
from sslbench.cli import names
from sslbench.data.places import check_place
from sslbench.data.splits import split_named
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded
from sslbench.system.printing import printable
from sslbench.training.options import check_folder


def check_evaluation(
    suite: str,
    benchmarks: Sequence[str],
    split: str,
    out: Path,
    data: Sequence[str],
    folders: Sequence[str | None],
    classifier: Path | None,
) -> None:
    """Raises UserError for a wrong name, an `out` that is a file, and places that do not exist.

    folders: of COCO and ADE20K, or "shapes".
    """
    for name in benchmarks:
        plugins.check_known(plugins.BENCHMARKS, name)
    if not benchmarks and suite not in (suites := names.suites()):
        raise UserError(f"unknown suite {suite!r}: {nearest(suite, suites)}.")
    split_named(split)
    check_folder(out)
    for item in data:
        check_data(item)
    for folder in folders:
        if folder and folder != "shapes" and not expanded(folder).is_dir():
            place = printable(expanded(folder).absolute())
            raise UserError(f"The folder {place} does not exist, nor is it 'shapes'; name another.")
    if classifier is not None and not expanded(classifier).exists():
        raise UserError(
            f"the classifier {classifier} does not exist; give the file of its weights."
        )


def check_data(item: str) -> None:
    """Raises UserError for an item of `evaluate --data` that names images which do not exist."""
    kind, equals, source = item.partition("=")
    if not equals or kind not in ("images", "coco", "ade20k", *plugins.available(plugins.DATA)):
        check_place(item)
    elif kind == "images":
        check_place(source)


def with_shortcuts(changes: Sequence[str], seed: int | None, epochs: float | None) -> list[str]:
    """`changes` with those that --seed and --epochs stand for.

    Raises UserError where a --set gives the same setting another value.
    """
    shortcuts = {"seed": seed, "epochs": epochs}
    added = []
    for name, value in shortcuts.items():
        if value is None:
            continue
        for change in changes:
            key, _, text = change.partition("=")
            if key == f"train.{name}" and not _same(text, value):
                raise UserError(f"--{name} {value} contradicts --set {change}; drop one of them.")
        added.append(f"train.{name}={value}")
    return [*changes, *added]


def _same(text: str, value: float) -> bool:
    try:
        return float(text) == value
    except ValueError:
        return False
