"""ADE20K-style semantic segmentation: UPerNet end to end, and a linear layer on frozen features.

Source: iBOT (arXiv:2111.07832) section 4.2.1 and appendix D ("task layer" = linear), BEiT's and
iBOT's `evaluation/semantic_segmentation`; the recipes are `configs/segmentation/<config>.py`.
mIoU, mAcc and aAcc are mmseg's IoUMetric, in percent, over all pixels that are labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost
from sslbench.benchmarks.dense.installation import LIBRARIES, diagnosis
from sslbench.result import ModelCard, Result

if TYPE_CHECKING:
    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel
    from sslbench.data.dense import DenseData

METRICS = ("mIoU", "mAcc", "aAcc")
HEADS = {"upernet": "UPerNet", "linear": "linear"}
FLOOR = ModelCard(sha256="all-background", method="all-background", arch="none")


@dataclass(frozen=True)
class SegmentationProtocol:
    """head: "upernet" or "linear"; config: name below configs/segmentation/ or a .py file."""

    head: str = ""
    config: str = ""
    config_hash: str = ""


class Segmentation(Benchmark):
    """UPerNet tuned end to end, and a linear layer on frozen features: mIoU, mAcc, aAcc.

    Their floor is not 0: the mIoU of calling every pixel the most frequent class is recorded too.
    """

    name = "segmentation"
    version = "1"
    kind = "ade20k"
    apart = True
    suites = ("full", "dense")
    libraries = LIBRARIES
    Protocol = SegmentationProtocol
    main = (("UPerNet", "mIoU"), ("linear", "mIoU"))
    directions = dict.fromkeys(METRICS, "higher")
    headings = {("UPerNet", "mIoU"): "mIoU, UPerNet", ("linear", "mIoU"): "mIoU, linear"}

    diagnosis = staticmethod(diagnosis)

    @property
    def variant(self) -> str:
        return HEADS.get(self.protocol.head, "")

    def configured(self, config: str) -> Segmentation | None:
        """This benchmark set to a config of configs/segmentation or a .py file for mmseg.

        Its head is the linear one where the config freezes the backbone.
        """
        from sslbench.benchmarks.dense.prepare import is_for, read_config

        if not is_for(self.name, config):
            return None
        frozen = read_config(self.name, config).model.backbone.get("frozen", False)
        head = "linear" if frozen else "upernet"
        return self.under(replace(self.protocol, head=head, config=config))

    def protocols(self, model: LoadedModel, data: DenseData) -> list[SegmentationProtocol]:
        """One per head, with the config made for the data and the architecture."""
        from sslbench.benchmarks.dense.prepare import (
            check_maps,
            choose_config,
            config_hash,
            read_config,
        )

        check_maps(model)
        chosen: list[SegmentationProtocol] = []
        for head in [self.protocol.head] if self.protocol.head else HEADS:
            name = self.protocol.config or choose_config(
                data, model.card.arch, f"ade20k_{head}", f"shapes_{head}"
            )
            content_hash = config_hash(read_config(self.name, name))
            chosen.append(replace(self.protocol, head=head, config=name, config_hash=content_hash))
        return chosen

    def cost(self, model: LoadedModel, data: DenseData) -> Cost:
        """Training and testing, as long as the config says."""
        from sslbench.benchmarks.dense.cost import run_cost
        from sslbench.benchmarks.dense.prepare import read_config

        return run_cost(read_config(self.name, self.protocol.config), model, data)

    def run(self, backbone: Backbone, data: DenseData, context: Context) -> list[Result]:
        from sslbench.benchmarks.dense.job import train_and_test
        from sslbench.benchmarks.dense.prepare import prepare, read_config

        config, setting = read_config(self.name, self.protocol.config), HEADS[self.protocol.head]
        floor = background_miou(data.test.pixels)
        metrics = train_and_test(prepare(config, context.model, data, context.seed), context)
        records = [
            context.result(self, data, setting, metric, metrics[metric], data.test.count)
            for metric in METRICS
        ]
        count = data.test.count
        return [*records, context.result(self, data, setting, "mIoU", floor, count, model=FLOOR)]


def background_miou(pixels: Sequence[int]) -> float:
    """mIoU in percent of calling every pixel the most frequent class.

    pixels: of each class, not all 0. That class has as IoU its share of the labelled pixels; the
    others that occur have 0.
    """
    return 100 * max(pixels) / sum(pixels) / sum(n > 0 for n in pixels)
