"""What a file of `convert --to timm` says of a fine-tuned model beside its tensors.

The tensors alone do not tell how images are prepared nor which token the classifier reads. Both
stand in the metadata that a state dict of torch carries anyway, which `load_state_dict` ignores.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sslbench.backbones.config import TRANSFORMERS
from sslbench.checkpoints.folders import INTERPOLATIONS, Settings
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.checkpoints.pickles import number
from sslbench.checkpoints.sources import sound_statistics
from sslbench.checkpoints.tuned import READS
from sslbench.errors import UserError

METADATA, KEY = "_metadata", "sslbench"


def with_note(tensors: Mapping[str, Tensor], model: LoadedModel) -> OrderedDict[str, Tensor]:
    """A state dict of `tensors` that says how `model` and its classifier are evaluated."""
    config: Any = model.backbone.config
    note = {
        "reads": model.reads,
        "interpolation": model.interpolation,
        "crop_ratio": model.crop_ratio,
        "mean": list(model.mean),
        "std": list(model.std),
        "norm_eps": config.norm_eps,
        "resampling": config.resampling,
    }
    state = OrderedDict(tensors)
    setattr(state, METADATA, OrderedDict({"": {"version": 1, KEY: note}}))
    return state


def read_note(container: Mapping[str, Any], path: Path) -> Settings | None:
    """What `with_note` wrote into a file; None where it wrote nothing; UserError if damaged."""
    metadata = getattr(container, METADATA, None)
    root = metadata.get("") if isinstance(metadata, Mapping) else None
    note = root.get(KEY) if isinstance(root, Mapping) else None
    if note is None:
        return None
    entries = note if isinstance(note, Mapping) else {}
    if wrong := [name for name, is_sound in SOUND.items() if not is_sound(entries.get(name))]:
        raise UserError(
            f"{path} is damaged: it says {wrong[0]} {entries.get(wrong[0])!r}, which no model has; "
            "convert its source again."
        )
    return Settings(
        known={name: note[name] for name in ("norm_eps", "resampling")},
        mean=tuple(note["mean"]),
        std=tuple(note["std"]),
        reads=note["reads"],
        interpolation=note["interpolation"],
        crop_ratio=note["crop_ratio"],
    )


def _is_share(value: Any) -> bool:
    plain = number(value)
    return plain is not None and 0 < plain <= 1


def _are_statistics(name: str, values: Any) -> bool:
    plain = isinstance(values, list) and all(number(value) is not None for value in values)
    return plain and sound_statistics(name, tuple(values))


# entry of a note -> whether a value is possible
SOUND: Mapping[str, Callable[[Any], bool]] = {
    "reads": READS.__contains__,
    "interpolation": INTERPOLATIONS.__contains__,
    "crop_ratio": lambda value: value is None or _is_share(value),
    "mean": partial(_are_statistics, "mean"),
    "std": partial(_are_statistics, "std"),
    "norm_eps": _is_share,
    "resampling": ("papers", TRANSFORMERS).__contains__,
}
