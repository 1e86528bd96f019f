"""Linear layers trained as in the papers: on augmented crops, with the frozen backbone in the loop.

Every epoch shows each training image once, in a new random resized crop; after it the layers are
evaluated on centre crops. Source: `dino/eval_linear.py`, `ibot/evaluation/eval_linear_multi.py`,
`beit/run_linear_eval.py`, which share this loop. What is random about an image is a function of the
seed, the epoch and the image, so a run that is cut off resumes with its next epoch as if nothing
had happened. The backbone reads the centre crops once, see `courses`.

Beside the layers that learn from all images, equal ones learn without the held-out images and are
evaluated on these, to choose without the evaluated split (see `selection`). The backbone, which
takes most of the time, reads every crop once for both.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode

from sslbench.benchmark import Benchmark, Context, Splits
from sslbench.benchmarks.augmented import Online as Online
from sslbench.benchmarks.blanks import blanks
from sslbench.benchmarks.courses import Classifiers as Classifiers
from sslbench.benchmarks.courses import Course, Features
from sslbench.benchmarks.courses import History as History
from sslbench.benchmarks.linear import LEAST_STEPS
from sslbench.benchmarks.selection import CHOSEN, chosen_results, no_choice, unfit
from sslbench.benchmarks.topk import hit_results
from sslbench.data import augment
from sslbench.data.dataset import BrokenLog, ImageDataset
from sslbench.data.loader import ViewDataset, collate, epoch_order
from sslbench.data.rng import fitting
from sslbench.data.subsets import held_out
from sslbench.data.transform import EvalTransform
from sslbench.evaluation.features import workers_for
from sslbench.method import Sample
from sslbench.result import Result
from sslbench.storage.checkpoint import load_state, save_state
from sslbench.storage.files import remove
from sslbench.storage.layout import PREVIOUS, has_state

log = logging.getLogger(__name__)
HELD_OUT = "held_out"  # part of the state: the layers that learn without the held-out images


@dataclass(frozen=True)
class Crop:
    """Crop "image" (1, 3, size, size): torchvision's defaults, hence bilinear, and a flip."""

    size: int
    online: Online

    def __call__(self, image: Image.Image, rng: np.random.Generator, epoch: int) -> Sample:
        box = augment.random_box(image.size, self.online.scale, rng)
        view = augment.crop(image, box, self.size, InterpolationMode(self.online.interpolation))
        pixels = augment.to_array(augment.flip(view, self.online.flip, rng))
        return Sample({"image": np.ascontiguousarray(pixels[None])})


def train(
    features: Features,
    make_optimiser: Callable[[nn.ModuleList, float], Optimizer],
    online: Online,
    data: Splits,
    context: Context,
) -> list[History]:
    """Trains one layer for each of `features` and evaluates all of them after every epoch.

    Returns the history on the evaluated split and, where images can be held out, that of the layers
    which learned without them, on these. make_optimiser(layers, batch / 256) has the peak learning
    rates. The state after each epoch is kept in context.work_dir; after the last one only the
    histories are.
    """
    batch = min(online.batch, max(1, len(data.train) // LEAST_STEPS))
    context.model.backbone.to(context.device).eval()
    courses = _courses(features, make_optimiser, online, data, context, batch / 256)
    owner = {"job": context.work_dir.name}
    if has_state(context.work_dir):
        parts = ("history", "judged", *(HELD_OUT for _ in courses[1:]))
        state = load_state(context.work_dir, owner, parts)
        for course, part in zip(courses, (state, state.get(HELD_OUT)), strict=False):
            course.restore(part, online.epochs)
    for epoch in range(len(courses[0].hits), online.epochs):
        _train_epoch(courses, features, online, data, context, epoch, batch)
        for course in courses:
            course.evaluate(features, context)
        state, *more = (course.state(epoch + 1 == online.epochs) for course in courses)
        save_state(context.work_dir, {**state, **({HELD_OUT: more[0]} if more else {})}, owner)
    remove(context.work_dir / PREVIOUS)
    return [course.history() for course in courses]


def _courses(
    features: Features,
    make_optimiser: Callable[[nn.ModuleList, float], Optimizer],
    online: Online,
    data: Splits,
    context: Context,
    scale: float,
) -> list[Course]:
    """The layers that learn from all images, then those that learn without the held-out ones."""
    size = context.model.image_size
    read = features(torch.zeros(1, 3, size, size, device=context.device))

    def classifiers() -> Classifiers:
        layers = _fresh_layers(read, len(data.classes), online.init_std, context)
        return Classifiers(layers, make_optimiser(layers, scale))

    courses = [Course(classifiers(), None, data.test)]
    if held := _held_out(online, data):
        courses.append(Course(classifiers(), torch.tensor(held), data.train, held))
    return courses


def _held_out(online: Online, data: Splits) -> list[int]:
    """The training images that are held out, none where one would be the last of its class."""
    labels = data.train.labels
    assert labels is not None, "splits have labels"
    return [] if unfit(labels, online.held_out) else held_out(labels, online.held_out)[1].tolist()


def _fresh_layers(
    features: Sequence[Tensor], classes: int, std: float, context: Context
) -> nn.ModuleList:
    """One layer for each of `features`, (B, D_i)."""
    rng = torch.Generator().manual_seed(fitting(context.seed))
    layers = nn.ModuleList(skip_init(nn.Linear, x.shape[1], classes) for x in features)
    for layer in layers:
        nn.init.normal_(layer.get_parameter("weight"), std=std, generator=rng)
        nn.init.zeros_(layer.get_parameter("bias"))
    return layers.to(context.device)


def _train_epoch(
    courses: Sequence[Course],
    features: Features,
    online: Online,
    data: Splits,
    context: Context,
    epoch: int,
    batch: int,
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
        read = features(images)
        for course in courses:
            course.step(read, labels[index], index, decay)
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
        num_workers=workers_for(len(dataset), batch),
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


def best_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    histories: Sequence[History],
    layers: Mapping[str, Sequence[float]],
) -> list[Result]:
    """The accuracies of the best layer at its best epoch, and which epoch and layer that is.

    Once chosen on the evaluated split, once on held-out labels. histories: as `train` returns them;
    layers: metric -> its value for every layer, e.g. the learning rate.
    """
    judged, *held = histories
    n, best, second = judged.n, judged.best(), _chosen_setting(layers)
    top1, top5 = judged.hits[best].tolist()
    records = [
        *hit_results(benchmark, data, context, setting, (top1, top5), n),
        *(context.result(benchmark, data, setting, k, v, n) for k, v in _values(best, layers)),
    ]
    if not held or not held[0].n:
        assert data.train.labels is not None, "splits have labels"
        reason = unfit(data.train.labels, benchmark.protocol.online.held_out)
        reason = reason or "None of the held-out images can be read."
        return [*records, *no_choice(benchmark, data, context, second, reason)]
    first, fifth = judged.hits[held[0].best()].tolist()
    chosen, hits = dict(_values(held[0].best(), layers)), (first, fifth)
    return [*records, *chosen_results(benchmark, data, context, second, hits, n, top1, chosen)]


def _values(
    best: tuple[int, int], layers: Mapping[str, Sequence[float]]
) -> list[tuple[str, float]]:
    """The metrics that name an epoch and a layer, and their values."""
    epoch, layer = best
    return [("epoch", epoch + 1), *((metric, values[layer]) for metric, values in layers.items())]


def no_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    setting: str,
    layers: Iterable[str],
    reason: str,
) -> list[Result]:
    """Blanks instead of `best_results`."""
    return [
        *blanks(benchmark, data, context, [setting], reason),
        *no_choice(benchmark, data, context, _chosen_setting(layers), reason),
    ]


def _chosen_setting(layers: Iterable[str]) -> str:
    return f"{' and '.join(['epoch', *layers])} {CHOSEN}"
