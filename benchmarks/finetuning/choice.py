"""Which configs of `configs/finetune` fine-tune a model on a dataset, where the user names none.

The published one for the method, architecture and dataset, where there is one; else one for the
embedded set, or for any folder, whose classifier reads what the model's authors read.
"""

from __future__ import annotations

from collections.abc import Iterator

from sslbench.benchmark import Splits
from sslbench.benchmarks.finetuning.recipes import BENCHMARK, first_layer
from sslbench.checkpoints.floors import RANDOM
from sslbench.checkpoints.load import LoadedModel
from sslbench.recipes.load import benchmark_configs

EMBEDDED = "shapes"
SIZES = {"ViT-S/16": "vits16", "ViT-B/16": "vitb16", "ViT-L/16": "vitl16"}
# how the name of a dataset ends -> how the names of its configs begin
SETS = {
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "Flowers102": "flowers",
    "StanfordCars": "cars",
    "iNaturalist-2018": "inat18",
    "iNaturalist-2019": "inat19",
}
# ImageNet-1K is known by its classes and by more training images than this
IN1K_CLASSES, IN1K_IMAGES = 1000, 1_000_000
TUNED = "labels"  # in the pretraining data of a released file that was fine-tuned
SCRATCH = "scratch"  # in the name of a config that trains from scratch


def configs_for(model: LoadedModel, data: Splits, share: float) -> list[str]:
    """Names of configs; fresh weights are tuned as the others are, and trained from scratch.

    share: of the labels.
    """
    known = benchmark_configs(BENCHMARK)
    fresh = model.card.method == RANDOM
    names = [
        next((n for n in _published(model, data, share) if n in known), _own(model, data, share))
    ]
    if fresh and share == 1:
        place = EMBEDDED if data.source == EMBEDDED else "folder"
        deit = f"{SCRATCH}_deit_{SIZES.get(model.card.arch, '')}"
        names.append(deit if _is_imagenet(data) and deit in known else f"{place}_{SCRATCH}")
    return names


def is_scratch(config: str) -> bool:
    """Whether a config trains from scratch."""
    return SCRATCH in config.split("_")


def _published(model: LoadedModel, data: Splits, share: float) -> Iterator[str]:
    """Names that a published config for this model and these data would have, the best first."""
    size = SIZES.get(model.card.arch.removesuffix(" rel"))
    if size is None:
        return
    if _is_imagenet(data):
        if share < 1:
            plain = "" if first_layer(model) else "_plain"
            yield f"semi{round(100 * share)}_{size}{plain}"
        else:
            first = "in22k" if "22k" in model.card.pretrain_data.casefold() else "in1k"
            if TUNED in model.card.pretrain_data:  # on ImageNet-22K, so this is the second stage
                yield f"{first}_{model.card.method}_{size}_second"
            yield f"{first}_{model.card.method}_{size}"
            yield f"in1k_{model.card.method}_{size}"
    elif share == 1:
        ending = data.name.rpartition(":")[2].partition("?")[0]
        yield from (f"{place}_{size}" for name, place in SETS.items() if ending == name)


def _own(model: LoadedModel, data: Splits, share: float) -> str:
    """The config of ours: for the embedded set, or for any folder."""
    place = EMBEDDED if data.source == EMBEDDED else "folder"
    token = "mean" if "mean" in model.poolings and model.card.method != RANDOM else "cls"
    if share == 1:
        return f"{place}_{token}"
    return f"{place}_few_{'head' if token == 'cls' and first_layer(model) else token}"


def _is_imagenet(data: Splits) -> bool:
    return len(data.classes) == IN1K_CLASSES and len(data.train) > IN1K_IMAGES
