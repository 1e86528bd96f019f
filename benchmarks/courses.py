"""Linear layers that learn side by side, on which images, and what they score after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from sslbench.benchmarks.topk import count_hits, ranked
from sslbench.data.dataset import ImageDataset

IGNORED = -100  # label of an image that teaches nothing, see torch's cross_entropy
Features = Callable[[Tensor], list[Tensor]]  # images (B, 3, H, W) -> (B, D_i) for every layer


@dataclass(frozen=True)
class History:
    """hits: int64 (epochs, layers, 2), top-1 and top-5 of the n evaluated images."""

    hits: Tensor
    n: int

    def best(self) -> tuple[int, int]:
        """Epoch and layer with the most top-1 hits; the earliest epoch, then layer wins a tie."""
        first = int(self.hits[..., 0].numpy().argmax())
        return divmod(first, self.hits.shape[1])


@dataclass
class Classifiers:
    """Linear layers that learn side by side, each from its own features; they share nothing else.

    The gradient of their summed cross-entropies trains each as if it were alone.
    """

    layers: nn.ModuleList
    optimiser: Optimizer
    features: Features

    def __post_init__(self) -> None:
        self.rates = [group["lr"] for group in self.optimiser.param_groups]

    def step(self, features: Sequence[Tensor], y: Tensor, decay: float) -> None:
        """One optimiser step at `decay` times the peak learning rates.

        features: (B, D_i) for every layer; images with the label IGNORED teach nothing.
        """
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * decay
        pairs = zip(self.layers, features, strict=True)
        self.optimiser.zero_grad()
        torch.stack([cross_entropy(layer(x), y) for layer, x in pairs]).sum().backward()
        self.optimiser.step()

    @torch.no_grad()
    def hits(self, images: Tensor, y: Tensor) -> Tensor:
        """int64 (layers, 2): top-1 and top-5 hits; a layer that has diverged has none."""
        logits = [layer(x) for layer, x in zip(self.layers, self.features(images), strict=True)]
        known = [torch.where(x.isfinite().all(1), y, -1) for x in logits]
        return torch.tensor([count_hits(ranked(x), k) for x, k in zip(logits, known, strict=True)])

    def state(self) -> dict:
        return {"layers": self.layers.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict) -> None:
        self.layers.load_state_dict(state["layers"])
        self.optimiser.load_state_dict(state["optimiser"])


@dataclass
class Course:
    """Layers while they learn, and what they score on `dataset` after every epoch.

    ignored: positions of the training images that they do not learn from, None: of none; indices:
    of the images of `dataset` that count, None: of all.
    """

    classifiers: Classifiers
    ignored: Tensor | None
    dataset: ImageDataset
    indices: Sequence[int] | None = None
    hits: list[Tensor] = field(default_factory=list)
    evaluated: int = 0

    def step(self, features: Sequence[Tensor], y: Tensor, index: Tensor, decay: float) -> None:
        """One step on the images at `index`; none where all of them are ignored."""
        if self.ignored is not None:
            y = y.masked_fill(torch.isin(index, self.ignored), IGNORED)
        if (y != IGNORED).any():
            self.classifiers.step(features, y.to(features[0].device), decay)

    def state(self, ended: bool) -> dict:
        """What a resumed run needs: of one that has ended the history alone."""
        more = {} if ended else self.classifiers.state()
        return {"history": torch.stack(self.hits), "judged": self.evaluated, **more}

    def restore(self, state: dict, epochs: int) -> None:
        self.hits, self.evaluated = list(state["history"]), state["judged"]
        if len(self.hits) < epochs:
            self.classifiers.restore(state)

    def history(self) -> History:
        return History(torch.stack(self.hits), self.evaluated)
