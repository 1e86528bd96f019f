"""Writes generated datasets to disk atomically, with a manifest that identifies them.

The manifest also holds a hash of all files, so that damaged files are noticed and generated again.
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
from sslbench.storage.home import writing
from sslbench.system.printing import printable

MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


def identity(dataset: str, version: str, config: Any) -> dict[str, Any]:
    """Return the part of the manifest that identifies a dataset; `config`: a dataclass."""
    return {"dataset": dataset, "version": version, "config": asdict(config)}


def read_manifest(root: Path) -> dict[str, Any] | None:
    """Return the manifest under `root`, or None if it is missing or cannot be read."""
    try:
        manifest = parse_json(read_small(root / MANIFEST))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_complete(root: Path, expected: Mapping[str, Any]) -> bool:
    """Return whether `root` holds the dataset of this identity with every file unchanged.

    Raises UserError if it holds a dataset of another identity.
    """
    if _is_free(root):
        return False
    manifest = read_manifest(root) or {}
    for key, value in expected.items():
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


def _move(new: Path, root: Path, expected: Mapping[str, Any]) -> None:
    """Rename `new` to `root`; if `root` exists and is not complete, repair it."""
    try:
        new.rename(root)
    except OSError:
        if not is_complete(root, expected):
            _repair(new, root, expected["dataset"])


def _repair(new: Path, root: Path, dataset: str) -> None:
    """Replace every file of `root` that differs in `new`, one by one.

    So other processes that read or repair always find complete files. Raises UserError if `root`
    holds files that are not part of the dataset.
    """
    names = _names(new)
    extra = sorted(set(_names(root)) - set(names)) if root.is_dir() else [root.name]
    if extra:
        raise UserError(
            f"{root} is not a `{dataset}` dataset, because it holds {printable(extra[0])}; remove "
            "it or name another folder."
        )
    for name, old_hash, new_hash in zip(
        names, hashes(root, names), hashes(new, names), strict=True
    ):
        if old_hash != new_hash:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(root / name)
    (new / MANIFEST).replace(root / MANIFEST)


def publish(
    root: Path, expected: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any]]
) -> Path:
    """Let `write` fill a folder, then rename it to `root`; return `root`, absolute.

    expected: the identity; write: fills a draft folder beside `root` and returns further entries of
    the manifest. A dataset of this identity already at `root` is kept, and its changed files are
    replaced; anything else there raises UserError.
    """
    root = Path(root).absolute()
    if is_complete(root, expected):
        return root
    if not _is_free(root):
        log.warning("%s is damaged, changed or of an older version: it is generated again.", root)
    with writing(root), draft(root) as new:
        new.mkdir()
        manifest = {**expected, **write(new)}
        names = _names(new)
        manifest["files"] = _digest(names, hashes(new, names))
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _move(new, root, expected)
    return root
