"""From a published-style mm config to the one config of one run: data, model, randomness, logs.

What is set here does not belong to the protocol (where files lie, which backbone is evaluated) or
follows from the backbone (channels, strides); everything else stays as the config says.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sslbench.benchmarks.dense import install
from sslbench.benchmarks.dense.backbone import map_shapes, taps
from sslbench.benchmarks.dense.reading import with_our_readers
from sslbench.checkpoints.load import LoadedModel
from sslbench.data.dense import DenseData, DenseSplit
from sslbench.data.rng import fitting
from sslbench.errors import UserError, nearest
from sslbench.recipes.discovery import check_unclaimed
from sslbench.recipes.load import benchmark_configs
from sslbench.result import digest

# how the names of configs end; patches of 14 are read as patches of 16 (`backbone`)
SIZES = {
    "ViT-Ti/16": "vitti16",
    "ViT-S/16": "vits16",
    "ViT-B/16": "vitb16",
    "ViT-L/16": "vitl16",
    "ViT-S/14": "vits16",
    "ViT-B/14": "vitb16",
    "ViT-L/14": "vitl16",
    "Swin-T/7": "swint",
    "Swin-T/14": "swint",
}
SCOPES = {"mmdet": "detection", "mmseg": "segmentation"}  # default_scope -> benchmark
PARTS = ("model", "train_dataloader", "test_dataloader", "train_cfg", "optim_wrapper")


def read_config(benchmark: str, name: str) -> Config:
    """The mm config `configs/<benchmark>/<name>.py`, or a .py file of the user's."""
    install()  # before inheritance is resolved
    check_unclaimed(f"{benchmark}/{name}")
    known = benchmark_configs(benchmark)
    path = Path(name) if name.endswith(".py") else known.get(name)
    if path is None or not path.is_file():
        raise UserError(f"unknown {benchmark} config {name!r}: {nearest(name, known)}.")
    return deepcopy(_read(path))


def is_for(benchmark: str, name: str) -> bool:
    """Whether a config's name, or a .py file of the user's, is for a benchmark.

    A file is for the benchmark that its folder is called like, else for the one of its
    `default_scope`. Raises UserError for a file that cannot be used.
    """
    if not name.endswith(".py"):
        return name in benchmark_configs(benchmark)
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--config {name}: there is no such file; check the path.")
    try:
        config = read_config(benchmark, name)
    except UserError:
        raise
    except Exception as error:  # it is a program of the user's
        raise UserError(
            f"--config {name} cannot be read, {type(error).__name__}: {error}; correct the file."
        ) from error
    folder, scope = path.resolve().parent.name, config.get("default_scope")
    owner = folder if folder in SCOPES.values() else SCOPES.get(scope)
    if owner is None:
        raise UserError(
            f"--config {name} does not say whether it is for detection or segmentation; set "
            "default_scope to 'mmdet' or 'mmseg' in it."
        )
    if lacks := [part for part in PARTS if part not in config]:
        raise UserError(f"--config {name} has no {' and no '.join(lacks)}; add what is missing.")
    kind = config.model.get("backbone", {}).get("type")
    if kind != "SSLBackbone":
        raise UserError(
            f"--config {name} has the backbone {kind!r}; set model.backbone.type='SSLBackbone'."
        )
    return owner == benchmark


@cache
def _read(path: Path) -> Config:
    return Config.fromfile(path, lazy_import=False)


def check_maps(model: LoadedModel) -> None:
    """UserError for a model that detection and segmentation cannot be built on."""
    if not model.backbone.dense:
        raise UserError("it gives no feature maps; a ViT or a Swin does")


def choose_config(data: DenseData, arch: str, kind: str, embedded: str) -> str:
    """The config's name for a dataset and an architecture.

    kind: how the configs' names begin, e.g. "coco"; embedded: the config of the embedded scenes.
    Relative positions (" rel") take the config of their size. UserError where there is none.
    """
    if data.embedded:
        return embedded
    if (size := arch.removesuffix(" rel")) not in SIZES:
        raise UserError(
            f"there is no config for {arch} on {data.name}, only for {', '.join(SIZES)}; name one "
            f"with --config NAME|FILE, such as --config {kind}_vits16."
        )
    return f"{kind}_{SIZES[size]}"


def config_hash(config: Config) -> str:
    """Hash of every value of a config, bases included."""
    return digest(json.loads(json.dumps(config.to_dict(), default=str)))


def prepare(config: Config, model: LoadedModel, data: DenseData, seed: int) -> Config:
    """`config` for one backbone on one dataset, ready to be written into a run directory."""
    blocks, weights = taps(model.backbone), {"source": model.source, "sha256": model.card.sha256}
    config.model.backbone.update(**weights, out_indices=blocks)
    maps = map_shapes(model.backbone, blocks, config.model.backbone.get("pyramid", True))
    config.model.data_preprocessor.update(
        mean=[255.0 * value for value in model.mean], std=[255.0 * value for value in model.std]
    )
    fit = {"coco": fit_detector, "ade20k": fit_segmenter}[data.kind]
    fit(config, maps, len(data.classes))
    _read_from(config.train_dataloader, data.kind, data.train, data.classes)
    _read_from(config.test_dataloader, data.kind, data.test, data.classes)
    for loader in ("train_dataloader", "test_dataloader"):
        config[loader] = with_our_readers(config[loader].to_dict(), data.kind)
    if data.kind == "coco":
        config.test_evaluator.update(ann_file=str(data.test.annotations), classwise=True)
    return _under_our_runner(config, seed)


def fit_detector(config: Config, maps: list[tuple[int, int]], classes: int) -> None:
    """Channels, strides and class counts; maps: (channels, stride), to which FPN adds a coarser."""
    strides = [stride for _, stride in maps]
    detector, heads = config.model, config.model.roi_head
    detector.neck.in_channels = [channels for channels, _ in maps]
    detector.rpn_head.anchor_generator.strides = [*strides, 2 * strides[-1]]
    for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
        extractor.featmap_strides = strides
    for head in (*heads.bbox_head, heads.mask_head):
        head.num_classes = classes


def fit_segmenter(config: Config, maps: list[tuple[int, int]], classes: int) -> None:
    """Channels and class counts; the linear head (no pyramid) is as wide as its maps together."""
    head, auxiliary = config.model.decode_head, config.model.get("auxiliary_head")
    channels = [channels for channels, _ in maps]
    head.update(in_channels=channels, num_classes=classes)
    if not config.model.backbone.get("pyramid", True):
        head.channels = sum(channels)
    if auxiliary:
        auxiliary.update(in_channels=channels[auxiliary.in_index], num_classes=classes)


def _read_from(loader: Any, kind: str, split: DenseSplit, classes: tuple[str, ...]) -> None:
    """Points a data loader at the files of one split and at the classes they hold."""
    images, labels, dataset = str(split.images), str(split.annotations), loader.dataset
    dataset.update(data_root="", metainfo={"classes": list(classes)})
    if kind == "coco":
        dataset.update(ann_file=labels, data_prefix={"img": images + "/"})
    else:
        dataset.update(type="PairedSegDataset", reduce_zero_label=True, ann_file=labels)
        dataset.pop("data_prefix", None)
    if loader.num_workers == 0:
        loader.persistent_workers = False


def _under_our_runner(config: Config, seed: int) -> Config:
    """Counter-based data, the step loop, one log, no validation while training."""
    train = config.train_dataloader
    by_aspect = "AspectRatio" in train.get("batch_sampler", {}).get("type", "")
    train.dataset = {"type": "SeededDataset", "dataset": train.dataset, "seed": seed}
    train.sampler = {"type": "StreamSampler", "seed": seed}
    train.batch_sampler = {"type": "MicroBatches", "accumulate": 1, "by_aspect": by_aspect}
    length = {k: v for k, v in config.train_cfg.items() if k in ("max_iters", "max_epochs")}
    config.train_cfg = dict(type="StepLoop", seed=seed, **length)
    for scheduler in config.param_scheduler:
        if scheduler.get("by_epoch", True):
            scheduler.convert_to_iter_based = True
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    quiet = ("runtime_info", "timer", "sampler_seed", "checkpoint", "logger")
    config.default_hooks = {**config.get("default_hooks", {}), **dict.fromkeys(quiet)}
    config.custom_hooks = [{"type": "RunLogHook"}]
    config.visualizer.vis_backends = []
    config.randomness = {"seed": fitting(seed, bits=32)}
    config.log_level = "WARNING"
    config.resume, config.load_from = False, None
    return Config(config.to_dict())
