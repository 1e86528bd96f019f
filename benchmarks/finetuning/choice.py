"""Which configs of `configs/finetune` fine-tune a model on a dataset, where the user names none."""

from __future__ import annotations

from sslbench.benchmark import Splits
from sslbench.checkpoints.floors import RANDOM
from sslbench.checkpoints.load import LoadedModel

EMBEDDED = "shapes"
SCRATCH = "scratch"  # fresh weights are trained by a recipe of their own, too


def configs_for(model: LoadedModel, data: Splits, share: float) -> list[str]:
    """Names of configs; the classifier reads what the model's authors read.

    share: of the labels.
    """
    place = EMBEDDED if data.source == EMBEDDED else "folder"
    token = "mean" if "mean" in model.poolings and model.card.method != RANDOM else "cls"
    if share < 1:
        return [f"{place}_few_{token}"]
    fresh = [f"{place}_{SCRATCH}"] if model.card.method == RANDOM else []
    return [f"{place}_{token}", *fresh]


def is_scratch(config: str) -> bool:
    """Whether a config trains from scratch."""
    return config.rpartition("_")[2] == SCRATCH
