"""Linear layers trained as in the papers: on augmented crops, with the frozen backbone in the loop.

Every epoch shows each training image once, in a new random resized crop; after it the layers are
evaluated on centre crops. Source: `dino/eval_linear.py`, `ibot/evaluation/eval_linear_multi.py`,
`beit/run_linear_eval.py`, which share this loop. What is random about an image is a function of the
seed, the epoch and the image, so a run that is cut off resumes with its next epoch as if nothing
had happened.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import skip_init
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode

from sslbench.benchmark import Benchmark, Context, Splits
from sslbench.benchmarks.augmented import Online as Online
from sslbench.benchmarks.linear import LEAST_STEPS
from sslbench.benchmarks.topk import count_hits, hit_results, ranked
from sslbench.data import augment
from sslbench.data.dataset import BrokenLog, ImageDataset
from sslbench.data.loader import ViewDataset, collate, epoch_order
from sslbench.data.rng import fitting
from sslbench.data.transform import EvalTransform
from sslbench.evaluation.features import batches, workers_for
from sslbench.method import Sample
from sslbench.result import Result
from sslbench.storage.checkpoint import load_state, save_state
from sslbench.storage.files import remove
from sslbench.storage.layout import PREVIOUS, has_state

log = logging.getLogger(__name__)
Features = Callable[[Tensor], list[Tensor]]  # images (B, 3, H, W) -> (B, D_i) for every layer


@dataclass(frozen=True)
class Crop:
    """Crop "image" (1, 3, size, size): torchvision's defaults, hence bilinear, and a flip."""

    size: int
    online: Online

    def __call__(self, image: Image.Image, rng: np.random.Generator, epoch: int) -> Sample:
        box = augment.random_box(image, self.online.scale, rng)
        view = augment.crop(image, box, self.size, InterpolationMode(self.online.interpolation))
        pixels = augment.to_array(augment.flip(view, self.online.flip, rng))
        return Sample({"image": np.ascontiguousarray(pixels[None])})


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

    def step(self, images: Tensor, y: Tensor, decay: float) -> None:
        """One optimiser step at `decay` times the peak learning rates."""
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * decay
        pairs = zip(self.layers, self.features(images), strict=True)
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


def train(
    features: Features,
    make_optimiser: Callable[[nn.ModuleList, float], Optimizer],
    online: Online,
    data: Splits,
    context: Context,
) -> History:
    """Trains one layer for each of `features` and evaluates all of them after every epoch.

    make_optimiser(layers, batch / 256) has the peak learning rates. The state after each epoch is
    kept in context.work_dir; after the last one only the history is.
    """
    batch = min(online.batch, max(1, len(data.train) // LEAST_STEPS))
    context.model.backbone.to(context.device).eval()
    layers = _fresh_layers(features, len(data.classes), online.init_std, context)
    classifiers = Classifiers(layers, make_optimiser(layers, batch / 256), features)
    history, evaluated, owner = [], 0, {"job": context.work_dir.name}
    if has_state(context.work_dir):
        state = load_state(context.work_dir, owner, ("history", "judged"))
        history, evaluated = list(state["history"]), state["judged"]
        if len(history) < online.epochs:
            classifiers.restore(state)
    for epoch in range(len(history), online.epochs):
        _train_epoch(classifiers, online, data, context, epoch, batch)
        hits, evaluated = _evaluate(classifiers, data, context)
        history.append(hits)
        more = classifiers.state() if epoch + 1 < online.epochs else {}
        state = {"history": torch.stack(history), "judged": evaluated, **more}
        save_state(context.work_dir, state, owner)
    remove(context.work_dir / PREVIOUS)
    return History(torch.stack(history), evaluated)


def _fresh_layers(features: Features, classes: int, std: float, context: Context) -> nn.ModuleList:
    size, device = context.model.image_size, context.device
    widths = [x.shape[1] for x in features(torch.zeros(1, 3, size, size, device=device))]
    rng = torch.Generator().manual_seed(fitting(context.seed))
    layers = nn.ModuleList(skip_init(nn.Linear, width, classes) for width in widths)
    for layer in layers:
        nn.init.normal_(layer.get_parameter("weight"), std=std, generator=rng)
        nn.init.zeros_(layer.get_parameter("bias"))
    return layers.to(device)


def _train_epoch(
    classifiers: Classifiers, online: Online, data: Splits, context: Context, epoch: int, batch: int
) -> None:
    decay = (1 + math.cos(math.pi * epoch / online.epochs)) / 2
    transform = EvalTransform.of(context.model, data.train)
    assert data.train.labels is not None, "splits have labels"
    labels = torch.from_numpy(data.train.labels)
    steps = math.ceil(len(data.train) / batch)
    view = Crop(context.model.image_size, online)
    crops = _crops(data.train, view, context.seed, epoch, batch)
    for number, (pixels, index) in enumerate(crops, start=epoch * steps + 1):
        images = transform.normalise(pixels.to(context.device, non_blocking=True))
        classifiers.step(images, labels[index].to(context.device), decay)
        context.progress(number, online.epochs * steps)


def _crops(
    dataset: ImageDataset, view: Crop, seed: int, epoch: int, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 (B, 3, size, size) and the images' positions; the last batch may be smaller.

    A broken image is replaced by another one and named; too many of them are a UserError.
    """
    dataset.load()
    order = epoch_order(seed, epoch, len(dataset))
    starts = range(0, len(order), batch)
    loader = DataLoader(
        ViewDataset(dataset, view, seed),
        batch_sampler=([(epoch, int(i), 0) for i in order[s : s + batch]] for s in starts),
        collate_fn=collate,
        num_workers=workers_for(dataset),
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader must not advance torch's global one
    )
    broken = BrokenLog(dataset)
    for start, loaded in zip(starts, loader, strict=True):
        last = start + batch >= len(order)
        for name in broken.record(loaded.index.tolist(), loaded.broken, complete=last):
            log.warning("another image stands in for a broken one: %s", name)
        if not loaded.complete:
            broken.fail()
        yield loaded.crops["image"][0], loaded.index


def _evaluate(classifiers: Classifiers, data: Splits, context: Context) -> tuple[Tensor, int]:
    """Hits, int64 (layers, 2), and how many images of the evaluated split could be read.

    Too many broken ones are a UserError.
    """
    transform = EvalTransform.of(context.model, data.test)
    assert data.test.labels is not None, "splits have labels"
    labels = torch.from_numpy(data.test.labels)
    hits, evaluated = torch.zeros(len(classifiers.layers), 2, dtype=torch.int64), 0
    broken, seen = BrokenLog(data.test), 0
    for pixels, index, bad in batches(data.test, transform):
        seen += len(index) + len(bad)
        broken.record(index, bad, complete=seen == len(data.test))
        if index:
            images = transform.normalise(pixels.to(context.device, non_blocking=True))
            hits += classifiers.hits(images, labels[index].to(context.device))
            evaluated += len(index)
    return hits, evaluated


def best_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    history: History,
    layers: Mapping[str, Sequence[float]],
) -> list[Result]:
    """The accuracies of the best layer at its best epoch, and which epoch and layer that is.

    layers: metric -> its value for every layer, e.g. the learning rate.
    """
    epoch, layer = history.best()
    top1, top5 = history.hits[epoch, layer].tolist()
    found = {"epoch": epoch + 1, **{metric: values[layer] for metric, values in layers.items()}}
    return [
        *hit_results(benchmark, data, context, setting, (top1, top5), history.n),
        *(context.result(benchmark, data, setting, k, v, history.n) for k, v in found.items()),
    ]
