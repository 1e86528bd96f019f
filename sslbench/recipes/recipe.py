"""The sections of a recipe: every setting with its meaning and bounds.

`method`, `backbone`, `data`, `optim`, `train` and `init` decide the result; `run` must not; `needs`
names the frozen modules a method is given; `about` is for readers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from sslbench.backbones.config import BackboneConfig
from sslbench.settings import Epochs, Share, setting

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DataConfig:
    """ "imagenet-1k" and "imagenet-22k" stand for a folder that the user has to give."""

    source: Annotated[
        str,
        setting(
            "shapes, digits, torchvision:NAME, a folder of images or a list file", min_length=1
        ),
    ] = "shapes"
    split: Annotated[str, setting("train, validation or test", min_length=1)] = "train"
    mean: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...],
        setting("taken from red, green and blue in [0, 1]", min_length=3, max_length=3),
    ] = IMAGENET_MEAN
    std: Annotated[
        tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...],
        setting("what red, green and blue are divided by then", min_length=3, max_length=3),
    ] = IMAGENET_STD
    share: Annotated[
        Share,
        setting("share of each class's images that is used: as listed beside them, else drawn"),
    ] = 1.0
    held_out: Annotated[
        float, setting("share of each class's used images that is not trained on", ge=0, lt=1)
    ] = 0.0


Beta = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with cosine schedules.

    scale_lr: as DINO and iBOT, BEiT's is absolute. clip_by: "tensor" as DINO and iBOT, "global" as
    BEiT. schedule: of the learning rate; "step" as all three papers' pretraining and BEiT's and
    iBOT's fine-tuning, "epoch" as DeiT and iBOT's evaluation/eval_cls.py.
    """

    lr: Annotated[float, setting("peak learning rate, before scale_lr", gt=0, le=1e3)] = 5e-4
    scale_lr: Annotated[bool, setting("whether lr is multiplied by batch_size / 256")] = True
    min_lr: Annotated[float, setting("final learning rate, never scaled", ge=0, le=1e3)] = 1e-6
    warmup_epochs: Annotated[
        Epochs, setting("linear rise of the learning rate from warmup_lr", "epochs")
    ] = 10.0
    warmup_lr: Annotated[
        float, setting("learning rate at the start of the warm-up, never scaled", ge=0, le=1e3)
    ] = 0.0
    schedule: Annotated[
        Literal["step", "epoch"], setting("how often the learning rate changes")
    ] = "step"
    layer_decay: Annotated[
        Share, setting("factor of the learning rate from each layer to the one before it")
    ] = 1.0
    weight_decay: Annotated[float, setting("weight decay at the start", ge=0, le=1e6)] = 0.04
    weight_decay_end: Annotated[float, setting("weight decay at the end", ge=0, le=1e6)] = 0.4
    no_decay: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        setting("name endings without decay, besides biases and 1-D tensors"),
    ] = ()
    clip: Annotated[
        float | None, setting("largest gradient norm; 0 or None: off", ge=0, le=1e6)
    ] = 3.0
    clip_by: Annotated[
        Literal["tensor", "global"], setting("the norm of each tensor, or of all together")
    ] = "tensor"
    betas: Annotated[tuple[Beta, Beta], setting("AdamW's decay of its two averages")] = (0.9, 0.999)


@dataclass(frozen=True)
class TrainConfig:
    """Settings that decide the result, besides the method, the backbone and the optimiser."""

    epochs: Annotated[float, setting("passes over the data", gt=0, le=1e6)] = 100.0
    batch_size: Annotated[
        int,
        setting(
            "images of an optimiser step, over all processes and micro-batches", ge=1, le=2**20
        ),
    ] = 1024
    accumulate: Annotated[int, setting("micro-batches of an optimiser step", ge=1)] = 1
    repeats: Annotated[
        int,
        setting(
            "differently augmented copies of each image; the steps of an epoch stay", ge=1, le=1024
        ),
    ] = 1
    seed: Annotated[int, setting("seed of weights, order, crops, masks and drop path", ge=0)] = 0
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], setting("auto: bf16 where the hardware multiplies it")
    ] = "auto"
    low_precision_needs: Annotated[
        bool, setting("a tokenizer may compute in bf16 on a CPU too: faster, a few other codes")
    ] = False
    compile: Annotated[
        bool, setting("blocks by torch.compile, for GPUs: faster after minutes at the start")
    ] = False


def peak_lr(optim: OptimConfig, train: TrainConfig) -> float:
    """The learning rate after warm-up, scaled linearly with the batch if the recipe says so."""
    return optim.lr * train.batch_size / 256 if optim.scale_lr else optim.lr


@dataclass(frozen=True)
class RunConfig:
    """Settings that must not change the result."""

    workers: Annotated[
        int, setting("processes that load images, 0: the training one", ge=0, le=4096)
    ] = 8
    threads: Annotated[int, setting("threads of torch, 0: as torch chooses", ge=0, le=4096)] = 0
    log_every: Annotated[int, setting("from one line of the log to the next", "steps", ge=1)] = 20
    save_every: Annotated[int, setting("from one checkpoint to the next", "steps", ge=1)] = 500
    save_minutes: Annotated[
        float, setting("longest time without a checkpoint", "minutes", ge=0, le=1e9)
    ] = 15.0
    export_every: Annotated[
        float,
        setting("from one file of weights to the next, 0: the last alone", "epochs", ge=0, le=1e6),
    ] = 0.0
    watch_every: Annotated[
        int,
        setting("from one measurement of what is learnt to the next, 0: none", "steps", ge=0),
    ] = 100
    tracker: Annotated[
        Literal["tensorboard", "wandb", "mlflow"], setting("where curves go besides log.jsonl")
    ] = "tensorboard"


@dataclass(frozen=True)
class About:
    """Information about a recipe, for readers; it decides nothing.

    dataset, images: the data it is made for; paper: where it comes from; expected: published
    figures as (benchmark, metric, value, source), spelt as in results/published.csv.
    """

    dataset: str = ""
    images: Annotated[int, setting("images of the dataset", ge=0)] = 0
    paper: str = ""
    expected: tuple[tuple[str, str, float, str], ...] = ()
    notes: str = ""


@dataclass(frozen=True)
class Budget:
    """How a recipe adapts to the size of its data; `fitting` turns this into plain settings."""

    images: Annotated[
        int, setting("seen in all, each as often as it is seen; 0: the recipe as it stands", ge=0)
    ] = 0
    epochs: Annotated[float, setting("at most", "epochs", gt=0, le=1e6)] = 400.0
    batches: Annotated[int, setting("of an epoch, at least; smaller ones if need be", ge=1)] = 4
    shares: Annotated[
        tuple[tuple[str, Share], ...], setting("settings that are this share of the epochs")
    ] = ()
    starts: Annotated[tuple[tuple[str, Share], ...], setting("the same, in whole epochs")] = ()
    gpu: Annotated[tuple[str, ...], setting("changes as of --set where there is a GPU")] = ()


@dataclass(frozen=True)
class InitConfig:
    """Weights that training starts from instead of fresh ones.

    heads "keep" also takes projection heads, centres and BEiT's classifier of codes, where the
    source has them.
    """

    source: Annotated[
        str, setting("weights to start from, as of `evaluate --model`; empty: fresh weights")
    ] = ""
    heads: Annotated[
        Literal["keep", "new"], setting("whether the source's heads are kept or made anew")
    ] = "keep"


TRAINED = "train:"  # of a needed module's source: to be trained first, on the same data, as named


@dataclass(frozen=True)
class Recipe:
    """A complete pretraining run; `method` is the method's own frozen Config."""

    name: str
    method_name: str
    method: Any
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    run: RunConfig = field(default_factory=RunConfig)
    needs: dict[str, str] = field(default_factory=dict)
    about: About = field(default_factory=About)
    budget: Budget = field(default_factory=Budget)
    init: InitConfig = field(default_factory=InitConfig)

    def to_train_first(self) -> dict[str, str]:
        """Kind of each module that is trained before the run -> the config that does it."""
        sources = self.needs.items()
        return {k: s.removeprefix(TRAINED) for k, s in sources if s.startswith(TRAINED)}

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, the inverse of `recipe_from_dict`."""
        values = dataclasses.asdict(self)
        values["method"] = {"name": values.pop("method_name"), **values["method"]}
        return values


SECTIONS = {"backbone": BackboneConfig, "data": DataConfig, "optim": OptimConfig}
SECTIONS |= {"train": TrainConfig, "run": RunConfig, "about": About, "budget": Budget}
SECTIONS |= {"init": InitConfig}
