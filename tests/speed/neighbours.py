"""k-NN of 5,000 queries among 200,000 features, for four k: DINO's evaluation, and faiss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslbench.benchmark import Features
from sslbench.benchmarks.knn import nearest_votes
from tests.speed.race import Race

KS, TEMPERATURE, CLASSES, WIDTH = (10, 20, 100, 200), 0.07, 1000, 384
BANK, QUERIES = 200_000, 5_000
Ranks = dict[int, Tensor]  # k -> the five best classes of each query
CPU = torch.device("cpu")


def race() -> Race:
    bank, test = normalised(BANK, 0), normalised(QUERIES, 1)
    ways: dict[str, Callable[[], Ranks]] = {
        "the official loop": lambda: {k: official(bank, test, k) for k in KS},
        "faiss": lambda: by_faiss(bank, test),
    }

    def ours() -> Ranks:
        return nearest_votes(bank, test, CLASSES, KS, TEMPERATURE, CPU)

    return Race(
        "knn",
        f"k-NN of {QUERIES:,} queries among {BANK:,} features of {WIDTH} numbers, k = {KS}",
        ours,
        ways,
        {"the official loop": 9, "faiss": 1.1},
        "queries",
        QUERIES,
        same_answers(ours(), [way() for way in ways.values()]),
    )


def normalised(n: int, seed: int) -> Features:
    """Features of overlapping classes, of length 1."""
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=rng)
    return Features(normalize(centres[y] + 4 * torch.randn(n, WIDTH, generator=rng)), y)


def same_answers(ours: Ranks, theirs: Sequence[Ranks]) -> str:
    """Raises ValueError where more than rounding lies between them."""
    for other in theirs:
        for k in KS:
            share = (ours[k][:, 0] == other[k][:, 0]).double().mean()
            if share < 0.9995:
                raise ValueError(f"k={k}: the first class differs for {1 - share:.3%}")
    return "the same first class for every k (but for ties by rounding)"


def official(bank: Features, test: Features, k: int, pieces: int = 100) -> Tensor:
    """As `knn_classifier` of dino/eval_knn.py does it, once for every k."""
    keys, found = bank.x.T, []
    one_hot = torch.zeros(k, CLASSES)
    for x in test.x.split(len(test.x) // pieces):
        distances, indices = (x @ keys).topk(k, largest=True, sorted=True)
        candidates = bank.y.view(1, -1).expand(len(x), -1)
        neighbours = candidates.gather(1, indices)
        one_hot.resize_(len(x) * k, CLASSES).zero_()
        one_hot.scatter_(1, neighbours.view(-1, 1), 1)
        weights = distances.clone().div_(TEMPERATURE).exp_()
        votes = (one_hot.view(len(x), -1, CLASSES) * weights.view(len(x), -1, 1)).sum(1)
        found.append(votes.sort(1, descending=True).indices[:, :5])
    return torch.cat(found)


def by_faiss(bank: Features, test: Features) -> Ranks:
    """An exact index, and votes that add up from one k to the next."""
    index = faiss.IndexFlatIP(WIDTH)
    index.add(bank.x.numpy())
    similarity, found = map(torch.from_numpy, index.search(test.x.numpy(), KS[-1]))
    weight, label = (similarity / TEMPERATURE).exp(), bank.y[found]
    votes, ranks = torch.zeros(len(test.x), CLASSES), {}
    for start, k in zip((0, *KS), KS, strict=False):
        votes.scatter_add_(1, label[:, start:k], weight[:, start:k])
        ranks[k] = votes.topk(5, dim=1).indices
    return ranks
