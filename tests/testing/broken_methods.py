"""A sound method as small as can be, and methods that each break one promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch

from sslbench.data.views import PlainCrop, PlainCropConfig
from sslbench.method import Method, Sample
from sslbench.settings import setting


def small_crop() -> PlainCropConfig:
    return PlainCropConfig(size=32)


@dataclass(frozen=True)
class Config:
    weight: Annotated[float, setting("of the loss", gt=0, le=10)] = 1.0
    views: PlainCropConfig = field(default_factory=small_crop)


class Sound(Method):
    """Predicts the mean colour of a crop from its [CLS] token."""

    name = "Sound"
    Config = Config

    def __init__(self, config, make_backbone) -> None:
        super().__init__(config, make_backbone)
        self.config = config
        self.network = make_backbone()
        self.decoder = torch.nn.Linear(self.network.embed_dim, 3)

    @classmethod
    def views(cls, config, patch_size):
        return PlainCrop(config.views)

    def loss(self, batch, progress):
        images = batch.images("image")[0]
        error = self.decoder(self.network(images).cls) - images.mean(dim=(2, 3))
        return {"loss": self.config.weight * error.square().mean()}

    def backbone(self):
        return self.network


class Stranger(Sound):
    name = "stranger"  # no entry point


class Mutable(Sound):
    name = "Mutable"

    @dataclass
    class Config:
        views: PlainCropConfig = field(default_factory=small_crop)


@dataclass(frozen=True)
class UnboundedConfig:
    weight: float = 1.0


class Unbounded(Sound):
    name = "Unbounded"
    Config = UnboundedConfig


class Pooled(Sound):
    name = "Pooled"
    poolings = ("max",)


class Lambda(Sound):
    name = "Lambda"

    @classmethod
    def views(cls, config, patch_size):
        crop = PlainCrop(config.views)
        return lambda image, rng, epoch: crop(image, rng, epoch)


@dataclass(frozen=True)
class GlobalCrop:
    def __call__(self, image, rng, epoch):
        noise = np.random.randint(0, 256, (1, 3, 32, 32), np.uint8)  # noqa: NPY002
        return Sample({"image": noise})


class Global(Sound):
    name = "Global"

    @classmethod
    def views(cls, config, patch_size):
        return GlobalCrop()


@dataclass(frozen=True)
class FloatCrop:
    def __call__(self, image, rng, epoch):
        return Sample({"image": np.zeros((1, 3, 32, 32), np.float32)})


class Floats(Sound):
    name = "Floats"

    @classmethod
    def views(cls, config, patch_size):
        return FloatCrop()


class Keyless(Sound):
    name = "Keyless"

    def loss(self, batch, progress):
        return {"cost": super().loss(batch, progress)["loss"]}


class Infinite(Sound):
    name = "Infinite"

    def loss(self, batch, progress):
        return {"loss": super().loss(batch, progress)["loss"] / 0.0}


class Detached(Sound):
    name = "Detached"

    def loss(self, batch, progress):
        return {"loss": super().loss(batch, progress)["loss"].detach()}


class Random(Sound):
    name = "Random"

    def loss(self, batch, progress):
        noise = float(np.random.default_rng().random())
        return {"loss": super().loss(batch, progress)["loss"] * (1 + noise)}


class Stateful(Sound):
    """Keeps what its loss depends on outside of its state."""

    name = "Stateful"

    def __init__(self, config, make_backbone) -> None:
        super().__init__(config, make_backbone)
        self.factor = float(torch.rand(())) + 1

    def loss(self, batch, progress):
        return {"loss": super().loss(batch, progress)["loss"] * self.factor}


class Tied(Sound):
    """Compares the images of a batch and does not say so."""

    name = "Tied"

    def loss(self, batch, progress):
        cls = self.decoder(self.network(batch.images("image")[0]).cls)
        return {"loss": (cls - cls.mean(dim=0)).square().mean()}


class Remembering(Sound):
    """Keeps what the loss leaves behind outside of what the trainer puts back."""

    name = "Remembering"

    def __init__(self, config, make_backbone) -> None:
        super().__init__(config, make_backbone)
        self.register_buffer("seen", torch.zeros(()))
        self.pending = 0.0

    def loss(self, batch, progress):
        self.pending += len(batch)
        return super().loss(batch, progress)

    def after_step(self, progress):
        self.seen.fill_(self.pending)


class Still(Sound):
    """Exports a copy that nothing trains."""

    name = "Still"

    def __init__(self, config, make_backbone) -> None:
        super().__init__(config, make_backbone)
        self.copy = make_backbone().requires_grad_(False)

    def backbone(self):
        return self.copy


class Forgetful(Sound):
    """What it draws in training depends on how long the process has run."""

    name = "Forgetful"

    def __init__(self, config, make_backbone) -> None:
        super().__init__(config, make_backbone)
        self.first = None

    def loss(self, batch, progress):
        self.first = progress.step if self.first is None else self.first
        steps = progress.step - self.first
        return {"loss": super().loss(batch, progress)["loss"] * (1 + 5 * steps)}


BROKEN = {
    "Stranger": "a method has an entry point of its name",
    "Mutable": "Config is a frozen dataclass",
    "Unbounded": r"every number in Config has bounds; method\.weight has none",
    "Pooled": "`poolings` is a tuple of",
    "Lambda": "views are picklable",
    "Global": r"views depend on \(image, rng, epoch\) alone",
    "Floats": r"crops are uint8 \(V, 3, H, W\); 'image' is float32",
    "Keyless": 'has the key "loss"',
    "Infinite": "every value of `loss` is finite; 'loss' is inf",
    "Detached": '"loss" has a gradient',
    "Random": "the same seed gives the same loss",
    "Stateful": "`state_dict` holds everything that the loss depends on",
    "Tied": "two micro-batches give the gradient of the whole batch",
    "Remembering": "what a step moves is in buffers and parameters",
    "Still": "training moves what `backbone\\(\\)` exports",
    "Forgetful": "a run that is resumed ends with the weights",
}
NAMES = ["Sound", *(name for name in BROKEN if name != "Stranger")]
