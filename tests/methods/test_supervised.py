"""Fine-tuning against its published step, rewritten in float64, for the papers' three heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup
from torch import Tensor, nn

from sslbench.backbones.sampling import Place, set_place, step_seed
from sslbench.data.recognition import RecognitionConfig, drawing_from
from sslbench.errors import UserError
from sslbench.method import Start, ViewBatch
from sslbench.methods.heads import ProjectionHead
from sslbench.methods.supervised import Supervised, SupervisedConfig
from tests.methods.reference import normalised
from tests.methods.small import MEAN, SIZE, STD, at, make_backbone, shake
from tests.methods.steps import Twin, make_run, march

CLASSES, IMAGES, GROUP = 7, 8, 4
DECAY = 0.65
# per-step cosine from an absolute peak, positions and class token exempt, one limit for all
OPTIM = {"lr": 0.01, "scale_lr": False, "weight_decay": 0.05, "weight_decay_end": 0.05}
OPTIM |= {"clip": 0.05, "clip_by": "global", "no_decay": ("pos_embed", "cls_token")}
OPTIM |= {"layer_decay": DECAY}
HEADS = {
    "iBOT, DINO": {"token": "cls", "norm": "pretrained"},
    "BEiT": {"token": "mean", "norm": "new"},
    "semi-supervised": {"token": "cls", "norm": "pretrained", "projection": 12},
}


def make(drop_path: float = 0.0, **settings) -> Supervised:
    torch.manual_seed(0)
    views = RecognitionConfig(size=SIZE, randaugment="", erasing=0.25)
    values = {"classes": CLASSES, "mix_group": GROUP, "views": views, "head_scale": 0.5}
    return shake(Supervised(SupervisedConfig(**values | settings), make_backbone(drop_path)))


def make_batch(seed: int, erased: bool = True) -> ViewBatch:
    draw = torch.Generator().manual_seed(seed)
    crops = torch.randint(0, 256, (1, IMAGES, 3, SIZE, SIZE), dtype=torch.uint8, generator=draw)
    masks = {}
    if erased:
        masks["erased"] = torch.zeros(1, IMAGES, SIZE, SIZE, dtype=torch.bool)
        masks["erased"][0, 2, 3:9, 5:12] = True
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=draw)
    return ViewBatch({"image": crops}, masks, torch.arange(IMAGES), MEAN, STD, labels=labels)


def mixed(batch: ViewBatch, config: SupervisedConfig) -> tuple[Tensor, Tensor]:
    """Images and targets in float64, by timm's Mixup on the noise and groups of this step."""
    images = normalised(batch, "image")[0]
    seeds = torch.randint(2**62, (IMAGES,)).tolist()
    for i in range(IMAGES):
        hidden = batch.masks["erased"][0, i]
        noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seeds[i]))
        images[i][:, hidden] = noise.double()[:, hidden]
    groups = torch.randint(2**62, (IMAGES // GROUP,)).tolist()
    mixup = Mixup(config.mixup, config.cutmix, label_smoothing=0.1, num_classes=CLASSES)
    parts = []
    for k, seed in enumerate(groups):
        rows = slice(k * GROUP, (k + 1) * GROUP)
        with drawing_from(np.random.default_rng(seed)):
            parts.append(mixup(images[rows], batch.labels[rows]))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]).double()


def layer_norm(x: Tensor, norm: nn.Module) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred / ((centred**2).mean(-1, keepdim=True) + 1e-6).sqrt() + norm.bias


def attention(x: Tensor, block: nn.Module) -> Tensor:
    images, tokens, width = x.shape
    qkv = x @ block.attn.qkv.weight.T + block.attn.qkv.bias
    q, k, v = qkv.view(images, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-2, -1) / (width // 2) ** 0.5, -1)
    x = (weights @ v).transpose(1, 2).reshape(images, tokens, width)
    return x @ block.attn.proj.weight.T + block.attn.proj.bias


def tokens(net: nn.Module, images: Tensor) -> Tensor:
    """Tokens (B, 1 + N, D) before the final norm."""
    patches = net.patch_embed(images).flatten(2).transpose(1, 2)
    x = torch.cat([net.cls_token.expand(len(images), -1, -1), patches], 1) + net.pos_embed
    for block in net.blocks:
        x = x + attention(layer_norm(x, block.norm1), block)
        hidden = layer_norm(x, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = x + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    return x


def predictions(net: nn.Module, config: SupervisedConfig, images: Tensor) -> Tensor:
    x, head = tokens(net.backbone, images), net.classifier
    if config.norm == "new":
        x = layer_norm(x[:, 1:].sum(1) / (x.shape[1] - 1), head.norm)
    else:
        x = layer_norm(x, net.backbone.norm)[:, 0]
    if config.projection:
        x = x @ head.projection.weight.T + head.projection.bias
        x = x * (1 + torch.erf(x / 2**0.5)) / 2
    return x @ head.linear.weight.T + head.linear.bias


def published_step(twin: Twin, batch: ViewBatch, i: int) -> dict[str, Tensor]:
    torch.manual_seed(step_seed(0, i))
    images, targets = mixed(batch, twin.config)
    logits = predictions(twin.model.network, twin.config, images)
    each = -(targets * (logits - logits.exp().sum(-1, keepdim=True).log())).sum(-1)
    return {"loss": each.sum() / IMAGES}


def three_steps(method: Supervised) -> dict[str, float]:
    run = make_run(method, IMAGES, **OPTIM)
    return march(run, [make_batch(seed) for seed in range(3)], published_step, scale=rate_scale)


def rate_scale(name: str) -> float:
    """BEiT's rule (beit/optim_factory.py:25-47) for two blocks, written by hand."""
    inside = name.removeprefix("network.backbone.")
    if inside.startswith(("patch_embed", "cls_token", "pos_embed")):
        return DECAY**3
    return {"blocks.0": DECAY**2, "blocks.1": DECAY}.get(inside[:8], 1.0)


@pytest.mark.parametrize("head", HEADS)
def test_three_steps_equal_the_published_ones(float64, head):
    errors = three_steps(make(**HEADS[head]).double())
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("head", HEADS)
def test_three_steps_in_fp32_stay_close(head):
    errors = three_steps(make(**HEADS[head]))
    # AdamW makes steps of rounding noise where the gradient is 0 by symmetry: a key's bias
    assert errors.pop("student") < 1e-2
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("head", HEADS)
def test_micro_batches_add_up_to_the_batch(head):
    """Drop path, noise and mixing belong to samples, so parts of a batch give its gradient."""
    method, batch = make(0.5, **HEADS[head]), make_batch(1)

    def gradient(count: int) -> dict[str, Tensor]:
        method.zero_grad()
        for first in range(0, IMAGES, count):
            part = slice(first, first + count)
            crops = {k: v[:, part] for k, v in batch.crops.items()}
            masks = {k: v[:, part] for k, v in batch.masks.items()}
            micro = ViewBatch(crops, masks, batch.index[part], MEAN, STD, labels=batch.labels[part])
            set_place(method, Place(first, count, IMAGES))
            torch.manual_seed(3)
            (method(micro, at(0))["loss"] * count / IMAGES).backward()
        return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}

    whole, parts = gradient(IMAGES), gradient(GROUP)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6, rtol=1e-4), name


def test_every_trained_parameter_gets_a_gradient_and_an_unused_norm_is_frozen():
    """Else DDP would wait for it."""
    for settings in HEADS.values():
        method = make(**settings)
        method(make_batch(0), at(0))["loss"].backward()
        without = {n for n, p in method.named_parameters() if p.grad is None}
        frozen = {n for n, p in method.named_parameters() if not p.requires_grad}
        assert without == frozen
        names = {"network.backbone.norm.weight", "network.backbone.norm.bias"}
        assert frozen == (names if settings["norm"] == "new" else set())


def test_a_classifier_of_cls_computes_the_last_block_for_it_alone(monkeypatch):
    method = make(**HEADS["iBOT, DINO"])
    backbone, seen = method.backbone(), []
    of_cls = backbone.cls_tokens
    monkeypatch.setattr(backbone, "cls_tokens", lambda x: seen.append(x) or of_cls(x))
    images = torch.randn(2, 3, SIZE, SIZE)
    expected = method.trained_classifier()(backbone(images).cls)
    torch.testing.assert_close(method.logits(images)[""], expected)
    assert len(seen) == 1


def test_the_classifier_starts_small():
    """trunc_normal_(std=.02), then times .001 (beit/modeling_finetune.py:307-312)."""
    torch.manual_seed(0)
    config = SupervisedConfig(classes=1000)
    linear = Supervised(config, make_backbone()).trained_classifier().linear
    assert abs(float(linear.weight.detach().std()) / 2e-5 - 1) < 0.05
    assert not linear.bias.any()


def test_the_average_is_timm_s_and_predicts_beside_the_trained_weights():
    method = make(ema=0.9)
    start = [p.detach().clone() for p in method.average.parameters()]
    with torch.no_grad():
        for p in method.network.parameters():
            p.add_(1.0)
    method.after_step(at(0))
    for average, before, now in zip(
        method.average.parameters(), start, method.network.parameters(), strict=True
    ):
        assert torch.allclose(average, 0.9 * before + 0.1 * now, atol=1e-6)
    images = torch.randn(2, 3, SIZE, SIZE)
    found = method.eval().logits(images)
    assert torch.allclose(found["EMA"], method.average(images))
    assert set(found) == {"", "EMA"}
    assert list(make().eval().logits(images)) == [""]


def test_it_starts_from_the_backbone_and_the_first_layer_of_the_head():
    source = make()
    head = ProjectionHead(16, 10, hidden_dim=12, bottleneck_dim=4)
    start = Start(source.network.backbone.state_dict(), head)
    method = make(projection=12, ema=0.5)
    said = method.start_from(start)
    assert said == ["the backbone and the first layer of the projection head of the source; the "
                    "classifier is new"]  # fmt: skip
    assert torch.equal(method.trained_classifier().projection.weight, head.layers[0].weight)
    for name, value in start.backbone.items():
        assert torch.equal(method.backbone().state_dict()[name], value)
        assert torch.equal(method.average.backbone.state_dict()[name], value)
    for other in (None, ProjectionHead(16, 10, hidden_dim=8, bottleneck_dim=4)):
        with pytest.raises(UserError, match=r"give the full checkpoint"):
            make(projection=12).start_from(Start(start.backbone, other))


def test_without_labels_it_says_so():
    batch = make_batch(0)
    bare = ViewBatch(batch.crops, batch.masks, batch.index, MEAN, STD)
    with pytest.raises(UserError, match="learns from labels"):
        make()(bare, at(0))


def test_a_second_stage_goes_on_from_the_classifier_where_it_fits():
    first = make(**HEADS["BEiT"])
    classifier = dict(first.trained_classifier().state_dict())
    start = Start(first.backbone().state_dict(), others={"classifier": classifier})
    same, other = make(**HEADS["BEiT"]), make(**HEADS["BEiT"], classes=5)
    for method in (same, other):
        for p in method.trained_classifier().parameters():
            p.data.zero_()
    notes = same.start_from(start)[0], other.start_from(start)[0]
    assert notes[0] == "the backbone and the new norm and the classifier of the source"
    assert notes[1] == "the backbone and the new norm of the source; the classifier is new"
    for name, tensor in classifier.items():
        assert torch.equal(same.trained_classifier().state_dict()[name], tensor)
    second = other.trained_classifier()
    assert torch.equal(second.norm.weight, first.trained_classifier().norm.weight)
    assert not second.linear.weight.any()
