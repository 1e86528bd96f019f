"""What a file of this folder says of a project's checkpoints, and the use of tables of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from torch import Tensor

from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD

T = TypeVar("T")  # a tensor, or what stands for it

# prefix of our names -> prefix of theirs. `{}` stands for a number. Of several matching prefixes
# the first counts, so the general ones come last.
Names = Mapping[str, str]
Tensors = dict[str, Tensor]
Origins = dict[str, tuple[str, ...]]  # a name -> the keys in the file, joined in this order

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of inputs in [0, 1]

HALF = (0.5, 0.5, 0.5)
HALF_RANGE: Statistics = (HALF, HALF)  # brings images in [0, 1] to [-1, 1]
IMAGENET: Statistics = (IMAGENET_MEAN, IMAGENET_STD)

COMPUTED = "computed from the sizes"
PRETRAINING = "for pretraining only"
CLASSIFIER = "a fine-tuned classifier"


@dataclass(frozen=True)
class Layout:
    """How a family names the tensors of one kind of backbone.

    marks: patterns; a backbone is in this layout if each matches one of its names. unless: a
    pattern that must match none. names: what differs from our names. arrange: brings tensors under
    our names into our shapes and order of elements. norm_eps: of its LayerNorms, where that is not
    the papers' 1e-6. half_range: its inputs were in [-1, 1] where nothing else is known.
    """

    marks: tuple[str, ...]
    unless: str = ""
    names: Names = field(default_factory=dict)
    arrange: Callable[[Tensors], Tensors] | None = None
    norm_eps: float | None = None
    half_range: bool = False

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a backbone with these names, below its own root, is in this layout."""
        names = list(names)
        excluded = bool(self.unless) and has_match(self.unless, names)
        return not excluded and all(has_match(mark, names) for mark in self.marks)


@dataclass(frozen=True)
class Training:
    """How a family's checkpoints tell which method trained them.

    method: as model cards name it. arguments: those that its script alone saves, as `name` or
    `name=start of its value`; one of them suffices. names: patterns; a pretraining checkpoint has
    a tensor for each. multi_crop: its script saves the number of epochs that are done, not the
    index of the last one, and its arguments give the crops per image.
    """

    method: str
    arguments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    multi_crop: bool = False


@dataclass(frozen=True)
class Family:
    """Everything that is known of one project's checkpoints.

    embeddings: patterns of the weight that gives a backbone away, its patch embedding. layouts: of
    its backbones; none where its names are ours. heads: patterns of a projection head's names
    below "head.". drops: pattern of a name -> why tensors of that name are left out. refuses:
    pattern of a name -> what a network with it is and why it cannot be read, with the name for {}.
    trainings: methods that its checkpoints tell. imagenet_switch: the argument that says whether
    inputs were normalised by the statistics of ImageNet (True) or to [-1, 1] (False).
    """

    name: str
    embeddings: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    heads: tuple[str, ...] = ()
    drops: Mapping[str, str] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    trainings: tuple[Training, ...] = ()
    imagenet_switch: str = ""


def has_match(pattern: str, names: Iterable[str]) -> bool:
    """Whether a name matches as a whole."""
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)


def to_theirs(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors`, under our names, under those of a family."""
    return _renamed(tensors, tuple(names.items()))


def to_ours(tensors: Mapping[str, T], names: Names) -> dict[str, T]:
    """`tensors`, under a family's names, under ours."""
    return _renamed(tensors, tuple((theirs, ours) for ours, theirs in names.items()))


def _renamed(tensors: Mapping[str, T], prefixes: tuple[tuple[str, str], ...]) -> dict[str, T]:
    rules = _rules(prefixes)
    return {_rename(key, rules): tensor for key, tensor in tensors.items()}


@lru_cache
def _rules(prefixes: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(re.escape(old).replace(r"\{\}", r"(\d+)")), _template(new))
        for old, new in prefixes
    )


def _template(prefix: str) -> str:
    """ "layers.{}.x" as a replacement with numbered groups."""
    parts = prefix.split("{}")
    return parts[0] + "".join(rf"\{n}{part}" for n, part in enumerate(parts[1:], start=1))


def _rename(key: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in rules:
        if match := pattern.match(key):
            return match.expand(template) + key[match.end() :]
    return key
