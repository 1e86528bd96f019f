"""Linear layers that learn side by side, on which images, and what they score after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from sslbench.benchmark import Context
from sslbench.benchmarks.topk import count_hits, ranked
from sslbench.data.dataset import BrokenLog, ImageDataset
from sslbench.data.transform import EvalTransform
from sslbench.evaluation.features import batches

CPU = torch.device("cpu")
MOST = 2**32  # bytes of features that are kept in memory for the next epoch
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
    def hits(self, features: Sequence[Tensor], y: Tensor) -> Tensor:
        """int64 (layers, 2): top-1 and top-5 hits; a layer that has diverged has none."""
        logits = [layer(x) for layer, x in zip(self.layers, features, strict=True)]
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
    of the images of `dataset` that count, None: of all. kept: features and labels of these images,
    batch by batch, on the CPU: neither their crops nor the backbone change from epoch to epoch.
    """

    classifiers: Classifiers
    ignored: Tensor | None
    dataset: ImageDataset
    indices: Sequence[int] | None = None
    hits: list[Tensor] = field(default_factory=list)
    evaluated: int = 0
    kept: list[tuple[list[Tensor], Tensor]] = field(default_factory=list)

    def step(self, features: Sequence[Tensor], y: Tensor, index: Tensor, decay: float) -> None:
        """One step on the images at `index`; none where all of them are ignored."""
        if self.ignored is not None:
            y = y.masked_fill(torch.isin(index, self.ignored), IGNORED)
        if (y != IGNORED).any():
            self.classifiers.step(features, y.to(features[0].device), decay)

    def evaluate(self, features: Features, context: Context) -> None:
        """Add the hits after an epoch, int64 (layers, 2), and count the images that could be read.

        Too many broken ones are a UserError.
        """
        hits, self.evaluated = torch.zeros(len(self.classifiers.layers), 2, dtype=torch.int64), 0
        for read, y in self.kept or self._read(features, context):
            hits += self.classifiers.hits(copied(read, context.device), y.to(context.device))
            self.evaluated += len(y)
        self.hits.append(hits)

    def _read(self, features: Features, context: Context) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Features and labels of the centre crops, which are kept where MOST bytes suffice."""
        dataset = self.dataset
        transform = EvalTransform.of(context.model, dataset)
        assert dataset.labels is not None, "splits have labels"
        labels, broken, seen = torch.from_numpy(dataset.labels), BrokenLog(dataset), 0
        images = len(dataset if self.indices is None else self.indices)
        for pixels, index, bad in batches(dataset, transform, self.indices):
            seen += len(index) + len(bad)
            broken.record(index, bad, complete=seen == len(dataset))
            if index:
                pixels = pixels.to(context.device, non_blocking=True)
                read, y = copied(features(transform.normalise(pixels)), CPU), labels[index]
                if bytes_each(read) * images <= MOST:
                    self.kept.append((read, y))
                yield read, y

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


def copied(features: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copies of `features` on `device`; layers that read the same tensor still do."""
    there = {id(x): x.to(device, copy=True) for x in features}
    return [there[id(x)] for x in features]


def bytes_each(features: Sequence[Tensor]) -> int:
    """Bytes of one image's features; a tensor that several layers read counts once."""
    return sum(x[0].nbytes for x in {id(x): x for x in features}.values())
