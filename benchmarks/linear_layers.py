"""BEiT's linear probe: a classifier on every block, the best block reported.

Source: `beit/run_linear_eval.py` ([CLS] beside the mean patch of each block, no final norm, AdamW,
100 epochs); the paper (arXiv:2106.08254) reports the mean patch after 50 epochs (disagreement D16:
`LinearLayersProtocol(online=Online(epochs=50), pool="mean")`), the 9th block of ViT-B and the 14th
of ViT-L. The code reads the backbone in half precision, we in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost, FeatureSpec, Splits
from sslbench.benchmarks.augmented import Online
from sslbench.benchmarks.blanks import one_class
from sslbench.result import Result

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel


@dataclass(frozen=True)
class LinearLayersProtocol:
    """rate: per 256 images of a batch, hence 4e-3 at 1024; pool, norm: as in `FeatureSpec`."""

    online: Online = field(default_factory=Online)
    rate: float = 1e-3
    weight_decay: float = 1e-4
    pool: str = "cls+mean"
    norm: bool = False
    selection: str = field(
        default="best epoch and block on the judged split; second, on held-out labels", init=False
    )


class LinearLayers(Benchmark):
    """Linear probe of every block; "block" counts from 1."""

    name = "linear_layers"
    version = "2"
    suites = ("papers",)
    Protocol = LinearLayersProtocol
    main = (("best block", "top1"),)
    directions = {"top1": "higher", "top5": "higher"}
    headings = {("best block", "top1"): "linear, best block"}

    def protocols(self, model: LoadedModel, data: Splits) -> list[LinearLayersProtocol]:
        """One: the features are the protocol's, whatever the method is evaluated with elsewhere."""
        return [self.protocol]

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """Every epoch passes all images through the backbone."""
        p = self.protocol
        width = FeatureSpec(1, p.pool, p.norm).width(model.backbone)
        return p.online.cost(data, width * model.backbone.depth)

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        from torch.optim import AdamW

        from sslbench.benchmarks.online import best_results, no_results, train
        from sslbench.evaluation.features import combine, tap_blocks

        p = self.protocol
        spec = FeatureSpec(1, p.pool, p.norm)
        if reason := one_class(data):
            return no_results(self, data, context, "best block", ("block",), reason)

        def features(images: Tensor) -> list[Tensor]:
            blocks = tap_blocks(backbone, images, backbone.depth, spec.normed)
            return [combine([b.cls], b.patches.mean(dim=1), spec).float() for b in blocks]

        def optimiser(layers: nn.ModuleList, scale: float) -> Optimizer:
            return AdamW(layers.parameters(), p.rate * scale, weight_decay=p.weight_decay)

        histories = train(features, optimiser, p.online, data, context)
        blocks = range(1, histories[0].hits.shape[1] + 1)
        return best_results(self, data, context, "best block", histories, {"block": blocks})
