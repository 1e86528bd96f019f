"""The test loop that averages views, against the average taken by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from tests.configs.reading import load
from tests.configs.trees import write_ade20k

VIEWS = ((160, False), (160, True), (224, False), (224, True))  # short side, mirrored


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A random linear segmenter of a random ViT-Nano on one image, tested at two scales."""
    config = copy.deepcopy(load("segmentation", "ade20k_upernet_vits16_ms"))
    linear = load("segmentation", "ade20k_linear_vits16")
    config.model = copy.deepcopy(linear.model)
    config.model.backbone.update(source="random-init:vit_nano/16@64", out_indices=(0, 1, 2, 3))
    config.model.decode_head.update(in_channels=[128] * 4, channels=512)
    config.model.test_cfg = {"mode": "slide", "crop_size": (160, 160), "stride": (107, 107)}
    loader = config.test_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(write_ade20k(tmp_path / "data", train=0, test=1))
    scales, flips = loader.dataset.pipeline[1].transforms[:2]
    loader.dataset.pipeline[1].transforms[0] = scales[2:4]
    for step, side in zip(scales[2:4], (160, 224), strict=True):
        step.scale = (4 * side, side)
    assert [step.prob for step in flips] == [0.0, 1.0]
    training = {key: None for key in config if key.startswith(("train_", "val_", "optim", "param"))}
    config.update(training, work_dir=str(tmp_path / "work"), log_level="WARNING")
    config.randomness = {"seed": 0}
    config.visualizer.vis_backends = []
    return config


@pytest.mark.slow
def test_probabilities_are_averaged_over_the_views(config: Config) -> None:
    runner = Runner.from_cfg(config)
    network = runner.model.eval()
    torch.nn.init.normal_(network.decode_head.conv_seg.weight)  # so that views disagree
    (views,) = runner.test_loop.dataloader.dataset
    seen, probabilities = [], []
    for inputs, sample in zip(views["inputs"], views["data_samples"], strict=True):
        seen.append((min(inputs.shape[1:]), sample.flip))
        batch = pseudo_collate([{"inputs": inputs, "data_samples": sample.clone()}])
        with torch.no_grad():
            (found,) = network.test_step(batch)
        probabilities.append(found.seg_logits.data.softmax(0))
    assert sorted(seen) == sorted(VIEWS)
    labels = views["data_samples"][0].gt_sem_seg.data[0].numpy()
    metrics = runner.test()
    by_view = [accuracy(p, labels) for p in probabilities]
    expected = accuracy(torch.stack(probabilities).mean(0), labels)
    assert metrics["aAcc"] == pytest.approx(expected, abs=0.01)
    assert all(abs(view - expected) > 0.02 for view in by_view)
    assert runner.model is network


def accuracy(probabilities: torch.Tensor, labels: np.ndarray) -> float:
    """Percentage of the labelled pixels whose likeliest class is right."""
    kept = labels != 255
    return float(100 * (probabilities.argmax(0).numpy() == labels)[kept].mean())
