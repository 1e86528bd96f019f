"""COCO-style object detection and instance segmentation: Cascade Mask R-CNN on the backbone.

Source: iBOT (arXiv:2111.07832) section 4.2.1 and appendix D, BEiT's and iBOT's
`evaluation/object_detection`; the recipe is `configs/detection/<config>.py`. The backbone is tuned
end to end; AP is pycocotools' through mmdet's CocoMetric, in percent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost
from sslbench.benchmarks.dense.installation import LIBRARIES, diagnosis
from sslbench.result import Result

if TYPE_CHECKING:
    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel
    from sslbench.data.dense import DenseData

# mmdet's names -> the papers': ^b = boxes, ^m = masks, S/M/L = small, medium, large objects
SUFFIXES = {"": "", "_50": "_50", "_75": "_75", "_s": "_S", "_m": "_M", "_l": "_L"}
METRICS = {
    f"coco/{kind}_mAP{ours}": f"AP^{letter}{papers}"
    for kind, letter in (("bbox", "b"), ("segm", "m"))
    for ours, papers in SUFFIXES.items()
}
# what mmdet leaves unsaid when there is no detection at all
NOTHING_DETECTED = {name: 0.0 for name in METRICS if name[-2:] not in ("_s", "_m", "_l")}


@dataclass(frozen=True)
class DetectionProtocol:
    """config: name below configs/detection/ or a .py file; config_hash: of all its values."""

    config: str = ""
    config_hash: str = ""


class Detection(Benchmark):
    """Cascade Mask R-CNN, tuned end to end: AP of boxes (AP^b) and of masks (AP^m)."""

    name = "detection"
    version = "1"
    kind = "coco"
    apart = True
    suites = ("full", "dense")
    libraries = LIBRARIES
    Protocol = DetectionProtocol
    main = (("", "AP^b"), ("", "AP^m"))
    directions = dict.fromkeys(METRICS.values(), "higher")
    headings = {("", "AP^b"): "AP^b", ("", "AP^m"): "AP^m"}

    diagnosis = staticmethod(diagnosis)

    def configured(self, config: str) -> Detection | None:
        """This benchmark set to a config of configs/detection or a .py file for mmdet."""
        from sslbench.benchmarks.dense.prepare import is_for

        if not is_for(self.name, config):
            return None
        return self.under(replace(self.protocol, config=config))

    def protocols(self, model: LoadedModel, data: DenseData) -> list[DetectionProtocol]:
        """The config made for the data and the architecture."""
        from sslbench.benchmarks.dense.prepare import (
            check_maps,
            choose_config,
            config_hash,
            read_config,
        )

        check_maps(model)
        name = self.protocol.config or choose_config(data, model.card.arch, "coco", "shapes")
        protocol = replace(self.protocol, config=name)
        return [replace(protocol, config_hash=config_hash(read_config(self.name, name)))]

    def cost(self, model: LoadedModel, data: DenseData) -> Cost:
        """Training and testing, as long as the config says."""
        from sslbench.benchmarks.dense.cost import run_cost
        from sslbench.benchmarks.dense.prepare import read_config

        return run_cost(read_config(self.name, self.protocol.config), model, data)

    def run(self, backbone: Backbone, data: DenseData, context: Context) -> list[Result]:
        from sslbench.benchmarks.dense.job import train_and_test
        from sslbench.benchmarks.dense.prepare import prepare, read_config

        config = read_config(self.name, self.protocol.config)
        metrics = train_and_test(prepare(config, context.model, data, context.seed), context)
        scores = metrics or NOTHING_DETECTED
        return [
            context.result(self, data, "", METRICS[name], 100 * value, data.test.count)
            for name, value in scores.items()
            if name in METRICS and value >= 0  # pycocotools: -1 where no object has the size
        ]
