"""Semi-supervised classification with frozen features: 1 % and 10 % of the labels.

Three readers of the same few labels: logistic regression, k-NN and the linear probe, each with the
setting that is best on the evaluated split and with one chosen on held-out labels (`selection`).
Source: iBOT (arXiv:2111.07832) section 4.1 and Table 12,
`ibot/evaluation/eval_logistic_regression.py:221-246`. The papers use SimCLRv2's lists
of ImageNet; they are read where they lie beside the images (`sslbench/data/subsets.py`), else lists
are drawn from the labels, the same for every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost, Features, FeatureSpec, Splits
from sslbench.benchmarks.blanks import blanks, one_class
from sslbench.benchmarks.knn import neighbour_results
from sslbench.benchmarks.linear import Probe, probe_results, probe_settings
from sslbench.benchmarks.selection import (
    CHOSEN,
    SHARE,
    best_of,
    divided,
    hits_of,
    no_choice,
    other_share,
    take,
    unfit,
    value_results,
)
from sslbench.benchmarks.taps import Taps
from sslbench.benchmarks.topk import hit_results, ranked
from sslbench.data.subsets import find_list, listed, names_in, stratified
from sslbench.result import Result, digest

if TYPE_CHECKING:
    from torch import Tensor

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel


@dataclass(frozen=True)
class SemiSupervisedProtocol:
    """fractions of the labels; strengths: lambdas; k, temperature: of the k-NN; probe, taps: of
    the linear probe.

    files: fraction ("1%") -> digest of the list that comes with the dataset; a list of any other
    fraction is drawn with the seed `lists`, never the run's. held_out: share of every class's
    images in the list that settings are chosen on a second time.
    """

    fractions: tuple[float, ...] = (0.01, 0.1)
    lists: int = 0
    files: dict[str, str] = field(default_factory=dict)
    strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    k: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    held_out: float = SHARE
    probe: Probe = field(default_factory=Probe)
    taps: Taps = field(default_factory=Taps)
    pool: str = "cls"
    norm: bool = True
    selection: str = field(
        default="best lambda, k and lr on the judged split; second, on held-out labels", init=False
    )


class SemiSupervised(Benchmark):
    """Frozen features, few labels; a k larger than the list is left out."""

    name = "semi_supervised"
    version = "3"
    suites = ("frozen", "full")
    Protocol = SemiSupervisedProtocol
    main = (
        ("1% logreg, best of 3 lambda", "top1"),
        ("10% logreg, best of 3 lambda", "top1"),
    )
    directions = {"top1": "higher"}
    headings = {main[0]: "1 %", main[1]: "10 %"}

    def protocols(self, model: LoadedModel, data: Splits) -> list[SemiSupervisedProtocol]:
        """One for each pooling, with the lists that come with the dataset."""
        found = {f: find_list(data.train, f) for f in self.protocol.fractions}
        files = {f"{f:.0%}": digest(sorted(names_in(path))) for f, path in found.items() if path}
        return [replace(p, files=files) for p in super().protocols(model, data)]

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """The regressions and the probes, twice; the k-NN takes far less."""
        p, classes = self.protocol, len(data.classes)
        last, deep = FeatureSpec(1, p.pool, p.norm), p.taps.spec(model, p.pool)
        widths = last.width(model.backbone), deep.width(model.backbone)
        images = sum(p.fractions) * len(data.train)
        regressions = len(p.strengths) * regression_flops(images, widths[0], classes)
        once = regressions + p.probe.flops(images, widths[1], classes)
        return Cost.reading(last, deep, flops=(2 - p.held_out) * once)

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        p = self.protocol
        last = FeatureSpec(1, p.pool, p.norm)
        deep = p.taps.spec(context.model, p.pool)
        train, test = (context.features(backbone, data, part, last) for part in ("train", "test"))
        wide, wide_test = (
            context.features(backbone, data, part, deep) for part in ("train", "test")
        )
        records = []
        lists = {f: self._list(data, train, f) for f in p.fractions}
        for fraction, subset in lists.items():
            label = f"{fraction:.0%}"
            own = label in p.files
            if reason := one_class(data) or dishonest(fraction, lists, len(train.y), own):
                records += self._blanks(data, context, label, reason)
                continue
            few, wide_few = take(train, subset), take(wide, subset)
            ks = [k for k in p.k if k <= len(subset)]
            records += self._logistic(data, context, label, few, test)
            records += neighbour_results(self, data, context, f"{label} knn ", few, test, ks)
            records += probe_results(
                self, data, context, f"{label} linear, ", wide_few, wide_test, p.probe, p.held_out
            )
        return records

    def _list(self, data: Splits, train: Features, fraction: float) -> Tensor:
        """Rows of `train` that keep their label: the dataset's own list, or one drawn here."""
        import torch

        own = f"{fraction:.0%}" in self.protocol.files
        path = find_list(data.train, fraction) if own else None
        if path is None:
            rows = stratified(train.y.numpy(), fraction, self.protocol.lists)
        else:
            index = None if train.index is None else train.index.numpy()
            rows = listed(path, data.train, index)
        return torch.from_numpy(rows)

    def _blanks(self, data: Splits, context: Context, label: str, reason: str) -> list[Result]:
        """Records that say why there is no number for this share of the labels."""
        logistic = f"{label} logreg, best of {len(self.protocol.strengths)} lambda"
        best, chosen = probe_settings(f"{label} linear, ", self.protocol.probe)
        return [
            *blanks(self, data, context, (logistic, best), reason),
            *no_choice(self, data, context, f"{label} logreg, lambda {CHOSEN}", reason),
            *no_choice(self, data, context, chosen, reason),
        ]

    def _logistic(
        self, data: Splits, context: Context, label: str, subset: Features, test: Features
    ) -> list[Result]:
        """Record every lambda, the best of them, and the one that is best on held-out labels."""
        share, n = self.protocol.held_out, len(test.y)
        hits = hits_of(self._ranks(data, context, subset, test), test.y)
        named = {f"{label} logreg, lambda={s:g}": hits[s] for s in sorted(hits)}
        named[f"{label} logreg, best of {len(hits)} lambda"] = hits[best_of(hits)]
        records = [
            record
            for setting, found in named.items()
            for record in hit_results(self, data, context, setting, found, n)
        ]
        setting = f"{label} logreg, lambda {CHOSEN}"
        if reason := unfit(subset.y.numpy(), share):
            return [*records, *no_choice(self, data, context, setting, reason)]
        kept, held = divided(subset, share)
        on_held_out = hits_of(self._ranks(data, context, kept, held), held.y)
        return [
            *records,
            *value_results(self, data, context, setting, "lambda", hits, on_held_out, n),
        ]

    def _ranks(
        self, data: Splits, context: Context, bank: Features, queries: Features
    ) -> dict[float, Tensor]:
        """Return strength -> best classes of `queries` by logistic regression on `bank`."""
        from torch.nn.functional import normalize

        from sslbench.benchmarks.logistic import fit_logistic

        x, y = normalize(bank.x).to(context.device), bank.y.to(context.device)
        normalised = normalize(queries.x).to(context.device).double()
        weight, ranks = None, {}
        # from strong to weak: each solution is a good start for the next
        for strength in sorted(self.protocol.strengths, reverse=True):
            weight = fit_logistic(x, y, len(data.classes), strength, start=weight)
            ranks[strength] = ranked(normalised @ weight).cpu()
        return ranks


def regression_flops(images: float, width: int, classes: int) -> float:
    """Of `fit_logistic`: 500 passes at the speed of double precision, which few logits are worth.

    Memory bounds a pass with few classes: it takes as long as one with 64.
    """
    return 500 * 2 * 4.0 * images * width * max(classes, 64)


def dishonest(fraction: float, lists: Mapping[float, Tensor], images: int, own: bool) -> str:
    """Why a list is not the share of the labels that it is named for; "" where it is.

    Every class keeps at least one image, which may be many times the share of a small class; a
    dataset's `own` list may name any number. lists: of every fraction; images: of the whole
    training split.
    """
    import torch

    subset, wanted = lists[fraction], max(1.0, fraction * images)
    if own and (reason := other_share(len(subset), fraction, images)):
        return reason
    if len(subset) > 2 * wanted:
        return (
            f"{fraction:.0%} of {images} images is less than one image per class: the list would "
            f"hold {len(subset)}, {len(subset) / images:.0%} of them."
        )
    larger = [f for f, other in lists.items() if f > fraction and torch.equal(subset, other)]
    if larger:
        return f"{fraction:.0%} and {larger[0]:.0%} of {images} images are the same images."
    return ""
