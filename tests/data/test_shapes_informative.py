"""Is the embedded dataset worth something: labels teach its class, floors do not know it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.data.images import open_dataset
from sslbench.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from sslbench.training.schedules import cosine_schedule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS, BATCH, LR, SIDE = 300, 64, 1.6e-2, 64
FLOOR, SUPERVISED = 35.0, 90.0


def load(split: str) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, 64, 64) and labels."""
    data = open_dataset("shapes", split)
    pixels = np.stack([np.asarray(data.image(i)) for i in range(len(data))])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(data.labels)


@pytest.fixture(scope="module")
def splits(tmp_path_factory, worker_id):
    """The training and the validation split, drawn once for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "shapes-home"
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, FileLock(home / "lock"):
        patch.setenv("SSLBENCH_HOME", str(home))
        return load("train"), load("validation")


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(s).view(3, 1, 1) for s in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() / 255 - mean) / std


def knn(bank: Tensor, labels: Tensor, query: Tensor, truth: Tensor) -> float:
    """Weighted k-NN top-1 in percent, k=20, T=0.07."""
    bank, query = F.normalize(bank, dim=1), F.normalize(query, dim=1)
    similarity, neighbours = (query @ bank.T).topk(20)
    votes = torch.zeros(len(query), 10)
    votes.scatter_add_(1, labels[neighbours], (similarity / 0.07).exp())
    return 100 * (votes.argmax(1) == truth).double().mean().item()


def histogram(pixels: Tensor) -> Tensor:
    """8 x 8 x 8 colour histogram per image."""
    bins = (pixels.long() // 32 * torch.tensor([64, 8, 1]).view(3, 1, 1)).sum(1).flatten(1)
    counts = torch.zeros(len(bins), 512)
    return counts.scatter_add_(1, bins, torch.ones(bins.shape))


def backbone(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone(BackboneConfig("vit_nano", 8, SIDE, drop_path=0.0))


@torch.no_grad()
def random_features(pixels: Tensor) -> dict[str, Tensor]:
    """Pool -> features under fresh weights, always the same ones."""
    model = backbone()
    tokens = [model(normalised(batch)) for batch in pixels.split(100)]  # stay in the cache
    return {
        "[CLS]": torch.cat([t.cls for t in tokens]),
        "mean patch": torch.cat([t.patches.mean(1) for t in tokens]),
    }


def augmented(pixels: Tensor) -> Tensor:
    """A random crop of 3/4 to the whole side, the same for the batch, and flips."""
    side = int(torch.randint(SIDE * 3 // 4, SIDE + 1, ()))
    top, left = torch.randint(0, SIDE - side + 1, (2,)).tolist()
    crop = normalised(pixels[:, :, top : top + side, left : left + side])
    crop = F.interpolate(crop, SIDE, mode="bilinear", antialias=True)
    flip = torch.rand(len(crop), 1, 1, 1) < 0.5
    return torch.where(flip, crop.flip(-1), crop)


def small_net() -> nn.Module:
    """Four strided convolutions: they learn from few images, where a ViT takes minutes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for given, made in pairwise((3, 16, 32, 64, 128)):
        convolution = nn.Conv2d(given, made, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def train_supervised(pixels: Tensor, labels: Tensor) -> nn.Module:
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = cosine_schedule(step, STEPS, LR, 0.0, STEPS // 10)
        rows = torch.randint(len(pixels), (BATCH,))
        F.cross_entropy(model(augmented(pixels[rows])), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("floor", ["pixels", "histogram"])
def test_simple_features_stay_low(splits, floor):
    (train, labels), (judged, truth) = splits
    describe = {"pixels": lambda x: normalised(x).flatten(1), "histogram": histogram}[floor]
    assert_low(floor, knn(describe(train), labels, describe(judged), truth))


def test_random_weights_stay_low(splits):
    (train, labels), (judged, truth) = splits
    bank, query = random_features(train), random_features(judged)
    for pool in bank:
        assert_low(f"random {pool}", knn(bank[pool], labels, query[pool], truth))


def assert_low(name: str, top1: float) -> None:
    print(f"{name}: k-NN top-1 {top1:.1f}")
    assert top1 < FLOOR


def test_labels_teach_the_class(splits):
    (train, labels), (judged, truth) = splits
    model = train_supervised(train, labels)
    with torch.no_grad():
        guesses = torch.cat([model(normalised(b)).argmax(1) for b in judged.split(100)])
    top1 = 100 * (guesses == truth).double().mean().item()
    print(f"supervised: top-1 {top1:.1f} after {STEPS} steps")
    assert top1 > SUPERVISED
