"""BEiT against its published step, rewritten in float64, and what re-implementations get wrong."""

import math

import pytest
import torch
from torch import nn

from sslbench.data.masks import CountMaskConfig
from sslbench.data.views import TokenizerCropConfig
from sslbench.errors import UserError
from sslbench.method import ViewBatch
from sslbench.methods.beit import BEiT, BEiTConfig
from sslbench.recipes.load import recipe_from_dict
from sslbench.tokenizer import Tokenizer
from sslbench.training.build import build_method
from tests.methods.reference import normalised
from tests.methods.small import GRID, MEAN, PATCH, SIZE, STD, at, make_backbone, shake
from tests.methods.steps import make_run, march

CODES = 11
# absolute lr, constant decay, one limit for all gradients, positions and class token exempt
OPTIM = {"lr": 0.01, "scale_lr": False, "weight_decay": 0.05, "weight_decay_end": 0.05}
OPTIM |= {"clip": 0.1, "clip_by": "global", "no_decay": ("pos_embed", "cls_token")}


class CornerTokenizer(Tokenizer):
    """Code = value of the top-left pixel of each 2x2 cell, modulo the number of codes."""

    num_codes, downsample = CODES, 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    def encode(self, pixels):
        corner = (pixels[:, 0, ::2, ::2] * 255).round().long()
        return corner % CODES


def make_beit(tokenizer=None, drop_path=0.0):
    torch.manual_seed(0)
    config = BEiTConfig(TokenizerCropConfig(SIZE, 2 * GRID), CountMaskConfig(0.4))
    return BEiT(config, make_backbone(drop_path), tokenizer=tokenizer or CornerTokenizer())


def make_batch(seed, counts=(3, 1, 9)):
    """One image per entry of `counts`, the number of its masked patches."""
    draw = torch.Generator().manual_seed(seed)
    sizes = {"image": SIZE, "tokenizer": 2 * GRID}
    crops = {
        name: torch.randint(0, 256, (1, len(counts), 3, s, s), dtype=torch.uint8, generator=draw)
        for name, s in sizes.items()
    }
    order = torch.rand(len(counts), GRID**2, generator=draw).argsort(-1).argsort(-1)
    mask = (order < torch.tensor(counts)[:, None]).view(1, -1, GRID, GRID)
    return ViewBatch(crops, {"image": mask}, torch.arange(len(counts)), MEAN, STD)


def beit_step(twin, batch, i):
    """Cross-entropy summed token by token, over the number of masked tokens in the batch."""
    student, head = twin.student, twin.model.lm_head
    images, masks = normalised(batch, "image")[0], batch.masks["image"][0]
    corners = batch.crops["tokenizer"][0, :, 0].long()
    total, hits, count = 0.0, 0, 0
    for image, mask, corner in zip(images, masks, corners, strict=True):
        patches = student(image[None], mask[None]).patches[0]
        for row, column in mask.nonzero().tolist():
            code = int(corner[2 * row, 2 * column]) % CODES
            logits = head(patches[GRID * row + column])
            total = total - torch.log(logits.exp()[code] / logits.exp().sum())
            hits, count = hits + int(logits.argmax() == code), count + 1
    accuracy = torch.tensor(hits / count, dtype=torch.float64)
    return {"loss": total / count, "masked_accuracy": accuracy}


def three_steps(method):
    batches = [make_batch(seed) for seed in range(3)]
    return march(make_run(method, 3, **OPTIM), batches, beit_step)


def test_three_steps_equal_the_published_ones(float64):
    errors = three_steps(shake(make_beit()).double())
    assert max(errors.values()) < 1e-9, errors


def test_three_steps_in_fp32_stay_close():
    errors = three_steps(shake(make_beit()))
    # AdamW makes steps of rounding noise where the gradient is 0 by symmetry: a key's bias
    assert errors.pop("student") < 1e-2
    assert max(errors.values()) < 2e-5, errors


def test_the_average_is_over_tokens_not_images():
    """Trap T4: an image with nine masked tokens weighs nine times one with a single one."""
    method = shake(make_beit())
    batch = make_batch(0, (1, 9))

    def alone(i):
        crops = {k: v[:, i : i + 1] for k, v in batch.crops.items()}
        masks = {"image": batch.masks["image"][:, i : i + 1]}
        return method(ViewBatch(crops, masks, batch.index[:1], MEAN, STD), at(0))["loss"].item()

    expected = (alone(0) + 9 * alone(1)) / 10
    assert method(batch, at(0))["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_student_cannot_see_behind_the_mask():
    method, batch = shake(make_beit()), make_batch(1)
    hidden = (
        batch.masks["image"].repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)[:, :, None]
    )
    for changed, same in ((hidden, True), (~hidden, False)):
        crops = dict(batch.crops)
        crops["image"] = torch.where(changed, 255 - crops["image"], crops["image"])
        other = ViewBatch(crops, batch.masks, batch.index, MEAN, STD)
        assert torch.equal(method(batch, at(0))["loss"], method(other, at(0))["loss"]) is same


def test_the_tokenizer_is_frozen_and_stays_in_eval_mode():
    method = make_beit()
    method.train()
    assert method.student.training
    assert not any(m.training for m in method.tokenizer.modules())
    method(make_batch(0), at(0))["loss"].backward()
    assert not any(p.requires_grad for p in method.tokenizer.parameters())
    trained = {n for n, p in method.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in method.named_parameters() if not n.startswith("tokenizer.")}


def test_weights_are_cut_at_one_std_and_residual_outputs_scaled():
    """Trap T27; a normal cut at one std has 0.5396 of its std."""
    method = make_beit()
    std = method.student.init_std
    blocks = {f"blocks.{i}.{n}.weight": i + 1 for i in range(2) for n in ("attn.proj", "mlp.fc2")}
    checked = set()
    for name, weight in method.student.named_parameters():
        if name.endswith(".bias"):
            assert not weight.any()
        elif weight.ndim > 1:
            scale = 0.02 if "token" in name or ("embed" in name and weight.ndim == 3) else std
            scale /= math.sqrt(2 * blocks[name]) if name in blocks else 1
            assert float(weight.detach().abs().max()) <= scale * (1 + 1e-6)
            if weight.numel() > 200:
                assert float(weight.detach().std()) == pytest.approx(0.5396 * scale, rel=0.1)
                checked.add(name)
    assert checked >= {*blocks, "patch_embed.weight", "pos_embed", "blocks.0.attn.qkv.weight"}
    head = method.lm_head
    assert 0.015 < float(head.weight.detach().abs().max()) <= 0.02 and not head.bias.any()


def test_grids_that_differ_are_refused_with_the_remedy():
    config = BEiTConfig(TokenizerCropConfig(SIZE, 2 * GRID + 2))
    with pytest.raises(UserError, match=r"5x5 codes of 10 px .* 4x4 patches; .*token_size=8"):
        BEiT(config, make_backbone(), tokenizer=CornerTokenizer())


def test_a_missing_tokenizer_is_reported_with_the_remedy():
    remedy = BEiT.needs["tokenizer"]
    assert "sslbench tokenizer train" in remedy and "needs.tokenizer=" in remedy
    with pytest.raises(UserError, match="pretrained tokenizer and none was given"):
        build_method(recipe_from_dict({"method": {"name": "beit"}}))


def test_exports_the_student_and_has_no_cluster_head():
    method = make_beit()
    assert method.backbone() is method.student
    assert method.head() is None
    assert method.health() == {"loss": math.log(CODES)}
