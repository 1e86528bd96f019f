"""What a file of `convert --to timm` says of a fine-tuned model beside its tensors.

The tensors alone do not tell how images are prepared nor which token the classifier reads. Both
stand in the metadata that a state dict of torch carries anyway, which `load_state_dict` ignores.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
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
RESAMPLINGS = ("papers", TRANSFORMERS)


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
    try:
        return _settings(note)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: it gives no possible {error} of its evaluation; convert its "
            "source again."
        ) from error


def _settings(note: Mapping[str, Any]) -> Settings:
    """A note as settings; an error named by the entry that is lacking or impossible."""
    ratio, eps = note["crop_ratio"], number(note["norm_eps"])
    sound = {
        "reads": note["reads"] in READS,
        "interpolation": note["interpolation"] in INTERPOLATIONS,
        "crop_ratio": ratio is None or 0 < (number(ratio) or 0) <= 1,
        "norm_eps": eps is not None and 0 < eps < 1,
        "resampling": note["resampling"] in RESAMPLINGS,
    }
    for name in ("mean", "std"):
        sound[name] = all(number(v) is not None for v in note[name])
        sound[name] = sound[name] and sound_statistics(name, tuple(note[name]))
    if wrong := [name for name, is_sound in sound.items() if not is_sound]:
        raise ValueError(wrong[0])
    return Settings(
        known={"norm_eps": eps, "resampling": note["resampling"]},
        mean=tuple(note["mean"]),
        std=tuple(note["std"]),
        reads=note["reads"],
        interpolation=note["interpolation"],
        crop_ratio=ratio,
    )
