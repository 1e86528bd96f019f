"""How a generated dataset gets onto the disk: all at once, with a manifest that says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.storage import draft


def identity(dataset: str, version: str, config: Any) -> dict[str, Any]:
    """The part of the manifest that is known before anything is drawn; `config`: a dataclass."""
    return {"dataset": dataset, "version": version, "config": asdict(config)}


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest under `root`, or None where there is none."""
    try:
        return json.loads((root / "manifest.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise UserError(f"{root}/manifest.json is damaged; remove {root} and run again.") from None


def is_complete(root: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether `root` already holds the dataset of this identity; anything else is an error."""
    manifest = read_manifest(root)
    if manifest is None:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UserError(
                f"{root} is not a `{wanted['dataset']}` dataset; remove it or name another folder."
            )
        return False
    for key, value in wanted.items():
        if manifest.get(key) != value:
            raise UserError(
                f"{root} holds a dataset of another {key}; remove {root} and run again."
            )
    return True


def _publish(new: Path, root: Path, wanted: Mapping[str, Any]) -> None:
    """Rename `new`; where another process was faster, its copy stands."""
    try:
        new.rename(root)
    except OSError:
        if not is_complete(root, wanted):
            raise


def publish(
    root: Path, wanted: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any]]
) -> Path:
    """Have `write` fill a folder that then becomes `root`; return `root`, absolute.

    `write` gets a draft folder beside `root` and returns what the manifest says beyond `wanted`,
    the identity. Files appear under `root` all at once, by renaming the draft. A dataset of this
    identity already at `root` is left as it is; anything else there raises UserError.
    """
    root = Path(root).absolute()
    if is_complete(root, wanted):
        return root
    with draft(root) as new:
        new.mkdir()
        manifest = {**wanted, **write(new)}
        (new / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        _publish(new, root, wanted)
    return root
