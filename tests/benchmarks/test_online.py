"""The papers' linear probes on augmented crops, against plain loops of torch's own parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision import transforms as T

from sslbench.benchmark import Splits
from sslbench.benchmarks import courses
from sslbench.benchmarks.linear_layers import LinearLayers, LinearLayersProtocol
from sslbench.benchmarks.linear_online import LinearOnline, LinearOnlineProtocol
from sslbench.benchmarks.online import Classifiers, Crop, History, Online
from sslbench.data import augment
from sslbench.data.rng import order_rng, sample_rng
from sslbench.data.subsets import held_out
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.provenance import Provenance
from sslbench.storage.checkpoint import load_state
from sslbench.storage.layout import STATE
from tests.benchmarks.fakes import figures
from tests.evaluation.fakes import CLASSES, SIDE, Images, TinyBackbone, model

CPU = torch.device("cpu")
TRAIN, TEST, BATCH, EPOCHS = 65, 30, 6, 3  # a tenth of 65 is 6: the last of 11 batches has 5
RATES = (0.003, 0.1, 9.0)
DATA = Splits("colours", "f", "abc", Images(TRAIN, 0, "train"), Images(TEST, 1, "test"))
HELD = held_out(DATA.train.labels, 0.1)[1]
GRID = LinearOnline(LinearOnlineProtocol(Online(EPOCHS), RATES))
LAYERS = LinearLayers(LinearLayersProtocol(Online(EPOCHS), rate=0.5))


class Deep(TinyBackbone):
    """Four blocks; remembers whether the final norm was used."""

    def __init__(self) -> None:
        super().__init__(depth=4)
        self.norm_used = False

    def normed(self, tokens):
        self.norm_used = True
        return tokens


def context(folder, **more) -> EvalContext:
    judged = replace(model(), backbone=Deep())
    return EvalContext(judged, 0, CPU, Provenance.here(CPU), work_dir=folder / "work", **more)


def run(benchmark, ours, data=DATA):
    return benchmark.run(ours.model.backbone, data, ours)


class Killed(Exception):
    pass


def kill_in_epoch(number: int) -> Callable[[str, int, int], None]:
    """Ends a run in the middle of that epoch, from 1."""

    def on_progress(what: str, done: int, total: int) -> None:
        if not what and done == (number - 1) * 11 + 4:
            raise Killed

    return on_progress


def normalised(image) -> Tensor:
    return T.Compose([T.ToTensor(), T.Normalize([0.5] * 3, [0.25] * 3)])(image)


def crop(index: int, epoch: int) -> Tensor:
    """Crop of a training image by torchvision, the random numbers being ours."""
    image, rng = DATA.train.image(index), sample_rng(0, epoch, index)
    box = augment.random_box(image.size, (0.08, 1.0), rng)
    view = normalised(T.functional.resized_crop(image, *box, [SIDE, SIDE]))  # bilinear by default
    return view.flip(2) if rng.random() < 0.5 else view


def plain_loop(
    taps, make_optimisers, epochs=EPOCHS, held=()
) -> tuple[list[list[int]], nn.ModuleList]:
    """Hits of every layer after every epoch, and the layers; taps(blocks) gives their features.

    held: training images that are evaluated instead of the test ones, and not learned from.
    """
    backbone = Deep()
    dataset, evaluated = (DATA.train, held) if len(held) else (DATA.test, range(TEST))
    test = torch.stack([normalised(dataset.image(int(i))) for i in evaluated])
    with torch.no_grad():
        tested = taps(backbone.last_blocks(test, 4))
    rng, layers = torch.Generator().manual_seed(0), nn.ModuleList()
    for x in tested:
        layers.append(nn.Linear(x.shape[1], CLASSES))
        layers[-1].weight.data.normal_(std=0.01, generator=rng)
        layers[-1].bias.data.zero_()
    optimisers = make_optimisers(layers, BATCH / 256)
    schedules = [CosineAnnealingLR(o, EPOCHS, eta_min=0) for o in optimisers]
    hits = []
    for epoch in range(epochs):
        for index in np.array_split(order_rng(0, epoch).permutation(TRAIN), range(6, 65, 6)):
            index = np.array([i for i in index if i not in held])
            images = torch.stack([crop(int(i), epoch) for i in index])
            y = torch.from_numpy(DATA.train.labels[index])
            with torch.no_grad():
                features = taps(backbone.last_blocks(images, 4))
            for optimiser in optimisers:
                optimiser.zero_grad()
            for layer, x in zip(layers, features, strict=True):
                nn.functional.cross_entropy(layer(x), y).backward()
            for optimiser in optimisers:
                optimiser.step()
        for schedule in schedules:
            schedule.step()
        right = torch.from_numpy(dataset.labels[list(evaluated)])
        pairs = zip(layers, tested, strict=True)
        hits.append([int((layer(x).argmax(1) == right).sum()) for layer, x in pairs])
    return hits, layers


def grid_taps(blocks):
    return [torch.cat([b.cls for b in blocks], dim=1)] * len(RATES)


def layer_taps(blocks):
    return [torch.cat([b.cls, b.patches.mean(dim=1)], dim=1) for b in blocks]


def mean_taps(blocks):
    return [b.patches.mean(dim=1) for b in blocks]


def one_sgd_each(layers, scale):
    pairs = zip(layers, RATES, strict=True)
    return [torch.optim.SGD(a.parameters(), rate * scale, momentum=0.9) for a, rate in pairs]


def one_adamw(layers, scale):
    return [torch.optim.AdamW(layers.parameters(), 0.5 * scale, weight_decay=1e-4)]


GRID_CASE = (GRID, grid_taps, one_sgd_each, "best of 3 lr", ("lr", RATES))
LAYERS_CASE = (LAYERS, layer_taps, one_adamw, "best block", ("block", (1, 2, 3, 4)))
PAPER = LinearLayers(replace(LAYERS.protocol, pool="mean"))  # disagreement D16
PAPER_CASE = (PAPER, mean_taps, *LAYERS_CASE[2:])


@pytest.mark.parametrize(
    ("benchmark", "taps", "optimisers", "setting", "told"), [GRID_CASE, LAYERS_CASE, PAPER_CASE]
)
def test_equals_a_plain_loop_on_the_same_crops(
    tmp_path, benchmark, taps, optimisers, setting, told
):
    ours = context(tmp_path, on_progress=kill_in_epoch(EPOCHS))
    with pytest.raises(Killed):
        run(benchmark, ours)
    state = load_state(ours.work_dir)  # after the last but one epoch
    for part, held in ((state, ()), (state["held_out"], HELD)):
        _, layers = plain_loop(taps, optimisers, EPOCHS - 1, held)
        for name, tensor in layers.state_dict().items():
            torch.testing.assert_close(part["layers"][name], tensor, atol=1e-5, rtol=1e-5)
    ours.on_progress = lambda *at: None
    found = figures(run(benchmark, ours))
    hits, _ = plain_loop(taps, optimisers)
    held_hits, _ = plain_loop(taps, optimisers, held=HELD)
    state = load_state(ours.work_dir)
    assert state["history"][..., 0].tolist() == hits
    assert state["held_out"]["history"][..., 0].tolist() == held_hits
    epoch, best = divmod(int(np.argmax(hits)), len(hits[0]))
    later, chosen = divmod(int(np.argmax(held_hits)), len(hits[0]))
    honest = f"epoch and {told[0]} chosen on held-out labels"
    assert found == {
        (setting, "top1"): 100 * hits[epoch][best] / TEST,
        (setting, "epoch"): epoch + 1,
        (setting, told[0]): told[1][best],
        (honest, "top1"): 100 * hits[later][chosen] / TEST,
        (honest, "epoch"): later + 1,
        (honest, told[0]): told[1][chosen],
        (honest, "optimism"): 100 * (hits[epoch][best] - hits[later][chosen]) / TEST,
    }
    assert max(map(max, hits)) > TEST / 2


UNNORMED = (
    LinearOnline(replace(GRID.protocol, pool="mean without norm")),
    LinearLayers(replace(LAYERS.protocol, pool="mean without norm", norm=True)),
)


@pytest.mark.parametrize(
    ("benchmark", "norm"),
    [(GRID, True), (LAYERS, False), *((benchmark, False) for benchmark in UNNORMED)],
)
def test_the_grid_reads_through_the_final_norm_the_layers_do_not(tmp_path, benchmark, norm):
    ours = context(tmp_path)
    run(benchmark, ours)
    assert ours.model.backbone.norm_used == norm


@pytest.mark.parametrize("benchmark", [GRID, LAYERS])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, benchmark):
    whole, cut = context(tmp_path / "a"), context(tmp_path / "b", on_progress=kill_in_epoch(2))
    wanted = figures(run(benchmark, whole))
    with pytest.raises(Killed):
        run(benchmark, cut)
    steps = []
    again = context(tmp_path / "b", on_progress=lambda *at: steps.append(at))
    assert figures(run(benchmark, again)) == wanted
    assert steps[0] == ("", 12, 33)  # the second epoch, from its start
    states = [load_state(c.work_dir) for c in (whole, again)]
    assert torch.equal(*(state["history"] for state in states))
    assert torch.equal(*(state["held_out"]["history"] for state in states))


def test_a_finished_run_keeps_its_history_only_and_is_not_repeated(tmp_path):
    steps = []
    ours = context(tmp_path, on_progress=lambda *at: steps.append(at))
    first = figures(run(GRID, ours))
    assert steps == [("", i, 33) for i in range(1, 34)]
    assert [p.name for p in ours.work_dir.iterdir()] == [STATE]
    state = load_state(ours.work_dir)
    assert set(state) == {"history", "judged", "held_out"}
    assert set(state["held_out"]) == {"history", "judged"}
    assert figures(run(GRID, ours)) == first
    assert len(steps) == 33


def test_what_is_evaluated_passes_once_if_its_features_fit_into_memory(tmp_path, monkeypatch):
    """Two batches of the test images, one of the held-out ones; 4 x 6 channels for all layers."""
    found, passes = [], []
    for most in (96 * TEST, 96 * TEST - 1, 0):
        monkeypatch.setattr(courses, "MOST", most)
        ours = context(tmp_path / str(most))
        found.append(figures(run(GRID, ours)))
        passes.append(ours.model.backbone.calls - (1 + EPOCHS * 11))
    assert found[0] == found[1] == found[2]
    assert passes == [2 + 1, EPOCHS * 2 + 1, EPOCHS * (2 + 1)]


def test_copies_are_of_the_pooled_tokens_alone_and_shared():
    tokens = torch.randn(4, 9, 2)
    one, other = courses.copied([tokens[:, 0]] * 2, CPU)
    assert one is other and torch.equal(one, tokens[:, 0])
    assert one.untyped_storage().nbytes() == one.nbytes


def test_broken_images_are_replaced_in_training_and_not_judged(tmp_path, caplog):
    ours = context(tmp_path)
    data = replace(DATA, train=Images(TRAIN, 0, "train", (7,)), test=Images(TEST, 1, "test", (2,)))
    assert {r.n for r in run(GRID, ours, data)} == {TEST - 1}
    assert "another image stands in for a broken one: train/7.png" in caplog.text


def test_a_held_out_image_that_is_broken_does_not_count(tmp_path):
    ours = context(tmp_path)
    data = replace(DATA, train=Images(TRAIN, 0, "train", (int(HELD[0]),)))
    run(GRID, ours, data)
    state = load_state(ours.work_dir)
    assert (state["judged"], state["held_out"]["judged"]) == (TEST, len(HELD) - 1)


@pytest.mark.parametrize(
    ("classes", "broken", "reason"),
    [
        (
            [*range(3), *[0] * 40],
            (),
            "2 of 3 classes have one training image only, so that none of theirs can be held out.",
        ),
        ([0, 1] * 15, None, "None of the held-out images can be read."),
    ],
)
def test_a_choice_without_held_out_images_is_a_blank(tmp_path, classes, broken, reason):
    labels = np.array(classes)
    lost = held_out(labels, 0.1)[1].tolist() if broken is None else broken
    train = Images(len(labels), 0, "train", tuple(lost))
    train.labels = labels
    records = run(GRID, context(tmp_path), replace(DATA, train=train))
    missing = {(r.setting, r.metric): r.missing for r in records if r.missing}
    setting = "epoch and lr chosen on held-out labels"
    assert missing == {(setting, "top1"): reason, (setting, "optimism"): reason}
    assert figures(records)["best of 3 lr", "top1"] >= 0


def test_a_layer_that_diverged_has_no_hits():
    layers = nn.ModuleList(nn.Linear(2, 6) for _ in range(2))
    nn.init.constant_(layers[0].weight, float("nan"))
    nn.init.zeros_(layers[1].weight)
    layers[1].bias.data = torch.arange(6.0)
    sgd = torch.optim.SGD(layers.parameters(), 0.1)
    x, y = torch.randn(4, 2), torch.tensor([5, 5, 1, 0])
    assert Classifiers(layers, sgd).hits([x, x], y).tolist() == [[0, 0], [2, 3]]


def test_the_crops_are_torchvisions_defaults():
    peer, ours = T.RandomResizedCrop(SIDE), Online()
    assert (*peer.scale, *peer.ratio) == (*ours.scale, *augment.ASPECT)
    assert (peer.interpolation.value, T.RandomHorizontalFlip().p) == (ours.interpolation, ours.flip)
    view = Crop(SIDE, ours)(DATA.train.image(3), sample_rng(0, 1, 3), 1).crops["image"]
    torch.testing.assert_close((torch.from_numpy(view[0]) / 255 - 0.5) / 0.25, crop(3, 1))


def test_the_protocols_are_the_papers():
    online, grid, layers = Online(), LinearOnlineProtocol(), LinearLayersProtocol()
    assert (online.epochs, online.batch, online.init_std) == (100, 1024, 0.01)
    assert (len(grid.rates), min(grid.rates), max(grid.rates)) == (45, 1e-4, 9.0)
    assert (layers.rate * 1024 / 256, layers.weight_decay) == (4e-3, 1e-4)
    assert (layers.pool, layers.norm, grid.taps.norm) == ("cls+mean", False, True)
    assert LinearOnline.suites == LinearLayers.suites == ("papers",)


def test_the_best_is_the_earliest_of_equals():
    hits = torch.zeros(3, 4, 2, dtype=torch.int64)
    hits[1, 3, 0] = hits[2, 0, 0] = 9
    assert History(hits, 10).best() == (1, 3)


def test_the_layers_are_read_once_whatever_the_poolings():
    two = model(poolings=("cls", "mean"))
    assert LAYERS.protocols(two, DATA) == [LAYERS.protocol]
    assert [p.pool for p in GRID.protocols(two, DATA)] == ["cls", "mean"]
