"""Linear classifiers that were released with a backbone, and what records call classifiers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sslbench.checkpoints.adopt import unsound
from sslbench.checkpoints.networks import has_network
from sslbench.checkpoints.pickles import read_pickle
from sslbench.errors import UserError
from sslbench.storage.home import expanded

# settings of records, by where a classifier is from
RELEASED = "released classifier"  # by the authors of a backbone, for frozen features
FINE_TUNED = "released fine-tuned classifier"
OF_RUN = "classifier of the run"  # one of ours
SETTINGS = (RELEASED, FINE_TUNED, OF_RUN)
KEY = re.compile(r"(?:(\d+)\.)?(?:module\.)?linear\.(weight|bias)")


def read_classifier(source: str | Path) -> nn.Linear | None:
    """The linear layer in a file that DINO's or iBOT's linear evaluation saved.

    `eval_linear.py` of both saves {"state_dict": {"module.linear.weight": (K, D), ...}}; iBOT's
    `eval_linear_multi.py` saves one layer per setting, "36.module.linear.weight", and the number of
    the best one as "best_acc_hidx". None for a file that holds a backbone, which may have a
    classifier of its own (see `tuned`). Raises UserError for any other file.
    """
    path = expanded(source)
    if not path.is_file():
        raise UserError(f"the classifier {source} does not exist; give the file of its weights.")
    content: Any = read_pickle(path)
    content = content if isinstance(content, dict) else {}
    layers = _layers(content.get("state_dict", content))
    best = str(content.get("best_acc_hidx", "")) if len(layers) > 1 else next(iter(layers), "")
    if not layers and has_network(content):
        return None
    weight, bias = (layers.get(best, {}).get(name) for name in ("weight", "bias"))
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[:1] != bias.shape:
        raise UserError(
            f"{path} holds no linear classifier: neither `module.linear.weight` and `.bias` nor "
            "numbered ones with `best_acc_hidx`; give the file that was released for linear "
            "evaluation."
        )
    if reason := unsound(weight) or unsound(bias):
        raise UserError(f"{path} is unfit: its linear layer {reason}; get the file anew.")
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False).eval()


def _layers(tensors: Any) -> dict[str, dict[str, Tensor]]:
    """Number ("" where there is one layer) -> "weight" and "bias"."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items() if isinstance(tensors, dict) else ():
        match = KEY.fullmatch(str(key))
        if match and isinstance(tensor, Tensor):
            layers.setdefault(match.group(1) or "", {})[match.group(2)] = tensor
    return layers
