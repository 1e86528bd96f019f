"""The states of a run or job, kept so that the one before is there where the newest is damaged."""

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

OWNER = "owner"  # where a state keeps whose it is
log = logging.getLogger(__name__)


def save_state(
    folder: Path, state: Mapping[str, Any], owner: Mapping[str, Any] | None = None
) -> None:
    """Writes state.pt; the one it replaces stays as state.previous.pt.

    owner: what only the states of this run agree on (plain values), see `load_state`.
    """
    told = {} if owner is None else {OWNER: dict(owner)}
    save_checked(folder / STATE, {**state, **told}, keep=folder / PREVIOUS)


def load_state(
    folder: Path,
    owner: Mapping[str, Any] | None = None,
    parts: Sequence[str] = (),
    repair: bool = True,
) -> dict[str, Any]:
    """The newest sound state in `folder`; where that is the one before, a warning says so.

    owner: as given to `save_state`; parts: what it has to hold; repair: sets a damaged one aside.
    Raises UserError where no state is sound, and where the newest one belongs to another run;
    older versions named no owner.
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
            with contextlib.suppress(OSError):  # else the next save would make it the one before
                (folder / STATE).replace(folder / DAMAGED)
        return state
    if not damage:
        raise UserError(f"{folder} holds no {STATE} to resume from; leave out --resume to start.")
    other = "is damaged too" if len(damage) > 1 else "is not there to fall back to"
    told = str(damage[0]).removesuffix(".")
    raise UserError(f"{told} and {PREVIOUS} {other}; remove {folder} to start anew.")


def fill(folder: Path, state: Mapping[str, Any], modules: Mapping[str, Any]) -> None:
    """Loads parts of a state into what they are of; UserError where they do not fit."""
    try:
        for name, module in modules.items():
            module.load_state_dict(state[name])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / STATE} holds other weights than its recipe has in this version; start a "
            "new run, or go on with the version that began it."
        ) from error


def _with_parts(path: Path, state: Any, parts: Sequence[str]) -> dict[str, Any]:
    if not isinstance(state, dict) or (lacking := [part for part in parts if part not in state]):
        told = f"no {lacking[0]!r}" if isinstance(state, dict) else "no state"
        raise DamagedFile(f"{path} is damaged (it holds {told}).")
    return state


def check_owner(path: Path, found: Any, owner: Mapping[str, Any] | None) -> None:
    """Raises UserError where `found`, the owner that a file names, is another than `owner`."""
    if owner is None or found is None:
        return
    other = [name for name in owner if name in found and found[name] != owner[name]]
    if not other and found.keys() & owner.keys():
        return
    told = ", ".join(f"{name} {found[name]!r}, not {owner[name]!r}" for name in other)
    raise UserError(
        f"{path} belongs to another run ({told or 'of another kind'}); put this run's own file "
        "back, or remove this one."
    )
