"""Tensors that cannot be weights: one sentence naming the key, never a traceback, never silence."""

import pytest
import torch

from sslbench.errors import UserError
from tests.checkpoints.layouts import NANO, beit, head, prefixed, swin, vit
from tests.checkpoints.test_official import SWIN_NANO, TINY, load, tiny_others

__all__ = ["tiny_others"]

CLS = torch.zeros(1, 1, 16)
TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"


@pytest.mark.parametrize(
    "make, wrong, said",
    [
        (vit, {"cls_token": CLS.to_sparse()}, "cls_token is sparse"),
        (vit, {"cls_token": CLS.to("meta")}, "cls_token has a shape and no values"),
        (vit, {"cls_token": CLS.int()}, "cls_token holds int32 instead of floating-point"),
        (vit, {"norm.bias": torch.zeros(16).bool()}, "norm.bias holds bool instead of"),
        (vit, {"cls_token": CLS + float("nan")}, "cls_token holds values that are not finite"),
        (vit, {"cls_token": CLS.half() - float("inf")}, "cls_token holds values that are not fin"),
        (vit, {"cls_token": CLS.double() + 1e300}, "cls_token holds values that are not finite"),
        (vit, {"patch_embed.proj.weight": torch.zeros(16, 768)}, r"impossible shape \(16, 768\)"),
        (vit, {"pos_embed": torch.zeros(1)}, r"pos_embed has the impossible shape \(1,\)"),
        (vit, {"pos_embed": torch.zeros(1, 0, 16)}, r"pos_embed has the impossible shape"),
        (vit, {"pos_embed": CLS}, r"pos_embed has too few rows \(1\)"),
        (vit, {"register_tokens": torch.zeros(4, 16)}, "register_tokens has the impossible shape"),
        (beit, {"rel_pos_bias.relative_position_bias_table": torch.zeros(2, 2)}, "too few rows"),
        (beit, {"rel_pos_bias.relative_position_bias_table": torch.zeros(3)}, "impossible shape"),
        (swin, {TABLE: torch.zeros(0, 1)}, f"{TABLE} has the impossible shape"),
        (swin, {"layers.0.downsample.norm.weight": torch.ones(())}, "impossible shape"),
        (swin, {"layers.0.downsample.norm.weight": torch.ones(31)}, "impossible shape"),
    ],
)
def test_a_tensor_that_is_no_weight_is_named(tmp_path, make, wrong, said):
    sizes = {vit: TINY, beit: NANO | {"heads": 2}, swin: SWIN_NANO}[make]
    with pytest.raises(UserError, match=rf"x.pth is (damaged|unfit): .*{said}.* anew") as refused:
        load(tmp_path, make(**sizes) | wrong)
    assert "\n" not in str(refused.value)


HEAD = head(16)


@pytest.mark.parametrize(
    "tensors",
    [
        {k.replace("mlp.4", "layers.2"): HEAD[k] for k in HEAD if "mlp" not in k or "4" in k},
        HEAD | {"mlp.0.weight": torch.zeros(12)},
        HEAD | {"last_layer.weight_v": torch.zeros(())},
        {k: v for k, v in HEAD.items() if k != "last_layer.weight_g"},
        HEAD | {"last_layer2.weight_v": torch.zeros(()), "last_layer2.weight_g": torch.ones(1, 1)},
    ],
    ids=["first", "flat", "number", "norms", "second"],
)
@pytest.mark.parametrize("loss", ["dino_loss", "ibot_loss"])
def test_a_damaged_head_is_left_out(tmp_path, tensors, loss):
    teacher = prefixed(vit(**TINY), "backbone.") | prefixed(tensors, "head.")
    model = load(tmp_path, {"teacher": teacher, loss: {}})
    why = f"a projection head that {loss.removesuffix('_loss')!r} cannot rebuild"
    assert model.head is None
    assert set(model.report.dropped[why]) == {f"head.{k}" for k in tensors}


def test_a_head_that_is_not_finite_is_refused(tmp_path):
    bad = head(16) | {"last_layer.weight_v": torch.full((11, 8), float("nan"))}
    teacher = prefixed(vit(**TINY), "backbone.") | prefixed(bad, "head.")
    with pytest.raises(UserError, match=r"its head.last_layer.weight_v holds values that are not"):
        load(tmp_path, {"teacher": teacher, "dino_loss": {}})
