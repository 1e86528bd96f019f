"""Detectors and segmenters small enough to be trained in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from sslbench.benchmarks.dense.prepare import prepare, read_config
from sslbench.checkpoints.load import load_backbone
from sslbench.data.dense import DenseData, open_scenes
from sslbench.data.scenes import ScenesConfig
from sslbench.storage.sealed import load_checked_json
from sslbench.training.log import read_log
from tests.benchmarks.dense.controls import label_maps

SCENES = ScenesConfig(image_size=96, train=12, validation=2, test=6)
DETECTOR, UPERNET = ("detection", "shapes"), ("segmentation", "shapes_upernet")
LINEAR = ("segmentation", "shapes_linear")
KINDS = {"detection": "coco", "segmentation": "ade20k"}
SCHEDULE = [
    {"type": "LinearLR", "start_factor": 0.5, "by_epoch": False, "begin": 0, "end": 2},
    {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "by_epoch": False, "begin": 0, "end": 20},
]
TIMES = ("images_per_s", "data_wait_percent")


def scenes(root: Path, benchmark: str) -> DenseData:
    return open_scenes(KINDS[benchmark], "test", SCENES, root)


def truth_of(root: Path) -> list[Path]:
    """The label maps segmenters are tested by."""
    return label_maps(scenes(root, "segmentation").test)


def small_config(
    root: Path, benchmark: str, name: str, steps: int = 4, save: bool = False
) -> Config:
    """Two images a forward pass, four a step; every step is logged and, with `save`, saved."""
    config = read_config(benchmark, name)
    config.train_cfg.max_iters, config.param_scheduler = steps, SCHEDULE
    config.train_dataloader.batch_size, config.auto_scale_lr.base_batch_size = 2, 4
    model = load_backbone("random-init:vit_nano/8@64")
    config = prepare(config, model, scenes(root, benchmark), seed=0)
    config.custom_hooks[0].update(log_every=1, save_minutes=0 if save else 60)
    if benchmark == "detection":
        config.model.test_cfg.rcnn.score_thr = 0.0  # four steps give no confident detection
    return config


def write_config(folder: Path, config: Config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.py").write_text(config.pretty_text)
    return folder


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_log(folder)]


def metrics_of(folder: Path) -> dict[str, float]:
    return load_checked_json(folder / "metrics.json")
