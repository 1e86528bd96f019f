"""One account of one set of weights: their records say what the newest command says of them.

Records are found again by weights, protocol and data; what a card says beside the weights (method,
data, epochs, the user's name) may be said anew, e.g. by `?as=` or NAME=PATH, without any
computation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sslbench.checkpoints.load import LoadedModel
from sslbench.evaluation.watcher import Watcher
from sslbench.result import ModelCard, Result

# fields of a card that tables show or group rows by, and that the weights do not tell
TOLD = (
    "method", "recipe", "pretrain_data", "epochs", "effective_epochs", "seed", "identified",
    "label",
)  # fmt: skip


def one_card(models: Sequence[LoadedModel], watcher: Watcher) -> list[LoadedModel]:
    """`models`, of which those with equal weights and inputs have the first one's card.

    They share their records, hence have one row; where they were told apart, `watcher` is told.
    Each has the features that any of them is evaluated by.
    """
    same: dict[Any, list[LoadedModel]] = {}
    for model in models:
        same.setdefault(_read(model), []).append(model)
    found = []
    for model in models:
        first, *others = same[_read(model)]
        poolings = dict.fromkeys(p for m in (first, *others) for p in m.poolings)
        if model is not first and told(model.card) != told(first.card):
            watcher.say(
                f"{_called(model.card)} and {_called(first.card)} are the same weights: they are "
                f"evaluated once, as {_called(first.card)}."
            )
        found.append(replace(model, card=first.card, poolings=tuple(poolings)))
    return found


def told_anew(records: Iterable[Result], models: Iterable[LoadedModel]) -> list[Result]:
    """Those of `records` whose card says something else than their model's now, under that card."""
    cards = {(m.card.sha256, _inputs(m.mean, m.std)): m.card for m in models}
    found = []
    for r in records:
        shown = _inputs(r.protocol.get("mean"), r.protocol.get("std"))
        card = cards.get((r.model.sha256, shown))
        if card is not None and told(card) != told(r.model):
            found.append(replace(r, model=card))
    return found


def told(card: ModelCard) -> tuple[Any, ...]:
    """What a card says that its weights do not."""
    return tuple(getattr(card, name) for name in TOLD)


def _read(model: LoadedModel) -> tuple[Any, ...]:
    """What two models have in common that no protocol tells apart."""
    config = repr(getattr(model.backbone, "config", None))
    return model.card.sha256, _inputs(model.mean, model.std), model.image_size, config


def _inputs(mean: Any, std: Any) -> str:
    return json.dumps([mean, std])


def _called(card: ModelCard) -> str:
    return card.label or card.source or card.method
