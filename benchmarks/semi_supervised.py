"""Semi-supervised classification with frozen features: 1 % and 10 % of the labels.

Three readers of the same few labels: logistic regression, k-NN and the linear probe.
Source: iBOT (arXiv:2111.07832) section 4.1 and Table 12,
`ibot/evaluation/eval_logistic_regression.py:221-246`. On ImageNet the papers use SimCLRv2's lists;
here the lists are drawn from the labels, the same for every model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslbench.backbones.base import Backbone
from sslbench.benchmark import Benchmark, Context, Features, FeatureSpec, Splits
from sslbench.benchmarks.knn import nearest_votes
from sslbench.benchmarks.linear import Probe, probe_layers, probe_results
from sslbench.benchmarks.logistic import fit_logistic
from sslbench.benchmarks.topk import accuracy_results, percent, ranked
from sslbench.reporting.result import Result


@dataclass(frozen=True)
class SemiSupervisedProtocol:
    """fractions of the labels; lists: seed of the lists, never the run's; strengths: lambdas.

    k, temperature: of the k-NN; probe, probe_layers: of the linear probe.
    """

    fractions: tuple[float, ...] = (0.01, 0.1)
    lists: int = 0
    strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    k: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    probe: Probe = field(default_factory=Probe)
    probe_layers: dict[str, int] = field(default_factory=probe_layers)
    pool: str = "cls"
    norm: bool = True
    selection: str = field(default="best lambda and lr on the judged split", init=False)


class SemiSupervised(Benchmark):
    """Frozen features, few labels; a k larger than the list is left out."""

    name = "semi_supervised"
    version = "1"
    suites = ("frozen", "full")
    Protocol = SemiSupervisedProtocol
    main = (
        ("1% logreg, best of 3 lambda", "top1"),
        ("10% logreg, best of 3 lambda", "top1"),
    )

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        p = self.protocol
        last = FeatureSpec(1, p.pool, p.norm)
        deep = FeatureSpec(p.probe_layers[p.pool], p.pool, p.norm)
        train, test = (context.features(backbone, data, part, last) for part in ("train", "test"))
        wide, wide_test = (
            context.features(backbone, data, part, deep) for part in ("train", "test")
        )
        records = []
        for fraction in p.fractions:
            few = stratified(train.y, fraction, p.lists)
            label = f"{fraction:.0%}"
            records += self._logistic(data, context, label, take(train, few), test)
            records += self._neighbours(data, context, label, take(train, few), test)
            setting = f"{label} linear, best of {len(p.probe.rates)} lr"
            records += probe_results(
                self, data, context, setting, take(wide, few), wide_test, p.probe
            )
        return records

    def _logistic(
        self, data: Splits, context: Context, label: str, few: Features, test: Features
    ) -> list[Result]:
        x, y = normalize(few.x).to(context.device), few.y.to(context.device)
        queries = normalize(test.x).to(context.device).double()
        weight, ranks = None, {}
        # from strong to weak: each solution is a good start for the next
        for strength in sorted(self.protocol.strengths, reverse=True):
            weight = fit_logistic(x, y, len(data.classes), strength, start=weight)
            ranks[strength] = ranked(queries @ weight).cpu()
        best = max(sorted(ranks), key=lambda s: percent(ranks[s][:, 0] == test.y))
        settings = {f"{label} logreg, lambda={s:g}": ranks[s] for s in sorted(ranks)}
        settings[f"{label} logreg, best of {len(ranks)} lambda"] = ranks[best]
        return [
            record
            for setting, found in settings.items()
            for record in accuracy_results(self, data, context, setting, found, test.y)
        ]

    def _neighbours(
        self, data: Splits, context: Context, label: str, few: Features, test: Features
    ) -> list[Result]:
        p = self.protocol
        ks = [k for k in p.k if k <= len(few.y)]
        if not ks:
            return []
        votes = nearest_votes(few, test, len(data.classes), ks, p.temperature, context.device)
        return [
            record
            for k, ranks in votes.items()
            for record in accuracy_results(self, data, context, f"{label} knn k={k}", ranks, test.y)
        ]


def stratified(y: Tensor, fraction: float, seed: int) -> Tensor:
    """Positions of `fraction` of every class (at least one image), ascending, int64.

    A function of the labels and the seed alone: the same list for every model. Lists are nested:
    a smaller fraction is a subset of a larger one.
    """
    labels = y.numpy()
    chosen = []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        order = np.random.default_rng([seed, int(c)]).permutation(members)
        chosen.append(order[: max(1, round(fraction * len(members)))])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def take(features: Features, index: Tensor) -> Features:
    """The rows named by `index`."""
    return Features(features.x[index], features.y[index])
