"""How a generated dataset gets onto the disk: all at once, with a manifest that says what it is.

The manifest also holds a hash of all files, so that what was damaged since is noticed and drawn
anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslbench.data.contents import content_hashes, hashes
from sslbench.data.dataset import digest
from sslbench.data.walking import files_below
from sslbench.errors import UserError
from sslbench.storage.files import draft, parse_json, read_small
from sslbench.storage.home import kept
from sslbench.system.printing import printable

MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


def identity(dataset: str, version: str, config: Any) -> dict[str, Any]:
    """The part of the manifest that is known before anything is drawn; `config`: a dataclass."""
    return {"dataset": dataset, "version": version, "config": asdict(config)}


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest under `root`, or None where there is none that can be read."""
    try:
        found = parse_json(read_small(root / MANIFEST))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_complete(root: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether `root` holds the dataset of this identity, every file as it was drawn.

    A dataset of another identity is a UserError.
    """
    if _is_free(root):
        return False
    manifest = read_manifest(root) or {}
    for key, value in wanted.items():
        if manifest and manifest.get(key) != value:
            raise UserError(
                f"{root} holds a dataset of another {key}; remove {root} and run again."
            )
    names = _names(root)
    return manifest.get("files") == _digest(names, content_hashes(root, names))


def _is_free(root: Path) -> bool:
    return not root.is_dir() or not any(root.iterdir())


def _names(root: Path) -> list[str]:
    return sorted(name for name in files_below(root) if name != MANIFEST)


def _digest(names: list[str], contents: list[str]) -> str:
    return digest(list(zip(names, contents, strict=True)))


def _publish(new: Path, root: Path, wanted: Mapping[str, Any]) -> None:
    """Renames `new`; where something is there already, unless it is complete, it is repaired."""
    try:
        new.rename(root)
    except OSError:
        if not is_complete(root, wanted):
            _repair(new, root, wanted["dataset"])


def _repair(new: Path, root: Path, dataset: str) -> None:
    """Replaces every file of `root` that is another in `new`, one by one.

    So other processes, readers and those that repair as well, always find a whole file. What was
    not drawn is not ours to remove.
    """
    drawn = _names(new)
    extra = sorted(set(_names(root)) - set(drawn)) if root.is_dir() else [root.name]
    if extra:
        raise UserError(
            f"{root} is not a `{dataset}` dataset, for it holds {printable(extra[0])}; remove it "
            "or name another folder."
        )
    for name, old, now in zip(drawn, hashes(root, drawn), hashes(new, drawn), strict=True):
        if old != now:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(root / name)
    (new / MANIFEST).replace(root / MANIFEST)


def publish(
    root: Path, wanted: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any]]
) -> Path:
    """Have `write` fill a folder that then becomes `root`; return `root`, absolute.

    `write` gets a draft folder beside `root` and returns what the manifest says beyond `wanted`,
    the identity. Files appear under `root` all at once, by renaming the draft. A dataset of this
    identity already at `root` is left as it is, or repaired where its files are not as they were
    drawn; anything else there raises UserError.
    """
    root = Path(root).absolute()
    if is_complete(root, wanted):
        return root
    if not _is_free(root):
        log.warning("%s is damaged, changed or of an older version: it is drawn anew.", root)
    with kept(root), draft(root) as new:
        new.mkdir()
        manifest = {**wanted, **write(new)}
        names = _names(new)
        manifest["files"] = _digest(names, hashes(new, names))
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _publish(new, root, wanted)
    return root
