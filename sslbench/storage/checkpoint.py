"""Checkpoints of a run or job: the previous one is kept in case the newest is damaged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.storage.layout import DAMAGED, PREVIOUS, STATE
from sslbench.storage.sealed import DamagedFile, load_checked, save_checked
from sslbench.system.distributed import is_first

OWNER = "owner"  # the key of a state under which its run is identified
log = logging.getLogger(__name__)


def save_state(
    folder: Path, state: Mapping[str, Any], owner: Mapping[str, Any] | None = None
) -> None:
    """Write state.pt and keep the one it replaces as state.previous.pt.

    owner: plain values that identify this run; `load_state` compares them.
    """
    identity = {} if owner is None else {OWNER: dict(owner)}
    save_checked(folder / STATE, {**state, **identity}, keep=folder / PREVIOUS)


def load_state(
    folder: Path,
    owner: Mapping[str, Any] | None = None,
    parts: Sequence[str] = (),
    repair: bool = True,
) -> dict[str, Any]:
    """Return the newest undamaged state in `folder`; warn if that is the previous one.

    owner: as passed to `save_state`; parts: required keys; repair: renames a damaged state.pt.
    Raises UserError if no state is undamaged or if it belongs to another run; states of older
    versions have no owner.
    """
    damage: list[DamagedFile] = []
    for path in (folder / STATE, folder / PREVIOUS):
        try:
            state = _with_parts(path, load_checked(path), parts)
        except FileNotFoundError:
            continue  # killed between the two renames
        except DamagedFile as error:
            damage.append(error)
            continue
        check_owner(path, state.pop(OWNER, None), owner)
        if damage and is_first():
            at = f", step {state['step']}" if "step" in state else ""
            log.warning("%s %s %s%s.", damage[0], "Resuming from" if repair else "Using", path, at)
        if damage and repair and is_first():
            with contextlib.suppress(OSError):  # or the next save would keep the damaged one
                (folder / STATE).replace(folder / DAMAGED)
        return state
    if not damage:
        raise UserError(f"{folder} holds no {STATE} to resume from; leave out --resume to start.")
    previous = "is damaged too" if len(damage) > 1 else "does not exist"
    reason = str(damage[0]).removesuffix(".")
    raise UserError(f"{reason} and {PREVIOUS} {previous}; remove {folder} to start again.")


def fill(folder: Path, state: Mapping[str, Any], modules: Mapping[str, Any]) -> None:
    """Load a state into `modules` (name -> object with `load_state_dict`); UserError if unfit."""
    try:
        for name, module in modules.items():
            module.load_state_dict(state[name])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / STATE} holds other weights than its recipe has in this version; start a "
            "new run, or resume with the version that started it."
        ) from error


def _with_parts(path: Path, state: Any, parts: Sequence[str]) -> dict[str, Any]:
    if not isinstance(state, dict) or (missing := [part for part in parts if part not in state]):
        reason = f"it has no {missing[0]!r}" if isinstance(state, dict) else "it holds no state"
        raise DamagedFile(f"{path} is damaged ({reason}).")
    return state


def check_owner(path: Path, stored: Any, owner: Mapping[str, Any] | None) -> None:
    """Raise UserError if `stored`, the owner named in a file, differs from `owner`."""
    if owner is None or stored is None:
        return
    differing = [name for name in owner if name in stored and stored[name] != owner[name]]
    if not differing and stored.keys() & owner.keys():
        return
    difference = ", ".join(f"{name} {stored[name]!r}, not {owner[name]!r}" for name in differing)
    raise UserError(
        f"{path} belongs to another run ({difference or 'of another kind'}); restore this run's "
        "own file, or remove this one."
    )
