"""Linear probe on cached frozen features: the papers' grid of 45 learning rates in one pass.

With a classifier at hand (`evaluate --classifier`), its accuracy is recorded too: a linear one that
was released for frozen features, or one that was fine-tuned with its backbone.

Source: iBOT (arXiv:2111.07832) section 4.1, `ibot/evaluation/eval_linear_multi.py:100-107,387`;
the classifier and schedule are DINO's, `dino/eval_linear.py:30-285`. One thing differs from the
papers and is named in the protocol: features are computed once from the centre crop, so the
classifier sees no random resized crops and no flips (`linear_online` has them). The papers choose
the rate on the evaluated split; a second grid chooses it on held-out labels (see `selection`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost, Features, FeatureSpec, Splits
from sslbench.benchmarks.blanks import blanks, one_class
from sslbench.benchmarks.inference import inference
from sslbench.benchmarks.selection import CHOSEN, SHARE, chosen_results, divided, no_choice, unfit
from sslbench.benchmarks.taps import Taps
from sslbench.benchmarks.topk import accuracy_results, count_hits, hit_results, ranked
from sslbench.data.rng import fitting
from sslbench.errors import UserError
from sslbench.result import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel

# {1..9} x 10^{-4..0}: ibot/evaluation/eval_linear_multi.py:100-107
RATES = tuple(float(f"{m}e{e}") for e in range(-4, 1) for m in range(1, 10))
SOFTMAX = 400  # FLOPs that take as long as the softmax of one logit and its gradient, on a CPU
LEAST_STEPS = 10  # a small set is cut into at least this many batches per epoch


@dataclass(frozen=True)
class Probe:
    """SGD on a grid of learning rates: cosine per epoch to 0, no warm-up, no weight decay.

    rates: per 256 images of a batch; batch: at most a tenth of the training images is used.
    init_std: of the weights, the bias starts at 0.
    """

    rates: tuple[float, ...] = RATES
    epochs: int = 100
    batch: int = 1024
    momentum: float = 0.9
    init_std: float = 0.01

    def flops(self, images: float, width: int, classes: int) -> float:
        """Of `train_grid`: the logits and gradients of all heads."""
        return self.epochs * images * classes * len(self.rates) * (4.0 * width + SOFTMAX)


@dataclass(frozen=True)
class LinearProtocol:
    """taps: features read for each pooling, not standardised; the rest as named.

    classifier: sha256 of the classifier that is evaluated, "" where a grid is trained.
    held_out: share of every class's training images that a second grid is scored on.
    """

    probe: Probe = field(default_factory=Probe)
    pool: str = "cls"
    taps: Taps = field(default_factory=Taps)
    classifier: str = ""
    form: str = field(default="cached, no augmentation", init=False)
    held_out: float = SHARE
    selection: str = field(
        default="last epoch, best lr on the judged split; second, on held-out labels", init=False
    )


class Linear(Benchmark):
    """Linear probe; "best of 45 lr" picks the rate on the evaluated split, as the papers do.

    "lr chosen on held-out labels" picks it without that split.
    """

    name = "linear"
    version = "3"
    suites = ("frozen", "full")
    Protocol = LinearProtocol
    main = (("best of 45 lr", "top1"),)
    directions = {"top1": "higher", "top5": "higher"}  # the chosen lr is neither
    headings = {("best of 45 lr", "top1"): "linear"}

    def protocols(self, model: LoadedModel, data: Splits) -> list[LinearProtocol]:
        """One for each pooling, and one for the classifier that the model has, if any.

        That of a run with other classes than the data's is left out, unless the user named it.
        """
        from sslbench.storage.weights import weights_sha256

        trained = super().protocols(model, data)
        if model.classifier is None:
            return trained
        other_classes = _sizes(model.classifier)[1] != len(data.classes)
        if other_classes and model.reads and not model.classifier_given:
            return trained
        sha = weights_sha256(model.classifier.state_dict())
        return [*trained, replace(self.protocol, pool=model.reads or "cls", classifier=sha)]

    @property
    def variant(self) -> str:
        return "classifier" if self.protocol.classifier else self.protocol.pool

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """The training of the heads, twice; a classifier that is there needs none."""
        p = self.protocol
        spec = self._spec(model)
        if p.classifier:
            return Cost.reading(spec, parts=("test",))
        size = (len(data.train), spec.width(model.backbone), len(data.classes))
        return Cost.reading(spec, flops=(2 - p.held_out) * p.probe.flops(*size))

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        p = self.protocol
        spec = self._spec(context.model)
        if p.classifier:
            test = context.features(backbone, data, "test", spec)
            return self._classified(data, context, test)
        train = context.features(backbone, data, "train", spec)
        test = context.features(backbone, data, "test", spec)
        return probe_results(self, data, context, "", train, test, p.probe, p.held_out)

    def _spec(self, model: LoadedModel) -> FeatureSpec:
        """The features that are read; a classifier trained with the weights reads its own."""
        p = self.protocol
        if p.classifier and model.reads:
            return FeatureSpec(1, p.pool)
        return p.taps.spec(model, p.pool)

    @inference
    def _classified(self, data: Splits, context: Context, test: Features) -> list[Result]:
        """The model's classifier's accuracy; UserError where its sizes do not fit."""
        from sslbench.checkpoints.classifier import RELEASED

        layer, arch = context.model.classifier, context.model.card.arch
        assert layer is not None, "the protocol is planned for models with a classifier"
        has, needs = _sizes(layer), (test.x.shape[1], len(data.classes))
        if has != needs:
            raise UserError(
                f"the classifier reads {has[0]} features and tells {has[1]} classes apart, but "
                f"{arch} gives {needs[0]} and {data.name} has {needs[1]}; give the classifier "
                "released for these weights and the dataset it was trained on."
            )
        setting = context.model.classifier_name or RELEASED
        return accuracy_results(self, data, context, setting, ranked(layer(test.x)), test.y)


def probe_settings(prefix: str, probe: Probe) -> tuple[str, str]:
    """Return the settings of the rate chosen on the evaluated split and on held-out labels."""
    return f"{prefix}best of {len(probe.rates)} lr", f"{prefix}lr {CHOSEN}"


def _sizes(classifier: nn.Module) -> tuple[int, int]:
    """Features that a classifier reads, and classes that it tells apart."""
    weights = [w for w in classifier.state_dict().values() if w.ndim == 2]
    return weights[0].shape[1], weights[-1].shape[0]


def probe_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    prefix: str,
    train: Features,
    test: Features,
    probe: Probe,
    share: float,
) -> list[Result]:
    """Train the grid and record the best head's accuracies and its learning rate ("lr").

    Once for the head that is best on `test`, once for the one that is best on the `share` of the
    training labels held out of a second grid. prefix: of the settings. Blanks where the data have
    one class, or no labels to hold out.
    """
    best_setting, chosen_setting = probe_settings(prefix, probe)
    if reason := one_class(data):
        blank = blanks(benchmark, data, context, [best_setting], reason)
        return [*blank, *no_choice(benchmark, data, context, chosen_setting, reason)]
    classes, n = len(data.classes), len(test.y)
    grid = train_grid(train, classes, probe, context.seed, context.device)
    on_test = head_hits(*grid, test)
    best = _first_best(on_test)
    hits = _ranked_hits(*grid, best, test)
    records = [
        *hit_results(benchmark, data, context, best_setting, hits, n),
        context.result(benchmark, data, best_setting, "lr", probe.rates[best], n),
    ]
    if reason := unfit(train.y.numpy(), share):
        return [*records, *no_choice(benchmark, data, context, chosen_setting, reason)]
    kept, held = divided(train, share)
    scores = head_hits(*train_grid(kept, classes, probe, context.seed, context.device), held)
    # that a head diverges on all labels is seen without the evaluated split
    chosen = _first_best(scores.masked_fill(on_test < 0, -1))
    second, rate = _ranked_hits(*grid, chosen, test), {"lr": probe.rates[chosen]}
    found = chosen_results(benchmark, data, context, chosen_setting, second, n, hits[0], rate)
    return [*records, *found]


def _ranked_hits(weight: Tensor, bias: Tensor, head: int, test: Features) -> tuple[int, int]:
    """Top-1 and top-5 hits of one head."""
    return count_hits(ranked(test.x @ weight[:, head].cpu() + bias[head].cpu()), test.y)


@inference
def train_grid(
    train: Features, classes: int, probe: Probe, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """One linear head per rate, all on the same batches: weight (D, H, C) and bias (H, C).

    The heads share nothing but the data, so the gradient of their summed cross-entropies, written
    out below, trains each as if it were alone; together they are one (D, H * C) product per step.
    """
    import torch

    from sslbench.system.products import linear

    (n, dim), heads = train.x.shape, len(probe.rates)
    batch = min(probe.batch, max(1, n // LEAST_STEPS))
    rng = torch.Generator().manual_seed(fitting(seed))
    weight = (torch.randn(dim, classes, generator=rng) * probe.init_std).repeat(1, heads)
    weight, bias = weight.to(device), torch.zeros(heads * classes, device=device)
    weight_momentum, bias_momentum = torch.zeros_like(weight), torch.zeros_like(bias)
    rates = torch.tensor(probe.rates, device=device).repeat_interleave(classes) * (batch / 256)
    for epoch in range(probe.epochs):
        step = rates * (-0.5 * (1 + math.cos(math.pi * epoch / probe.epochs)))
        for index in torch.randperm(n, generator=rng).split(batch):
            x, y = train.x[index].to(device), train.y[index].to(device)
            error = softmax_(linear(x, weight.T, bias).view(-1, heads, classes))
            error[torch.arange(len(y), device=device), :, y] -= 1  # d cross-entropy / d logits
            error = error.view(len(y), -1) / len(y)
            gradient = linear(x.T, error.T)
            weight.addcmul_(weight_momentum.mul_(probe.momentum).add_(gradient), step)
            bias.addcmul_(bias_momentum.mul_(probe.momentum).add_(error.sum(0)), step)
    return weight.view(dim, heads, classes), bias.view(heads, classes)


def softmax_(logits: Tensor) -> Tensor:
    """Softmax of (N, H, C) over C; may overwrite `logits`. On CPUs torch's is slow for small C."""
    if logits.is_cuda:
        return logits.softmax(dim=2)
    logits.sub_(logits.amax(dim=2, keepdim=True)).exp_()
    return logits.div_(logits.sum(dim=2, keepdim=True))


def best_head(weight: Tensor, bias: Tensor, test: Features) -> int:
    """Index of the head with the most hits on `test`; the smallest rate wins a tie."""
    return _first_best(head_hits(weight, bias, test))


def _first_best(hits: Tensor) -> int:
    return int(hits.numpy().argmax())  # argmax returns the first maximum


@inference
def head_hits(weight: Tensor, bias: Tensor, test: Features) -> Tensor:
    """Top-1 hits of every head on `test`, int64 (H,) on the CPU; -1 for one that has diverged."""
    import torch

    dim, heads, classes = weight.shape
    hits = torch.zeros(heads, dtype=torch.int64, device=weight.device)
    for x, y in zip(test.x.split(1024), test.y.split(1024), strict=True):
        logits = torch.addmm(bias.view(-1), x.to(weight.device), weight.view(dim, -1))
        guess = logits.view(len(x), heads, classes).argmax(dim=2)
        hits += (guess == y.to(weight.device)[:, None]).sum(dim=0)
    diverged = ~weight.isfinite().all(dim=2).all(dim=0)
    return hits.masked_fill(diverged, -1).cpu()
