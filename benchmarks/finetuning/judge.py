"""Evaluates a classifier between the epochs of its training, as the official code does.

Every process evaluates a share of the images; the hits are those of all. What is computed is
float32, without augmentation: Resize and CenterCrop as the recipe says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sslbench.benchmarks.finetuning.names import COUNT, HITS1, HITS5
from sslbench.benchmarks.topk import count_hits, ranked
from sslbench.data.dataset import BrokenLog, ImageDataset
from sslbench.data.transform import EvalTransform
from sslbench.evaluation.features import batches, warn_dropped
from sslbench.system.products import FastProducts
from sslbench.training.run import Run


class Judge:
    """Counts hits on `parts` (name -> labelled images) after every few epochs and the last step."""

    def __init__(self, run: Run, parts: Mapping[str, ImageDataset], every: int = 1) -> None:
        self.run, self.parts, self.steps = run, parts, every * run.steps_per_epoch
        self.broken = {name: BrokenLog(part) for name, part in parts.items()}

    def sentence(self) -> str:
        """See `Watch.sentence`."""
        names = " and ".join(f"{len(part)} {name} images" for name, part in self.parts.items())
        epochs = self.steps // self.run.steps_per_epoch
        often = "every epoch" if epochs == 1 else f"every {epochs} epochs"
        return f"evaluated on {names} after {often}"

    def recall(self, lines: Iterable[Mapping[str, float]]) -> None:
        """See `Watch.recall`: it measures nothing at the start."""

    def due(self, step: int) -> bool:
        """See `Watch.due`."""
        return step % self.steps == 0 or step == self.run.total_steps

    def values(self, step: int, log_every: int, total_steps: int) -> dict[str, float]:
        """See `Watch.values`; keys are "PART NAME metric", NAME of the weights (see `logits`)."""
        if not self.due(step):
            return {}
        method: Any = self.run.method
        method.eval()
        try:
            return {k: v for name, part in self.parts.items() for k, v in self._hits(name, part)}
        finally:
            method.train()

    @torch.no_grad()
    def _hits(self, name: str, part: ImageDataset) -> list[tuple[str, float]]:
        run, method = self.run, self.run.method
        views, data = run.recipe.method.views, run.recipe.data
        ratio = views.test_crop_ratio or part.crop_ratio
        transform = EvalTransform(views.size, ratio, data.mean, data.std, views.test_interpolation)
        shard = part.subset(np.arange(run.world.rank, len(part), run.world.size), part.name)
        labels = torch.from_numpy(part.labels[run.world.rank :: run.world.size].copy())
        found: dict[str, Tensor] = {}
        seen, broken = [], {}
        for pixels, index, bad in batches(shard, transform):
            seen += index
            broken |= bad
            if not index:
                continue
            images = transform.normalise(pixels.to(run.world.device, non_blocking=True))
            with FastProducts():
                scores = method.logits(images)
            for weights, logits in scores.items():
                hits = torch.tensor(_count(logits.cpu(), labels[index]))
                found[weights] = found.get(weights, 0) + hits
        count = self._agree(name, seen, broken, found)
        return [
            (" ".join(filter(None, (name, weights, metric))), float(value))
            for weights, hits in found.items()
            for metric, value in zip((HITS1, HITS5, COUNT), [*hits.tolist(), count], strict=True)
        ]

    def _agree(
        self,
        name: str,
        seen: list[int],
        broken: Mapping[int, str],
        found: Mapping[str, Tensor],
    ) -> int:
        """Sums `found` over all processes; the number of images read, UserError for too few.

        Those that cannot be read are named once.
        """
        rank, size = self.run.world.rank, self.run.world.size
        own = ([i * size + rank for i in seen], {i * size + rank: t for i, t in broken.items()})
        every = [own] * size
        if size > 1:
            dist.all_gather_object(every, own)
            for hits in found.values():
                total = hits.to(self.run.world.device)
                dist.all_reduce(total)
                hits.copy_(total)
        read = [i for indices, _ in every for i in indices]
        bad = {i: text for _, texts in every for i, text in texts.items()}
        dropped = self.broken[name].record(read, bad, complete=True)
        if self.run.world.main:
            warn_dropped(self.parts[name].name, dropped)
        return len(read)


def _count(logits: Tensor, y: Tensor) -> tuple[int, int]:
    """Top-1 and top-5 hits of (B, K); an image whose logits are not finite has none."""
    return count_hits(ranked(logits), torch.where(logits.isfinite().all(1), y, -1))
