"""Which configs of `configs/finetune` fine-tune a model on a dataset, where the user names none."""

from __future__ import annotations

from sslbench.benchmark import Splits
from sslbench.checkpoints.floors import RANDOM
from sslbench.checkpoints.load import LoadedModel

EMBEDDED = "shapes"
SCRATCH = "scratch"  # fresh weights are trained by a recipe of their own, too


def configs_for(model: LoadedModel, data: Splits) -> list[str]:
    """Names of configs: the head is that of the model's method, fresh weights take every head."""
    place = EMBEDDED if data.source == EMBEDDED else "folder"
    if model.card.method == RANDOM:
        return [f"{place}_cls", f"{place}_{SCRATCH}"]
    head = "mean" if "mean" in model.poolings else "cls"
    return [f"{place}_{head}"]
