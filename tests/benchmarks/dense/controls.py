"""Benchmarks that train a detector or a segmenter, run for real but in short, and wrong labels."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch

from sslbench.benchmark import Benchmark
from sslbench.checkpoints.load import load_backbone
from sslbench.data import ade20k, coco
from sslbench.data.dense import DenseData, DenseSplit
from sslbench.data.reading import upright_size
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.provenance import Provenance
from sslbench.recipes.load import benchmark_configs
from tests.benchmarks.fakes import figures

CPU = torch.device("cpu")
NANO = "random-init:vit_nano/8@64?seed=0"


def shortened(benchmark: str, name: str, folder: Path, steps: int) -> str:
    """A user's config file: the published one for `steps` steps at a rate that falls to zero."""
    lines = [
        f"_base_ = [{str(benchmark_configs(benchmark)[name])!r}]",
        f"train_cfg = dict(max_iters={steps})",
        "param_scheduler = [",
        '    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=10),',
        f'    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=10, end={steps}),',
        "]",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{steps}.py"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(benchmark: Benchmark, data: DenseData, folder: Path) -> dict[tuple[str, str], float]:
    """What the benchmark records of a ViT-Nano with fresh weights: (setting, metric) -> value."""
    model = load_backbone(NANO)
    context = EvalContext(model, 0, CPU, Provenance.here(CPU), work_dir=folder / data.name)
    (protocol,) = benchmark.protocols(model, data)
    records = type(benchmark)(protocol).run(model.backbone, data, context)
    return figures([r for r in records if r.model == model.card])


def label_maps(split: DenseSplit) -> list[Path]:
    """The label maps of a split, in the order in which they are read."""
    listed = json.loads(split.annotations.read_text())
    return [Path(listed["maps"]) / label for _, label in listed["pairs"]]


def misplaced(data: DenseData, folder: Path) -> DenseData:
    """`data` whose training labels are those of another image of the same size."""
    train, target = data.train, folder / "misplaced"
    folder.mkdir(parents=True, exist_ok=True)
    photos = sorted(train.images.glob("*.jpg"))
    following = {a.stem: b.stem for a, b in _pairs_of_equal_size(photos)}
    if data.kind == "coco":
        content = json.loads(train.annotations.read_text())
        numbers = {Path(entry["file_name"]).stem: entry["id"] for entry in content["images"]}
        moved = {numbers[a]: numbers[b] for a, b in following.items()}
        for entry in content["annotations"]:
            entry["image_id"] = moved[entry["image_id"]]
        target.write_text(json.dumps(content))
        checked = coco.check(train.images, target)
    else:
        target.mkdir()
        maps = {path.stem: path for path in label_maps(train)}
        for a, b in following.items():
            shutil.copyfile(maps[a], target / f"{b}.png")
        checked = ade20k.check(train.images, target)
    wrong = replace(train, annotations=checked.annotations)
    return replace(data, name=f"{data.name}-misplaced", train=wrong)


def _pairs_of_equal_size(photos: list[Path]) -> list[tuple[Path, Path]]:
    """Every image with the next one that is as wide and as high; the last with the first."""
    groups: dict[object, list[Path]] = defaultdict(list)
    for photo in photos:
        groups[upright_size(photo)].append(photo)
    return [pair for g in groups.values() for pair in zip(g, g[1:] + g[:1], strict=True)]
