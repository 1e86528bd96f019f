import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from sslbench.backbones.base import Tokens
from sslbench.backbones.build import build_backbone
from sslbench.backbones.config import BackboneConfig
from sslbench.benchmark import FeatureSpec
from sslbench.data.transform import EvalTransform
from sslbench.errors import UserError
from sslbench.evaluation import features
from sslbench.evaluation.features import combine, extract, pool_tokens, tap
from sslbench.system.products import FastProducts
from tests.evaluation.fakes import Images, TinyBackbone

PLAIN = EvalTransform(8, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CPU = torch.device("cpu")


def run(dataset, backbone=None, on_progress=lambda done, total: None, cls_normed=True):
    return extract(backbone or TinyBackbone(), dataset, PLAIN, cls_normed, CPU, on_progress)


@pytest.mark.parametrize("shape", [(300, 500), (256, 256), (90, 61)])
def test_the_transform_is_the_papers(shape):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    paper = T.Compose([T.Resize(256, T.InterpolationMode.BICUBIC), T.CenterCrop(224)])
    paper = T.Compose([paper, T.ToTensor(), T.Normalize(mean, std)])
    ours = EvalTransform(224, 0.875, mean, std)
    torch.testing.assert_close(ours.normalise(ours(image)[None])[0], paper(image))


def test_one_pass_serves_every_spec():
    dataset, backbone = Images(20, 0, "test"), TinyBackbone(depth=3)
    bank = run(dataset, backbone)
    assert backbone.calls == 1
    images = PLAIN.normalise(torch.stack([PLAIN(dataset.image(i)) for i in range(20)]))
    with torch.no_grad():
        blocks = backbone.last_blocks(images, 3)
    cls, mean = [t.cls for t in blocks], blocks[-1].patches.mean(1)
    wanted = {
        (1, "cls"): cls[-1],
        (2, "cls"): torch.cat(cls[-2:], 1),
        (4, "cls"): torch.cat(cls, 1),  # clipped to the depth of 3
        (1, "mean"): mean,
        (1, "cls+mean"): torch.cat([cls[-1], mean], 1),
        (2, "cls+mean"): torch.cat([*cls[-2:], mean], 1),
    }
    for (layers, pool), x in wanted.items():
        found = bank.select(FeatureSpec(layers, pool))
        torch.testing.assert_close(found.x, x)
        assert found.y.tolist() == dataset.labels.tolist()
        assert not found.x.is_inference()
        torch.testing.assert_close(tap(backbone, images, FeatureSpec(layers, pool)), x)
    with pytest.raises(UserError, match="unknown pooling 'max'"):
        bank.select(FeatureSpec(1, "max"))


def test_bf16_is_an_option_that_is_near_and_says_so_by_its_rounding():
    dataset = Images(16, 0, "test")
    exact = run(dataset)
    near = extract(TinyBackbone(), dataset, PLAIN, True, CPU, lambda done, total: None, bf16=True)
    assert near.mean.dtype == torch.float32 and not torch.equal(near.mean, exact.mean)
    torch.testing.assert_close(near.mean, exact.mean, atol=0.03, rtol=0.03)


ARCHITECTURES = (
    BackboneConfig("vit_nano", 8, 64, registers=2),
    BackboneConfig("beit_nano", 8, 64, positions="relative"),
    BackboneConfig("swin_nano", 4, 64),
)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda config: config.name)
@torch.no_grad()
def test_one_pass_gives_the_tokens_after_and_before_the_final_norm(config, bf16):
    """Bit for bit those of a backbone with its norm, and of one without."""
    torch.manual_seed(0)
    backbone, images, passes = build_backbone(config).eval(), torch.randn(2, 3, 64, 64), []
    for parameter in (backbone.norm.weight, backbone.norm.bias):
        torch.nn.init.normal_(parameter)
    backbone.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    after, before = (pool_tokens(backbone, images, normed, bf16) for normed in (True, False))
    assert len(passes) == 2
    with FastProducts(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        normed = backbone(images)
        backbone.norm = torch.nn.Identity()
        raw = backbone(images)
    assert torch.equal(after[3], normed.cls.float()) and torch.equal(before[3], raw.cls.float())
    for pooled in (after, before):
        assert all(x.untyped_storage().nbytes() == x.nbytes for x in pooled)
        mean, unnormed = pooled[4:]
        assert torch.equal(mean, normed.patches.mean(1).float())
        assert torch.equal(unnormed, raw.patches.mean(1).float())


@pytest.mark.parametrize("pool", ["cls", "mean", "mean without norm", "cls+mean"])
@pytest.mark.parametrize("norm", [True, False])
def test_a_bank_gives_what_a_tap_of_the_backbone_does(pool, norm):
    dataset, backbone, spec = Images(8, 0, "test"), Halving(), FeatureSpec(2, pool, norm)
    images = PLAIN.normalise(torch.stack([PLAIN(dataset.image(i)) for i in range(8)]))
    found = run(dataset, backbone, cls_normed=spec.cls_normed).select(spec).x
    torch.testing.assert_close(found, tap(backbone, images, spec))
    assert spec.cls_normed or pool.startswith("cls")  # the mean patch needs no pass of its own


class Halving(TinyBackbone):
    """The final norm halves."""

    def normed(self, tokens):
        return Tokens(tokens.cls / 2, tokens.patches / 2, tokens.grid)


class Stages(TinyBackbone):
    """As Swin: earlier blocks are narrower."""

    def last_blocks(self, images, n):
        blocks = super().last_blocks(images, n)
        return [Tokens(b.cls[:, :3], b.patches[..., :3], b.grid) for b in blocks[:-2]] + blocks[-2:]


def test_blocks_of_differing_widths_are_concatenated():
    backbone = Stages(depth=5)
    bank = run(Images(20, 0, "test"), backbone)
    assert [x.shape[1] for x in bank.cls] == [3, 3, 6, 6]
    assert torch.equal(bank.select(FeatureSpec(4)).x, torch.cat(bank.cls, dim=1))


def test_channels_of_one_block_can_be_interleaved():
    """Trap T32: DINO's classifiers expect [CLS] and mean patch channel by channel."""
    cls, mean = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    spec = FeatureSpec(1, "cls+mean", order="interleaved")
    assert combine([cls], mean, spec).tolist() == [[1, 4, 2, 5, 3, 6]]
    assert combine([cls], mean, FeatureSpec(1, "cls+mean")).tolist() == [[1, 2, 3, 4, 5, 6]]
    assert combine([cls], mean, FeatureSpec(1, "cls", order="interleaved")).tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match="2 blocks"):
        combine([cls, cls], mean, spec)


def test_broken_images_are_dropped_counted_and_named(caplog):
    steps = []
    with caplog.at_level(logging.WARNING):
        dataset = Images(200, 0, "test", broken=(3, 150))
        bank = run(dataset, on_progress=lambda *at: steps.append(at))
    assert len(bank.y) == len(bank.mean) == len(bank.cls[0]) == 198
    assert bank.y.tolist() == np.delete(dataset.labels, [3, 150]).tolist()
    assert bank.select(FeatureSpec()).index.tolist() == np.delete(np.arange(200), [3, 150]).tolist()
    assert "2 broken image(s) left out (first: test/3.png: cut short" in caplog.text
    size = features.batch_size()
    assert steps == [(min(first + size, 200), 200) for first in range(0, 200, size)]


def test_too_many_broken_images_stop_the_run():
    with pytest.raises(UserError, match="cannot be decoded"):
        run(Images(20, 0, "test", broken=tuple(range(5))))


@pytest.mark.parametrize(
    ("gpu", "images", "batch", "workers"),
    [
        (False, 10_000, 16, 0),
        (False, 10_001, 16, 8),
        (True, 256, 128, 0),
        (True, 257, 128, 3),  # no more than there are batches
        (True, 2_000, 128, 8),
        (True, 2_000, 1_000, 0),
    ],
)
def test_workers_read_where_their_start_pays(monkeypatch, gpu, images, batch, workers):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(features, "usable_cores", lambda: 64)
    assert features.workers_for(images, batch) == workers
    monkeypatch.setattr(features, "usable_cores", lambda: 2)
    assert features.workers_for(images, batch) == min(2, workers)


def test_workers_read_the_same_batches(monkeypatch):
    dataset, indices = Images(40, 0, "test", broken=(3, 21)), [*range(0, 40, 3), 5]
    alone = list(features.batches(dataset, PLAIN, indices))
    monkeypatch.setattr(features, "workers_for", lambda images, batch: 2)
    beside = list(features.batches(dataset, PLAIN, indices))
    for (pixels, index, bad), (found, same, broken) in zip(alone, beside, strict=True):
        assert torch.equal(pixels, found) and (index, bad) == (same, broken)


def test_images_without_labels_have_the_label_minus_one():
    dataset = Images(4, 0, "test")
    dataset.labels = None
    assert run(dataset).y.tolist() == [-1] * 4
