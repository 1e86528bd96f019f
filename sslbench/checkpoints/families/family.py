"""What a file of this folder says of a project's checkpoints, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD

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


@dataclass(frozen=True)
class Translation:
    """A dict of another library under official names.

    origins: official name -> the keys in the file. normed: the backbone itself ends in a norm.
    usual: settings of its `BackboneConfig` that shapes do not tell, by the library's defaults.
    """

    origins: Origins
    normed: bool
    usual: Mapping[str, Any]


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
    below "head.". drops: pattern of a name -> why tensors of that name are left out. classifier:
    pattern of a fine-tuned classifier's name, with "weight" or "bias" in its group -> which layer
    of `tuned.Classifier` that is; a backbone is read without them. refuses:
    pattern of a name -> what a network with it is and why it cannot be read, with the name for {}.
    translate: for a dict with one of its embeddings, from name without training wrappers -> key in
    the file, and what the file is called. trainings: methods that its checkpoints tell.
    imagenet_switch: the argument that says whether
    inputs were normalised by the statistics of ImageNet (True) or to [-1, 1] (False).
    """

    name: str
    embeddings: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    heads: tuple[str, ...] = ()
    drops: Mapping[str, str] = field(default_factory=dict)
    classifier: Mapping[str, str] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    translate: Callable[[Mapping[str, str], str], Translation] | None = None
    trainings: tuple[Training, ...] = ()
    imagenet_switch: str = ""
