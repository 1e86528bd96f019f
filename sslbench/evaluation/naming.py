"""Keeps one description per set of weights: that of the newest command.

Records are identified by weights, protocol and data. What a card states besides the weights
(method, data, epochs, the user's name) can be changed, e.g. by `?as=` or NAME=PATH, without any
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

# fields of a card that tables show or group rows by and that do not follow from the weights
DESCRIPTION = (
    "method", "recipe", "pretrain_data", "epochs", "effective_epochs", "seed", "identified",
    "label",
)  # fmt: skip


def one_card(models: Sequence[LoadedModel], watcher: Watcher) -> list[LoadedModel]:
    """Return `models`, with the card of the first one for all that have equal weights and inputs.

    They share their records and hence one row; `watcher` is informed if their descriptions differ.
    Each gets the poolings of all of them.
    """
    groups: dict[Any, list[LoadedModel]] = {}
    for model in models:
        groups.setdefault(_identity(model), []).append(model)
    result = []
    for model in models:
        first, *others = groups[_identity(model)]
        poolings = dict.fromkeys(p for m in (first, *others) for p in m.poolings)
        if model is not first and description(model.card) != description(first.card):
            watcher.say(
                f"{_name(model.card)} and {_name(first.card)} are the same weights: they are "
                f"evaluated once, as {_name(first.card)}."
            )
        result.append(replace(model, card=first.card, poolings=tuple(poolings)))
    return result


def redescribed(records: Iterable[Result], models: Iterable[LoadedModel]) -> list[Result]:
    """Return those of `records` whose model is now described differently, with its new card."""
    cards = {(m.card.sha256, _inputs(m.mean, m.std)): m.card for m in models}
    result = []
    for r in records:
        inputs = _inputs(r.protocol.get("mean"), r.protocol.get("std"))
        card = cards.get((r.model.sha256, inputs))
        if card is not None and description(card) != description(r.model):
            result.append(replace(r, model=card))
    return result


def description(card: ModelCard) -> tuple[Any, ...]:
    """Return what a card states that does not follow from the weights."""
    return tuple(getattr(card, name) for name in DESCRIPTION)


def _identity(model: LoadedModel) -> tuple[Any, ...]:
    """Return what identifies a model in every protocol."""
    config = repr(getattr(model.backbone, "config", None))
    return model.card.sha256, _inputs(model.mean, model.std), model.image_size, config


def _inputs(mean: Any, std: Any) -> str:
    return json.dumps([mean, std])


def _name(card: ModelCard) -> str:
    return card.label or card.source or card.method
