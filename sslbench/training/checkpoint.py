"""Run directories: what a run leaves behind, written so that nothing is ever half-written.

config.json          the resolved recipe
state.pt             everything needed to resume, the newest; state.previous.pt the one before;
                     state.damaged.pt one that did not match its checksum
weights.safetensors  the exported backbone (the teacher where there is one) with its card
log.jsonl            one line per logged step
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sslbench.data.loader import is_worker_death
from sslbench.errors import UserError
from sslbench.storage import check_regular, parse_json, replacing, utf8_name
from sslbench.storage import remove as remove
from sslbench.storage import remove_leftovers as remove_leftovers
from sslbench.training.distributed import is_first
from sslbench.training.sealed import DamagedFile, load_checked, seal

STATE, PREVIOUS, DAMAGED = "state.pt", "state.previous.pt", "state.damaged.pt"
WEIGHTS, CONFIG = "weights.safetensors", "config.json"
CARD_SHA256 = "card_sha256"
OWNER = "owner"  # where a state keeps whose it is
LONGEST_HEADER = 2**24  # bytes, of safetensors; that of a thousand tensors has 100,000
log = logging.getLogger(__name__)


def write_atomically(path: Path, write: Callable[[Path], Any], keep: Path | None = None) -> None:
    """Lets `write` fill a file that then takes the place of `path`, see `storage.replacing`.

    keep: where the file that is replaced stays. A full disk leaves `path` as it was and raises
    UserError, which tells of --resume where there is a run to go on with.
    """
    try:
        with replacing(path, keep) as temporary:
            write(temporary)
    except (OSError, RuntimeError, SafetensorError) as error:
        if is_worker_death(error):
            raise
        resume = ", with --resume if the run had begun" if has_state(path.parent) else ""
        raise UserError(
            f"{path} cannot be written ({_reason(error)}); free disk space or choose another --out "
            f"and repeat the command{resume}."
        ) from error


def _reason(error: BaseException) -> str:
    """The system's own words, which torch buries below an error of its archive writer."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    said = re.sub(r"\[enforce fail[^]]*\][ .]*", "", str(error))
    return getattr(cause, "strerror", None) or " ".join(said.split())


def save_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\n"))


def save_pickled(
    path: Path,
    value: Any,
    keep: Path | None = None,
    finish: Callable[[Path], None] = lambda path: None,
) -> None:
    """`torch.save` by `write_atomically`; `finish` gets the file before it takes its place."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # torch's own writer would not say why it fails
            torch.save(value, file)
        finish(temporary)

    write_atomically(path, write, keep)


def save_checked(path: Path, value: Any, keep: Path | None = None) -> None:
    """`save_pickled` with a checksum inside, which `sealed.load_checked` asks for."""
    save_pickled(path, value, keep, finish=seal)


def save_state(
    folder: Path, state: Mapping[str, Any], owner: Mapping[str, Any] | None = None
) -> None:
    """Writes state.pt; the one it replaces stays as state.previous.pt.

    owner: what only the states of this run agree on (plain values), see `load_state`.
    """
    told = {} if owner is None else {OWNER: dict(owner)}
    save_checked(folder / STATE, {**state, **told}, keep=folder / PREVIOUS)


def has_state(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / STATE).exists() or (folder / PREVIOUS).exists()


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


def save_weights(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> str:
    """Writes safetensors with `card` and a checksum of it; returns the weights' sha256."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    sha = weights_sha256(plain)
    metadata = {"sslbench": json.dumps(_sealed({**card, "sha256": sha}))}
    write_atomically(path, lambda p: save_file(plain, p, metadata))
    return sha


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and card of a file `save_weights` wrote; UserError if it is damaged."""
    with opened_weights(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _card(file, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """The card alone, {} if there is none; UserError if the file is damaged."""
    with opened_weights(path) as file:
        return _card(file, path)


@contextlib.contextmanager
def opened_weights(path: Path) -> Iterator[Any]:
    """A file of safetensors; UserError if it or what is read of it is damaged.

    The library holds tensors to the file's size, but takes a header of any length.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
                raise OSError("its header does not end")
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        detail = f" ({error})" if str(error) else ""
        raise UserError(
            f"weights {path} are truncated or damaged{detail}; make them anew."
        ) from error


def _card(file: Any, path: Path) -> dict[str, Any]:
    try:
        card = parse_json((file.metadata() or {}).get("sslbench", "{}"))
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise UserError(f"the card in {path} is damaged; make the weights anew.")
    given = card.pop(CARD_SHA256, None)  # older versions wrote none
    if given is not None and given != _sealed(card)[CARD_SHA256]:
        raise UserError(
            f"the card in {path} was changed after it was written, so nobody knows what the "
            "weights are; restore the file or make it anew."
        )
    return card


def _sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(json.loads(json.dumps(card)), sort_keys=True)  # keys are texts then
    return {**card, CARD_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash over names, shapes, types and bytes of the tensors, whatever the file around them."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def contents_sha256(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """`weights_sha256` together with the texts that a file of tensors holds beside them."""
    both = json.dumps([weights_sha256(tensors), dict(about)], sort_keys=True)
    return hashlib.sha256(both.encode()).hexdigest()
