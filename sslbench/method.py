"""The Method contract: what a pretraining method is, and what the engine passes to it.

A method is one `nn.Module` in one file. It declares its settings (`Config`), the views it needs
(`views`), its loss, and what happens after an optimiser step (EMA, centres). It opens no file,
parses no argument and calls no optimiser. The engine finds it through the entry-point group
`sslbench.methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.backbones.config import UNNORMED as UNNORMED
from sslbench.backbones.resize import fill as fill
from sslbench.system.device import aside as aside
from sslbench.system.device import chosen as chosen
from sslbench.system.device import sent

Order = Literal["blockwise", "interleaved"]


@dataclass(frozen=True)
class Progress:
    """The only notion of time a method has.

    step: optimiser steps done so far; total_steps: optimiser steps of the run; steps_per_epoch:
    optimiser steps of one pass over the data; logged: whether what the loss returns besides "loss"
    is read after this step, so that what only a log needs may be left out.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    logged: bool = True

    @property
    def epoch(self) -> int:
        """Full passes over the data done so far."""
        return self.step // self.steps_per_epoch


@dataclass(frozen=True)
class ViewBatch:
    """One batch of views.

    crops: name -> uint8 (V, B, 3, H, W); masks: name -> bool (V, B, h, w), True = masked;
    index: (B,) position of each image in the dataset; mean, std: per-channel statistics; labels:
    int64 (B,) class of each image, None if the dataset has none; places: see `masked`. The index
    and the places stay on the CPU.
    """

    crops: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    index: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Tensor | None = None
    places: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> ViewBatch:
        """A copy on `device`; overlaps with computing where the batch is pinned."""
        return ViewBatch(
            {k: sent(v, device) for k, v in self.crops.items()},
            {k: sent(v, device) for k, v in self.masks.items()},
            self.index,
            self.mean,
            self.std,
            None if self.labels is None else sent(self.labels, device),
            {k: self.masked(k) for k in self.masks},
        )

    def masked(self, name: str) -> Tensor:
        """Where the flat mask `name` is True, int64 (M,) in ascending order, on the CPU.

        `chosen` takes such places; a mask as an index would make the host wait for its device.
        """
        return self.places[name] if name in self.places else true_places(self.masks[name])

    def pixels(self, name: str) -> Tensor:
        """Crops `name` as float in [0, 1], (V, B, 3, H, W)."""
        return self.crops[name].float().div_(255)  # of a copy: crops are uint8

    def images(self, name: str) -> Tensor:
        """Crops `name` normalised by mean and std, float (V, B, 3, H, W)."""
        pixels = self.pixels(name)
        mean, std = (
            sent(torch.tensor(v), pixels.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        return pixels.sub_(mean).div_(std)  # in place: new memory costs more than the arithmetic


def true_places(mask: Tensor) -> Tensor:
    """Where a flat bool mask is True, int64 (M,) on the CPU."""
    return mask.flatten().nonzero()[:, 0].cpu()


@dataclass(frozen=True)
class Sample:
    """The views of one image: name -> uint8 (V, 3, H, W) and name -> bool (V, h, w).

    looks: name -> float32 (V, 12) where crops still need their flips and colours.
    """

    crops: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    looks: Mapping[str, np.ndarray] = field(default_factory=dict)


class Views(Protocol):
    """Turns one image into the views of a method; must be picklable and free of global state.

    Those with an attribute `takes_arrays` that is True are given the image as uint8 (H, W, 3), and
    of those with a method `deferred`, training on a GPU takes `deferred()`, whose samples have
    `looks`.
    """

    def __call__(self, image: Image.Image, rng: np.random.Generator, epoch: int) -> Sample: ...


@dataclass(frozen=True)
class Start:
    """Weights that a method starts from instead of fresh ones.

    backbone: of the evaluated network, fitted to the recipe's backbone; head: its projection head,
    if there is one; others: further parts that the source has, by the names of `PARTS`, and the
    layers of a "classifier".
    """

    backbone: Mapping[str, Tensor]
    head: nn.Module | None = None
    others: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


# of `Start.others`; the names are those of the submodules of a method that has them
PARTS = ("student.backbone", "student.head", "teacher.head", "centre", "patch_centre", "lm_head")


class Method(nn.Module):
    """Base class of pretraining methods; see the module docstring.

    name: as typed on the command line. Config: frozen dataclass of the settings, whose defaults are
    the paper's. poolings: the frozen features it is evaluated by ("cls", "mean"). order: how [CLS]
    and mean patch follow each other in the authors' linear classifiers (`FeatureSpec.order`).
    needs: name of a frozen module that it is given (e.g. "tokenizer") -> a sentence on how to get
    one.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    poolings: ClassVar[tuple[str, ...]] = ("cls",)
    order: ClassVar[Order] = "blockwise"
    needs: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, config: Any, make_backbone: Callable[..., Backbone], **needs: nn.Module
    ) -> None:
        """make_backbone(**overrides) builds a backbone as the recipe says, e.g. drop_path=0."""
        super().__init__()

    @classmethod
    def views(cls, config: Any, patch_size: int) -> Views:
        """The transform from one image to its views; patch_size: pixels of an output patch."""
        raise NotImplementedError

    @classmethod
    def needs_whole_batch(cls, config: Any) -> str:
        """What ties the images of a batch together, a setting as "key=value"; "" if nothing does.

        A step that, say, takes batch statistics cannot be accumulated from micro-batches. It can be
        shared among processes: the method computes such statistics over the batch of all of them.
        """
        return ""

    @classmethod
    def stays_together(cls, config: Any) -> tuple[int, str]:
        """Images that a micro-batch holds a multiple of, and the setting that wants it, if any."""
        return 1, ""

    @classmethod
    def effective_epochs(cls, config: Any, epochs: float) -> float:
        """`epochs` times the images seen per epoch in units of the first crop's area."""
        return epochs

    @classmethod
    def image_tokens(cls, config: Any, patch_size: int) -> int:
        """Patches of all views of one image that the trained backbone sees; 0 if unknown.

        patch_size: pixels of an output patch, as for `views`. Compute is measured by it.
        """
        return 0

    @classmethod
    def unreached(cls, config: Any, epochs: float) -> Iterable[str]:
        """Sentences, without full stop, on what `config` asks for but `epochs` do not reach."""
        return ()

    def loss(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        """ "loss", the scalar to minimise, and further scalars to log, detached, by name.

        The further ones are read of steps whose `progress.logged` is True; others may lack them.
        """
        raise NotImplementedError

    def forward(self, batch: ViewBatch, progress: Progress) -> dict[str, Tensor]:
        return self.loss(batch, progress)

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Parameters left untouched in this step; their gradients are dropped after clipping."""
        return ()

    def after_step(self, progress: Progress) -> None:
        """EMA and centres, once per optimiser step; `progress.step` is the step just done.

        A GPU is not asked whether the step is skipped, because a number was not finite: it is
        called there too, and the trainer puts back all buffers and all parameters without gradient.
        Only these may move here.
        """

    def backbone(self) -> nn.Module:
        """What is exported and evaluated."""
        raise NotImplementedError

    def start_from(self, start: Start) -> list[str]:
        """Loads weights to start from; sentences, without full stop, on what is kept and new.

        Here every backbone of the method gets those of the evaluated network, and all else stays
        fresh. Raises UserError for weights that do not fit.
        """
        backbones = (module for module in self.modules() if isinstance(module, Backbone))
        notes = [note for backbone in backbones for note in fill(backbone, start.backbone)]
        return list(dict.fromkeys(notes))

    @classmethod
    def settings_to_start(
        cls,
        image_size: int,
        patch_size: int,
        head: nn.Module | None,
        trained_with: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Settings ("views.size" -> 64) that a preset needs to start from weights.

        image_size, patch_size: of their backbone, in pixels, as for `views`; head: their projection
        head, None if there is none or it is made anew; trained_with: this method's settings that
        trained them, {} where another method did or nobody says.
        """
        return {}

    def head(self) -> nn.Module | None:
        """A (B, D) [CLS] -> (B, K) head whose arg-max is a cluster assignment, if there is one."""
        return None

    def trained_classifier(self) -> nn.Module | None:
        """What makes class scores (B, K) of features (B, D), if the method has trained it."""
        return None

    @classmethod
    def reads(cls, config: Any) -> str:
        """The pooling of the last block (`FeatureSpec.pool`) that it reads; "" without one."""
        return ""

    @classmethod
    def official_head(cls, tensors: Mapping[str, Tensor]) -> nn.Module | None:
        """`head()` with the weights of an official checkpoint's head, or of one `head()` exported.

        tensors: their names below "head."; None if the head cannot be built from them.
        """
        return None

    def health(self) -> Mapping[str, float]:
        """Logged key -> its value for a uniform output (ln K), by which collapse is named.

        A key ending in "entropy" near 0 means one prototype for all; any key that stays at its
        bound means that nothing is learnt.
        """
        return {}
