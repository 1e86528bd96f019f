"""The cost of a recipe, measured without its data by a forward pass of one image on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from sslbench import plugins
from sslbench.data.places import is_absent
from sslbench.errors import UserError
from sslbench.method import Method, Progress, Sample, ViewBatch, Views
from sslbench.recipes.consistency import warnings
from sslbench.recipes.load import load_recipe
from sslbench.recipes.recipe import About, Recipe
from sslbench.storage.home import expanded
from sslbench.training.build import build_method
from sslbench.training.data import open_training
from sslbench.training.optim import learning_rate, peak_lr, warmup_steps
from sslbench.training.precision import use_bf16
from sslbench.training.run import images_each, length

DRAWS = 16  # draws of views, to find one whose masks are about average
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """The cost of one image in training mode.

    forward: FLOPs, two per multiply-add; trained: those with gradients on, twice as many of which
    the backward pass adds; kept: bytes of activations.
    """

    forward: int
    trained: int
    kept: int

    @property
    def flops(self) -> int:
        return self.forward + 2 * self.trained


def report(recipe: Recipe, processes: int = 1, group: str = plugins.METHODS) -> list[str]:
    """Lines that show what `recipe` resolves to and what it costs; writes nothing.

    Raises UserError for a recipe that cannot run on `processes`.
    """
    given, recipe = recipe, with_stand_ins(recipe, group)
    images, labelled = _images(recipe)
    steps, per_epoch = length(recipe, images)
    if not per_epoch:
        raise UserError(
            f"train.batch_size={recipe.train.batch_size} is larger than the {images} images of "
            f"{recipe.data.source}; lower it."
        )
    share = images_each(recipe, processes, plugins.load(group, recipe.method_name))
    method = build(recipe, group)
    cost = measure(method, recipe, Progress(steps // 2, steps, per_epoch), labelled)
    sections = {
        "recipe": _flat({k: v for k, v in given.to_dict().items() if k != "about"}),
        "stand-ins": {f"needs.{k}": v for k, v in recipe.needs.items() if given.needs.get(k) != v},
        "what was published": _about(recipe.about),
        "parameters": _parameters(method),
        "length": _length(recipe, method, images, steps, per_epoch),
        "compute": _compute(cost, steps * recipe.train.batch_size),
        f"memory of each of {processes} processes, at least": _memory(method, cost, share, recipe),
    }
    width = max(len(key) for lines in sections.values() for key in lines)
    shown = {name: lines for name, lines in sections.items() if lines}
    listed = [line for name, lines in shown.items() for line in _section(name, lines, width)]
    return [*warnings(recipe, group), *listed]


def with_stand_ins(recipe: Recipe, group: str = plugins.METHODS) -> Recipe:
    """`recipe` with random weights for each frozen module that it needs and that does not exist."""
    method_class: type[Method] = plugins.load(group, recipe.method_name)
    needs, trained = dict(recipe.needs), recipe.to_train_first()
    for kind in method_class.needs:
        source, known = needs.get(kind, ""), plugins.available(plugins.group_of(kind))
        if kind in trained:
            source = load_recipe(trained[kind], group=plugins.group_of(kind)).method_name
        if not source or not expanded(source).exists():
            needs[kind] = f"random-init:{source if source in known else next(iter(known))}"
    return replace(recipe, needs=needs)


def build(recipe: Recipe, group: str = plugins.METHODS) -> Method:
    """The method with all weights 0: values do not matter, and a ViT-L is slow to initialise.

    Without drop path, which leaves out a share of the work that differs from image to image.
    """
    recipe = replace(recipe, backbone=replace(recipe.backbone, drop_path=0.0))
    method = build_method(recipe, group, "meta").to_empty(device="cpu")
    for weights in (*method.parameters(), *method.buffers()):
        weights.detach().zero_()
    return method


def measure(method: Method, recipe: Recipe, progress: Progress, labelled: bool = True) -> Cost:
    """The cost of an image: that of two images minus that of one.

    This leaves out what a step computes from the weights alone (normalised prototypes). Where the
    method takes its images in groups, it is that of two groups minus that of one, per image.
    labelled: whether the data has labels; UserError where the method needs them and it has none.
    """
    views = method.views(recipe.method, recipe.backbone.stride)
    sample, data = _typical(views, progress.epoch), recipe.data
    bf16 = use_bf16(recipe.train.precision, CPU)
    group, _ = method.stays_together(recipe.method)
    costs = []
    for count in (group, 2 * group):
        batch = ViewBatch(
            {k: _repeat(v, count) for k, v in sample.crops.items()},
            {k: _repeat(v, count) for k, v in sample.masks.items()},
            torch.arange(count),
            data.mean,
            data.std,
            torch.zeros(count, dtype=torch.int64) if labelled else None,
        )
        costs.append(_forward(method, batch, progress, bf16))
    return Cost(*((two - one) // group for one, two in zip(*costs, strict=True)))


def _forward(
    method: Method, batch: ViewBatch, progress: Progress, bf16: bool
) -> tuple[int, int, int]:
    """FLOPs, FLOPs with gradients on, and bytes kept for the backward pass."""
    method.train()
    counter, kept = _Counter(), _Kept([*method.parameters(), *method.buffers()])
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        sdpa_kernel(SDPBackend.MATH),  # torch counts no FLOPs of the CPU's fused attention
        saved_tensors_hooks(kept.keep, lambda dropped: dropped),
        counter,
    ):
        method.loss(batch, progress)
    return counter.forward, counter.trained, kept.bytes


class _Counter(TorchDispatchMode):
    """Adds up FLOPs by torch's own formulas; the operations themselves return zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.trained = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, formula = kwargs or {}, flop_registry.get(func.overloadpacket)
        if formula is None:
            return func(*args, **kwargs)
        out = func(*_on("meta", args), **_on("meta", kwargs))
        flops = formula(*args, **kwargs, out_val=out)
        self.forward += flops
        self.trained += flops if torch.is_grad_enabled() else 0
        return _on("cpu", out)


def _on(device: str, nested: Any) -> Any:
    """Every tensor in `nested` as zeros on `device`."""
    return tree_map_only(Tensor, lambda t: torch.zeros_like(t, device=device), nested)


class _Kept:
    """Counts each storage that autograd keeps, except weights, once, and frees it."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.bytes = 0
        self._weights = {w.untyped_storage().data_ptr() for w in weights}
        self._seen: dict[int, StorageWeakRef] = {}

    def keep(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        seen = self._seen.get(place)
        if place not in self._weights and (seen is None or seen.expired()):
            self._seen[place] = StorageWeakRef(storage)
            self.bytes += storage.nbytes()


def _typical(views: Views, epoch: int) -> Sample:
    """The views of one image whose masks cover about the average number of patches."""
    image, rng = Image.new("RGB", (500, 375)), np.random.default_rng(0)
    drawn = [views(image, rng, epoch) for _ in range(DRAWS)]
    hidden = [sum(int(mask.sum()) for mask in sample.masks.values()) for sample in drawn]
    nearest = np.abs(np.array(hidden) - np.mean(hidden)).argmin()
    return drawn[int(nearest)]


def _repeat(views: np.ndarray, count: int) -> Tensor:
    """Repeats (V, ...) of one image as (V, count, ...)."""
    return torch.from_numpy(np.stack([views] * count, axis=1))


def _images(recipe: Recipe) -> tuple[int, bool]:
    """The number of images that are trained on, and whether they have labels (if absent: yes)."""
    if is_absent(recipe.data.source):
        return round(recipe.about.images * recipe.data.share * (1 - recipe.data.held_out)), True
    images = open_training(recipe.data)
    return len(images), images.labels is not None


def _about(about: About) -> dict[str, str]:
    texts = {"dataset": about.dataset, "paper": about.paper, "notes": about.notes}
    for benchmark, metric, value, source in about.expected:
        texts[f"expected {benchmark}"] = f"{metric} {value:g} ({source})"
    return {key: text for key, text in texts.items() if text}


def _parameters(method: Method) -> dict[str, str]:
    trained = _size(p for p in method.parameters() if p.requires_grad)
    everything = _size(method.parameters())
    return {
        "backbone": _millions(_size(method.backbone().parameters())),
        "trained": _millions(trained),
        "frozen (teacher, tokenizer)": _millions(everything - trained),
    }


def _length(
    recipe: Recipe, method: Method, images: int, steps: int, per_epoch: int
) -> dict[str, str]:
    optim, train = recipe.optim, recipe.train
    seen, warmup = steps * train.batch_size, warmup_steps(optim, per_epoch)
    lr = learning_rate(Progress(warmup, steps, per_epoch), optim, peak_lr(optim, train))
    tokens = method.image_tokens(recipe.method, recipe.backbone.stride)
    effective = method.effective_epochs(recipe.method, train.epochs)
    return {
        "images": f"{images:,}",
        "steps": f"{steps:,} of {train.batch_size} images, {per_epoch:,} per epoch",
        "warm-up steps": f"{warmup:,} to lr {lr:g}",
        "epochs": f"{train.epochs:g}, effective {effective:.6g}",
        "image tokens": f"{tokens:,} per image, {tokens * seen / 1e9:.4g} billion in all",
    }


def _compute(cost: Cost, images: int) -> dict[str, str]:
    return {
        "forward": f"{cost.forward / 1e9:.4g} GFLOPs per image",
        "forward and backward": f"{cost.flops / 1e9:.4g} GFLOPs per image",
        "whole run": f"{cost.flops * images:.3g} FLOPs",
    }


def _memory(method: Method, cost: Cost, images: int, recipe: Recipe) -> dict[str, str]:
    """Memory on this machine's CPU; a GPU's fused attention and bf16 need less."""
    weights = _bytes([*method.parameters(), *method.buffers()])
    trained = _bytes(p for p in method.parameters() if p.requires_grad)
    number = "bf16" if use_bf16(recipe.train.precision, CPU) else "fp32"
    kept = cost.kept * images
    return {
        "weights": _gib(weights),
        "gradients": _gib(trained),
        "AdamW": _gib(2 * trained),
        "activations": f"{_gib(kept)}: {images} images of {cost.kept / 2**20:.4g} MiB in {number}, "
        "less with a GPU's fused attention",
        "all": _gib(weights + 3 * trained + kept),
    }


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _millions(number: int) -> str:
    return f"{number / 1e6:.4g} M"


def _gib(number: int) -> str:
    return f"{number / 2**30:.3g} GiB"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted key."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        inside = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": str(value)}
    return flat


def _section(name: str, lines: Mapping[str, str], width: int) -> Iterator[str]:
    yield name
    yield from (f"  {key:<{width}}  {value}" for key, value in lines.items())
