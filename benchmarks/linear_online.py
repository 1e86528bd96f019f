"""Linear probe as the papers run it: augmented crops, the backbone in the loop, 45 learning rates.

Source: iBOT (arXiv:2111.07832) section 4.1, `ibot/evaluation/eval_linear_multi.py` with the
learning rates alone swept (its SGD, no weight decay); DINO's `eval_linear.py` is one of the rates.
`linear` is the fast form on cached features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sslbench.benchmark import Benchmark, Context, Cost, Splits
from sslbench.benchmarks.augmented import Online
from sslbench.benchmarks.blanks import one_class
from sslbench.benchmarks.linear import RATES
from sslbench.benchmarks.taps import Taps
from sslbench.result import Result

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from sslbench.backbones.base import Backbone
    from sslbench.checkpoints.load import LoadedModel


@dataclass(frozen=True)
class LinearOnlineProtocol:
    """rates: per 256 images of a batch; taps: features read for each pooling."""

    online: Online = field(default_factory=Online)
    rates: tuple[float, ...] = RATES
    momentum: float = 0.9
    pool: str = "cls"
    taps: Taps = field(default_factory=Taps)
    form: str = field(default="online, augmented crops", init=False)
    selection: str = field(
        default="best epoch and lr on the judged split; second, on held-out labels", init=False
    )


class LinearOnline(Benchmark):
    """Linear probe on augmented crops, the frozen backbone in the loop; resumed by epochs."""

    name = "linear_online"
    version = "2"
    suites = ("papers",)
    Protocol = LinearOnlineProtocol
    main = (("best of 45 lr", "top1"),)
    directions = {"top1": "higher", "top5": "higher"}
    headings = {("best of 45 lr", "top1"): "linear, online"}

    def cost(self, model: LoadedModel, data: Splits) -> Cost:
        """Every epoch passes all images through the backbone."""
        p = self.protocol
        width = p.taps.spec(model, p.pool).width(model.backbone)
        return p.online.cost(data, width * len(p.rates))

    def run(self, backbone: Backbone, data: Splits, context: Context) -> list[Result]:
        from torch.optim import SGD

        from sslbench.benchmarks.online import best_results, no_results, train
        from sslbench.evaluation.features import tap

        p = self.protocol
        spec, setting = p.taps.spec(context.model, p.pool), f"best of {len(p.rates)} lr"
        if reason := one_class(data):
            return no_results(self, data, context, setting, ("lr",), reason)

        def features(images: Tensor) -> list[Tensor]:
            return [tap(backbone, images, spec)] * len(p.rates)

        def optimiser(layers: nn.ModuleList, scale: float) -> Optimizer:
            groups = [
                {"params": layer.parameters(), "lr": rate * scale}
                for layer, rate in zip(layers, p.rates, strict=True)
            ]
            return SGD(groups, momentum=p.momentum)

        histories = train(features, optimiser, p.online, data, context)
        return best_results(self, data, context, setting, histories, {"lr": p.rates})
