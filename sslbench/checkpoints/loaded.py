"""What loading gives: a backbone ready to be judged, and an account of the file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from sslbench.backbones.base import Backbone
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from sslbench.result import ModelCard


@dataclass(frozen=True)
class Report:
    """Every key of a file accounted for: loaded, or left out with the reason why.

    notes: what was assumed and what the file lacks without harm.
    """

    loaded: tuple[str, ...]
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # reason -> keys
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """It in words, one line each."""
        said = [f"loaded: {len(self.loaded)} tensors"]
        for reason, keys in self.dropped.items():
            said.append(f"left out, {reason}: {shortened(keys)}")
        return said + [f"note: {note}" for note in self.notes]


@dataclass(frozen=True)
class LoadedModel:
    """A backbone ready to be judged, and everything that must travel with its weights.

    source: what `load_backbone` was given, absolute where it is a path; it stays on this machine.
    classifier: a linear layer released with these weights, where one was given. report: of weights
    that others made.
    """

    backbone: Backbone
    card: ModelCard
    poolings: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    head: nn.Module | None = None
    source: str = ""
    classifier: nn.Linear | None = None
    report: Report | None = None


def shortened(keys: tuple[str, ...] | list[str], shown: int = 3) -> str:
    """The first of `keys` and how many more there are."""
    more = len(keys) - shown
    return ", ".join(keys[:shown]) + (f" and {more} more" if more > 0 else "")
