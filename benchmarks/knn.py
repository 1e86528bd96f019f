"""Weighted k-NN on frozen features, as DINO and iBOT report it.

The k nearest images of the bank (cosine similarity s) of each evaluated image vote for their class
with weight exp(s / T). Source: DINO (arXiv:2104.14294) section 4.2.1 and appendix F,
`dino/eval_knn.py:30-206`, `ibot/evaluation/eval_knn.py:57-283`. The papers quote the best k,
usually 20; every k is recorded here, which of them is best on the evaluated images, and which is
best for held-out images of the bank that ask the rest of it (see `selection`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost, Features, FeatureSpec, Splits
from sslbench.benchmarks.blanks import blanks, one_class
from sslbench.benchmarks.inference import inference
from sslbench.benchmarks.selection import (
    CHOSEN,
    SHARE,
    best_of,
    divided,
    hits_of,
    no_choice,
    unfit,
    value_results,
)
from sslbench.benchmarks.topk import hit_results, ranked
from sslbench.result import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel

BEST = "best k"
VOTERS = 1024  # images whose neighbours vote at once: bounds the memory, not the result
SORTING = 200  # FLOPs that take as long as ranking one similarity, on a CPU


@dataclass(frozen=True)
class KNNProtocol:
    """k: neighbours asked, one record each; temperature: T of the weights; features as named.

    held_out: share of every class's images in the bank that choose a k by asking the rest.
    """

    k: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    pool: str = "cls"
    layers: int = 1
    norm: bool = True
    held_out: float = SHARE
    selection: str = field(
        default="best k on the judged split; second, on held-out labels", init=False
    )


class KNN(Benchmark):
    """Weighted k-NN; a k larger than the bank has a blank rather than another number."""

    name = "knn"
    version = "2"
    suites = ("frozen", "full")
    Protocol = KNNProtocol
    main = (("k=20", "top1"),)
    directions = {"top1": "higher"}
    headings = {("k=20", "top1"): "k-NN"}

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """The similarities of both splits, each of which is then sorted among the others."""
        spec = FeatureSpec(self.protocol.layers, self.protocol.pool, self.protocol.norm)
        pairs = len(data.train) * len(data.test)
        return Cost.reading(spec, flops=pairs * (2 * spec.width(model.backbone) + SORTING))

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        p = self.protocol
        spec = FeatureSpec(p.layers, p.pool, p.norm)
        bank = context.features(backbone, data, "train", spec)
        test = context.features(backbone, data, "test", spec)
        reason, size = one_class(data), len(bank.y)
        ks = sorted(k for k in p.k if k <= size and not reason)
        records = neighbour_results(self, data, context, "", bank, test, ks)
        reason = reason or f"The bank has {size} images, fewer than k."
        missing = [f"k={k}" for k in sorted(p.k) if k not in ks]
        if not ks:
            records = no_choice(self, data, context, f"k {CHOSEN}", reason)
            missing.append(BEST)
        return [*records, *blanks(self, data, context, missing, reason)]


def neighbour_results(
    benchmark: Benchmark,
    data: Splits,
    context: Context,
    prefix: str,
    bank: Features,
    test: Features,
    ks: Sequence[int],
) -> list[Result]:
    """Record every k, the best of them, and the one that is best for held-out images of the bank.

    prefix: of the settings; ks: none larger than the bank. The temperature and the share that is
    held out are those of the benchmark's protocol.
    """
    if not ks:
        return []
    p, classes, n = benchmark.protocol, len(data.classes), len(test.y)
    votes = nearest_votes(bank, test, classes, ks, p.temperature, context.device)
    hits = hits_of(votes, test.y)
    best, setting = best_of(hits), f"{prefix}k {CHOSEN}"
    named = {**{f"{prefix}k={k}": hits[k] for k in sorted(hits)}, f"{prefix}{BEST}": hits[best]}
    records = [
        record
        for name, found in named.items()
        for record in hit_results(benchmark, data, context, name, found, n)
    ]
    records.append(context.result(benchmark, data, f"{prefix}{BEST}", "k", best, n))
    kept, held = divided(bank, p.held_out)
    fit = [k for k in ks if k <= len(kept.y)]
    few = "" if fit else f"{len(kept.y)} images are left to ask, fewer than k."
    if reason := unfit(bank.y.numpy(), p.held_out) or few:
        return [*records, *no_choice(benchmark, data, context, setting, reason)]
    held_votes = nearest_votes(kept, held, classes, fit, p.temperature, context.device)
    on_held_out = hits_of(held_votes, held.y)
    return [
        *records,
        *value_results(benchmark, data, context, setting, "k", hits, on_held_out, n),
    ]


@inference
def nearest_votes(
    bank: Features,
    test: Features,
    classes: int,
    ks: Sequence[int],
    temperature: float,
    device: torch.device,
) -> dict[int, Tensor]:
    """k -> classes by falling vote, int64 (N, min(5, classes)), -1 where nobody voted.

    Exact. One pass serves all ks: the nearest max(k) images are found once, sorted, and the votes
    of a smaller k are a prefix of those of a larger one.
    """
    import torch
    from torch.nn.functional import normalize

    from sslbench.benchmarks.neighbours import Bank

    ks = sorted(ks)
    if not ks:
        return {}
    bank_x, asked = normalize(bank.x.to(device)), normalize(test.x.to(device))
    similarity, index = Bank.of(bank_x, ks[-1]).nearest(asked, ks[-1])
    votes_of: dict[int, list[Tensor]] = {k: [] for k in ks}
    labels = bank.y.to(device)
    for near, found in zip(similarity.split(VOTERS), index.split(VOTERS), strict=True):
        weight, label = (near / temperature).exp(), labels[found]
        votes = weight.new_zeros(len(near), classes)
        for start, k in zip([0, *ks], ks, strict=False):
            votes.scatter_add_(1, label[:, start:k], weight[:, start:k])
            best = ranked(votes)
            votes_of[k].append(best.masked_fill(votes.gather(1, best) == 0, -1).cpu())
    return {k: torch.cat(parts) for k, parts in votes_of.items()}
