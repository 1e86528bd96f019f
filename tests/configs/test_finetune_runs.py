"""Every published fine-tuning takes two steps through the benchmark, from an official file.

The recipe is that of the config and the source. Shortened are the backbone (in width and depth),
the images, the batch (two micro-batches of one mixed pair each), the epochs with their warm-up, and
the rates that are tried, to the first.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslbench.backbones.config import SIZES
from sslbench.benchmark import Splits
from sslbench.benchmarks.finetune import Finetune
from sslbench.benchmarks.finetuning import job, recipes
from sslbench.benchmarks.finetuning.judge import Judge
from sslbench.benchmarks.semi_supervised_finetune import SemiSupervisedFinetune
from sslbench.checkpoints.load import load_backbone
from sslbench.storage.sealed import load_checked_json
from sslbench.training.log import read_log
from tests.benchmarks.finetuning.small import folder_of_classes
from tests.configs.finetune_sources import NARROW, size_of, write_source
from tests.configs.published_finetunings import ROWS, Row

BATCH, TRAIN, CLASSES = 4, 400, 4
UNUSED = {"norm.weight", "norm.bias"}  # of a BEiT whose mean patch has a norm of its own


class Watching(Judge):
    """A Judge that keeps what training began with, and every batch that was mixed."""

    def __init__(self, run: Any, *args: Any, **options: Any) -> None:
        super().__init__(run, *args, **options)
        self.before = copy.deepcopy(run.method.network).eval()
        self.batches: list[tuple[Tensor, ...]] = []
        run.method.mixing.register_forward_hook(
            lambda _, inputs, outputs: self.batches.append((*inputs, *outputs))
        )


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, shape in NARROW.items():
            patch.setitem(SIZES, name, shape)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Four classes, with SimCLRv2's lists of a part of the labels beside them."""
    root = tmp_path_factory.mktemp("data") / "four"
    splits = folder_of_classes(root, train=TRAIN // CLASSES, test=1)
    for percent in (1, 10):
        each = TRAIN * percent // 100 // CLASSES
        listed = [f"class{k}/{i:03d}.png" for k in range(CLASSES) for i in range(each)]
        (root / f"{percent}percent.txt").write_text("\n".join(listed))
    return splits


def shortened(values: dict[str, Any], images: int) -> dict[str, Any]:
    """A config for two steps at its peak rate."""
    values = copy.deepcopy(values)
    optim, train = values["optim"], values["train"]
    if optim["scale_lr"]:  # per 256 images: the peak stays the published one
        optim["lr"] *= train["batch_size"] / BATCH
    optim["warmup_epochs"] = 0.0
    train |= {"batch_size": BATCH, "accumulate": 2, "epochs": 2 * BATCH / images}
    train["precision"] = "fp32"
    values["method"]["mix_group"] = 2
    values["run"] = {"workers": 0, "threads": 1, "log_every": 1}
    if "rates" in values:
        values["rates"] = values["rates"][:1]
    return values


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watching]:
    """What watched the runs, which are shortened and train in this process."""
    judges: list[Watching] = []

    def watching(*args: Any, **options: Any) -> Watching:
        judges.append(Watching(*args, **options))
        return judges[-1]

    def run_here(command: Any, folder: Path, *args: Any) -> dict:
        job.train(folder)
        return load_checked_json(folder / job.METRICS)

    published = recipes.read
    monkeypatch.setattr(recipes, "read", lambda name: shortened(published(name), images_of(name)))
    monkeypatch.setattr(job, "Judge", watching)
    monkeypatch.setattr(job, "run_apart", run_here)
    return judges


def images_of(name: str) -> int:
    return round(TRAIN * ROWS[name].values.get("data.share", 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_two_steps_from_an_official_file(
    name: str, data: Splits, watched: list[Watching], tmp_path: Path
) -> None:
    row = ROWS[name]
    source, official = write_source(tmp_path / "official.pth", name, row)
    check_records(benchmark_results(name, source, data, tmp_path / "work"))
    (judge,) = watched
    run, network = judge.run, judge.run.method.network
    assert len(run.dataset) == images_of(name) and run.recipe.init.source == source
    check_weights(judge.before, official, row)
    check_head(judge.before, row)
    lrs = published_rates(row)
    lines = read_log(run.out)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(torch.tensor(line["loss"]).isfinite() for line in lines)
    assert [line["lr"] for line in lines] == pytest.approx(lrs, rel=1e-5)
    check_groups(run.method, run.optimizer, row, lrs[-1])
    check_change(judge.before, network)
    check_mixing(judge.batches, row)
    assert (run.method.average is not None) == (row.values["method.ema"] > 0)


def benchmark_results(name: str, source: str, data: Splits, folder: Path) -> list[Any]:
    """What the benchmark records by a config, of a model with the labels that the config wants."""
    share = ROWS[name].values.get("data.share", 1.0)
    benchmark = (Finetune() if share == 1 else SemiSupervisedFinetune()).configured(name)
    assert benchmark is not None
    model = load_backbone(source)
    (protocol,) = (p for p in benchmark.protocols(model, data) if p.share == share)
    keep = lambda benchmark, data, setting, metric, value, n: (metric, value, n)  # noqa: E731
    context: Any = SimpleNamespace(model=model, seed=0, work_dir=folder, result=keep)
    return benchmark.under(protocol).run(model.backbone, data, context)


def check_records(results: list[Any]) -> None:
    shares = [(value, n) for metric, value, n in results if metric == "top1"]
    assert len(shares) == 2 and all(0 <= value <= 100 and n == CLASSES for value, n in shares)


def check_weights(network: nn.Module, official: dict[str, Tensor], row: Row) -> None:
    """Blocks, norm and projection are those of the file; the classifier is new."""
    state, seen = network.backbone.state_dict(), set()
    for key, tensor in official.items():
        name = key.replace("patch_embed.proj", "patch_embed")
        if name in state and state[name].shape == tensor.shape and "table" not in name:
            assert torch.equal(state[name], tensor), name
            seen.add(name)
    shared = official.get("rel_pos_bias.relative_position_bias_table")
    for name in state:
        table = shared if shared is not None else official.get(name)
        if name.endswith("bias_table") and table.shape == state[name].shape:
            assert torch.equal(state[name], table)
    resized = {n for n in state if n == "pos_embed" or n.endswith("bias_table")}
    fresh = UNUSED if official and "norm.weight" not in official else set()
    assert not official or seen | resized | fresh == set(state)
    classifier = network.classifier
    if classifier.projection is not None:
        assert torch.equal(classifier.projection.weight, official["head.mlp.0.weight"])
    if "fc_norm.weight" in official:  # a second stage goes on from the norm of the first
        assert torch.equal(classifier.norm.weight, official["fc_norm.weight"])
    std = float(classifier.linear.weight.detach().std())
    assert std == pytest.approx(0.02 * row.values["method.head_scale"], rel=0.5)


def check_head(network: nn.Module, row: Row) -> None:
    """Token, norms and classifier are those of timm's network, made as the paper says."""
    side, (width, depth, heads) = row.values["method.views.size"], size_of(row)
    shape = {"img_size": side, "patch_size": 16, "embed_dim": width, "depth": depth}
    shape |= {"num_heads": heads, "num_classes": CLASSES}
    peer: nn.Module
    if row.values["method.token"] == "mean":
        assert row.values["method.norm"] == "new" and row.method == "BEiT"
        absolute = row.values["backbone.positions"] == "absolute"
        scale = None if absolute else 0.1
        peer = Beit(**shape, use_abs_pos_emb=absolute, use_rel_pos_bias=not absolute,
                    init_values=scale, global_pool="avg")  # fmt: skip
    else:
        peer = VisionTransformer(**shape, global_pool="token")
    hidden = network.classifier.projection
    linear = "head" if hidden is None else "head.2"
    if hidden is not None:
        sizes = hidden.out_features, CLASSES
        peer.head = nn.Sequential(nn.Linear(width, sizes[0]), nn.GELU(), nn.Linear(*sizes))
    names = {"classifier.norm": "fc_norm", "classifier.projection": "head.0"}
    names |= {"classifier.linear": linear, "backbone.patch_embed": "patch_embed.proj"}
    tensors = {}
    for name, tensor in network.state_dict().items():
        place = next((theirs + name.removeprefix(ours) for ours, theirs in names.items()
                      if name.startswith(ours)), name.removeprefix("backbone."))  # fmt: skip
        tensors[place] = tensor
    missing, extra = peer.load_state_dict(tensors, strict=False)
    assert all("relative_position_index" in name for name in missing)
    assert set(extra) == (UNUSED if row.method == "BEiT" else set())
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        ours, theirs = copy.deepcopy(network).double()(images), peer.double().eval()(images)
    assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())


def published_rates(row: Row) -> list[float]:
    """The learning rates of two steps in one epoch without a warm-up."""
    values = row.values
    peak = values["rates"][0] if "rates" in values else values["optim.lr"]
    if values["optim.scale_lr"]:
        peak *= values["train.batch_size"] / 256
    if values["optim.schedule"] == "epoch":
        return [peak, peak]
    return [peak, (peak + values["optim.min_lr"]) / 2]


def check_groups(method: nn.Module, optimizer: Any, row: Row, lr: float) -> None:
    """Rate and decay of every parameter that trains."""
    values, (_, depth, _) = row.values, size_of(row)
    names = {id(p): name for name, p in method.named_parameters()}
    met, layers = set(), set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            below = depth + 1 - layer_of(name, depth)
            rate = lr * values["optim.layer_decay"] ** below
            assert group["lr"] == pytest.approx(rate, rel=1e-9), name
            free = parameter.ndim <= 1 or name.endswith((".bias", *values["optim.no_decay"]))
            assert group["weight_decay"] == (0.0 if free else values["optim.weight_decay"]), name
            met.add(name)
            layers.add(below)
    assert layers == set(range(depth + 2))
    assert met == {name for name, p in method.named_parameters() if p.requires_grad}


def layer_of(name: str, depth: int) -> int:
    """0 for embeddings, i + 1 for block i, depth + 1 for all behind the blocks."""
    if block := re.match(r"network\.backbone\.blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    embedding = re.match(r"network\.backbone\.(patch_embed|cls_token|pos_embed|mask_token)", name)
    return 0 if embedding else depth + 1


def check_change(before: nn.Module, after: nn.Module) -> None:
    """Every trained tensor of every layer has moved and is finite; a norm out of use has not."""
    olds = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        assert parameter.isfinite().all(), name
        moved = not torch.equal(parameter, olds[name])
        assert moved == parameter.requires_grad, name
        assert parameter.requires_grad or name.removeprefix("backbone.") in UNUSED


def check_mixing(batches: list[tuple[Tensor, ...]], row: Row) -> None:
    """Pairs and their labels are mixed alike where the recipe mixes, and left alone elsewhere."""
    values = row.values
    mixes = values["method.mixup"] > 0 or values["method.cutmix"] > 0
    off = values["method.smoothing"] / CLASSES
    assert len(batches) == 4  # two micro-batches a step
    shares = []
    for images, labels, mixed, targets in batches:
        own = torch.full((len(labels), CLASSES), off)
        own[range(len(labels)), labels] += 1 - values["method.smoothing"]
        if not mixes:
            assert torch.equal(images, mixed)
            torch.testing.assert_close(targets, own)
        elif labels[0] != labels[1]:
            share = float((targets - own.flip(0))[0, labels[0]] / (1 - values["method.smoothing"]))
            torch.testing.assert_close(targets, share * own + (1 - share) * own.flip(0))
            blended = share * images + (1 - share) * images.flip(0)
            cut = (mixed == images) | (mixed == images.flip(0))
            assert cut.all() or torch.allclose(mixed, blended, atol=1e-5)
            shares.append(share if not torch.equal(mixed, images) else 1.0)
    assert not mixes or any(0 < share < 1 for share in shares)
