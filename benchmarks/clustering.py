"""Unsupervised classification: how well clusters agree with the classes of the evaluated split.

Two answers to "whose clusters?", never mixed: k-means on the frozen features, and the arg-max of
the method's own [CLS] head where the source has one. Source: iBOT (arXiv:2111.07832) section 4.1
and Table 5, `ibot/evaluation/unsupervised/unsup_cls.py:22-71,111-140` (teacher head, centre crop,
no centring, no temperature, on val); the setting names the head's width, 1000 in Table 5 and
8192 or 65536 in released files. iBOT's Table 5: "32.8" is its ARI, its NMI is 78.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from sslbench.benchmark import Benchmark, Context, Cost, Features, FeatureSpec, Splits
from sslbench.benchmarks.blanks import blanks
from sslbench.benchmarks.inference import inference
from sslbench.data.rng import fitting
from sslbench.result import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel

METRICS = ("ACC", "ARI", "NMI", "FMI")
SPREAD = "sd of"  # in the setting of a spread


@dataclass(frozen=True)
class ClusteringProtocol:
    """K-means on l2-normalised features with K = number of classes, `starts` seeds, their mean."""

    starts: int = 5
    iterations: int = 100
    initialisation: Literal["k-means++"] = "k-means++"
    pool: str = "cls"
    layers: int = 1
    norm: bool = True
    judged_on: str = field(default="the judged split alone", init=False)


class Clustering(Benchmark):
    """ACC, ARI, NMI and FMI in percent; the spread over the starts has a setting of its own."""

    name = "clustering"
    version = "1"
    suites = ("frozen", "full")
    Protocol = ClusteringProtocol
    main = (("k-means", "NMI"), ("k-means", "ACC"))
    directions = dict.fromkeys(METRICS, "higher")
    headings = {("k-means", "NMI"): "NMI", ("k-means", "ACC"): "ACC"}

    @classmethod
    def direction(cls, setting: str, metric: str) -> str:
        """As the metric's; a spread over starts is neither good nor bad."""
        return "" if SPREAD in setting else super().direction(setting, metric)

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """The distances of all iterations: fewer where k-means converges earlier."""
        p = self.protocol
        spec = FeatureSpec(p.layers, p.pool, p.norm)
        distances = p.starts * p.iterations * len(data.test) * len(data.classes)
        flops = 2.0 * distances * spec.width(model.backbone)
        return Cost.reading(spec, parts=("test",), flops=flops)

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        from sslbench.benchmarks.partitions import scores

        p = self.protocol
        test = context.features(backbone, data, "test", FeatureSpec(p.layers, p.pool, p.norm))
        reason = without_clusters(data, test.y)
        groups = {} if reason else self._groups(test, len(data.classes), context.seed)
        head = context.head()
        if (
            head is not None and p.pool == "cls" and len(test.y.unique()) > 1
        ):  # the head knows the [CLS] token only
            cls = context.features(backbone, data, "test", FeatureSpec())
            clusters, width = head_clusters(head, cls, context.device)
            groups[f"argmax of {width}-d head"] = scores(cls.y.numpy(), clusters)
        missing = blanks(self, data, context, ["k-means"], reason, METRICS) if reason else []
        return missing + [
            context.result(self, data, setting, metric, value, len(test.y))
            for setting, figures in groups.items()
            for metric, value in figures.items()
        ]

    def _groups(self, test: Features, classes: int, seed: int) -> dict[str, dict[str, float]]:
        """The means over the starts, and their spread."""
        from sslbench.benchmarks.partitions import scores

        p, y = self.protocol, test.y.numpy()
        runs = [scores(y, self._kmeans(test, classes, seed + start)) for start in range(p.starts)]
        by_metric = {metric: np.array([run[metric] for run in runs]) for metric in runs[0]}
        groups = {"k-means": {metric: float(v.mean()) for metric, v in by_metric.items()}}
        if p.starts > 1:
            spread = {metric: float(v.std(ddof=1)) for metric, v in by_metric.items()}
            groups[f"k-means, {SPREAD} {p.starts} starts"] = spread
        return groups

    def _kmeans(self, features: Features, classes: int, seed: int) -> np.ndarray:
        from torch.nn.functional import normalize

        from sslbench.benchmarks.kmeans import kmeans

        x, p = normalize(features.x), self.protocol
        found = kmeans(x, min(classes, len(x)), p.iterations, fitting(seed, bits=32))
        return found.numpy()


def without_clusters(data: Splits, y: Tensor) -> str:
    """Why clusters of the evaluated images, of classes `y`, say nothing; "" where they do."""
    if len(y.unique()) < 2:
        return f"The {data.split} split of {data.name} holds one class, which is one cluster."
    if len(y) <= len(data.classes):
        return (
            f"The {data.split} split of {data.name} has {len(y)} images for {len(data.classes)} "
            "clusters: each is one of its own."
        )
    return ""


@inference
def head_clusters(head: nn.Module, cls: Features, device: torch.device) -> tuple[np.ndarray, int]:
    """Cluster of each image, the arg-max of the head's logits, int64 (N,); how many there are."""
    import torch

    head = head.to(device).eval()
    clusters = []
    for x in cls.x.split(1024):
        logits = head(x.to(device))
        clusters.append(logits.argmax(dim=1).cpu())
    return torch.cat(clusters).numpy(), logits.shape[1]
