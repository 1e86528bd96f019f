"""The settings of probes that learn from augmented crops, see `online`."""

from __future__ import annotations

from dataclasses import dataclass, field

from sslbench.benchmark import Cost, Splits
from sslbench.benchmarks.selection import SHARE
from sslbench.data.subsets import held_out


@dataclass(frozen=True)
class Online:
    """scale: of the crops, as shares of an image's area; flip: probability; batch: at most a tenth
    of the training images; init_std: of the weights, the bias starts at 0; held_out: share of every
    class's training images that choose a second time: a second set of layers learns side by side
    with the first, from the same crops in the same order without these images, and is evaluated on
    their centre crops.

    The learning rate falls with a cosine, epoch by epoch, to 0. No warm-up.
    """

    epochs: int = 100
    batch: int = 1024
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    init_std: float = 0.01
    held_out: float = SHARE
    interpolation: str = field(default="bilinear", init=False)

    def cost(self, data: Splits, features: int) -> Cost:
        """Of `online.train`; features: read by all layers together.

        Images that are evaluated pass once, as their features are kept.
        """
        assert data.train.labels is not None, "splits have labels"
        held = len(held_out(data.train.labels, self.held_out)[1])
        seen = self.epochs * len(data.train)
        images = seen + len(data.test) + held
        sets = 2 if held else 1
        return Cost(forward=images, flops=6.0 * sets * seen * features * len(data.classes))
