"""Rules on what a user asks of a training, checked before data or models are opened; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sslbench import plugins
from sslbench.data.places import check_place
from sslbench.errors import UserError
from sslbench.recipes.load import find_config, key_and_value


def check_training(
    group: str,
    method: str | None,
    config: str | None,
    data: str | None,
    out: Path | None,
    changes: Sequence[str],
    resume: bool,
    limit: int | None,
    init: str | None = None,
) -> None:
    """Raises UserError for options of a training that are wrong whatever the data holds."""
    if method is not None:
        plugins.check_known(group, method)
    if config is not None:
        find_config(config)
    for change in changes:
        key_and_value(change)
    if init is not None:
        check_init(init, changes, resume)
    if resume:
        run_to_resume(out)
        if limit:
            raise UserError("--limit is for new runs; a resumed run ends where it was to end.")
    elif config is None:
        method_to_train(method)
    check_folder(out)
    if data is not None:
        check_place(data)


def check_init(init: str, changes: Sequence[str], resume: bool) -> None:
    """Raises UserError for an --init that something else contradicts."""
    if resume:
        raise UserError("--init starts a new run and --resume continues one; drop one of them.")
    if not init:
        raise UserError("--init '' names no weights; give a source as `evaluate --model` takes it.")
    if given := [change for change in changes if change.startswith("init.source=")]:
        raise UserError(f"--init {init} contradicts --set {given[0]}; drop one of them.")


def run_to_resume(out: Path | None) -> Path:
    """`out`; UserError where none is named."""
    if out is None:
        raise UserError("--resume needs --out DIR, the run to resume.")
    return out


def method_to_train(method: str | None) -> str:
    """`method`; UserError where neither it nor a config is named."""
    if method is None:
        raise UserError("nothing says what to train; pass --method NAME or --config NAME.")
    return method


def check_folder(out: Path | None) -> None:
    """Raises UserError for an --out that exists and is not a folder."""
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder.")
