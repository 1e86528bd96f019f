"""Names with wrappers and chunks inside, as DINOv2's own training writes them."""

import pytest
import torch

from sslbench.checkpoints.networks import plain
from sslbench.errors import UserError
from tests.checkpoints.layouts import forward, head, prefixed, vit
from tests.checkpoints.test_official import TINY, features, load, worst


def chunked(t, size=1):
    """Blocks as dinov2/models/vision_transformer.py:159-171 numbers them: chunk, then block."""
    found = {}
    for key, tensor in t.items():
        first, _, rest = key.partition(".")
        if first == "blocks":
            key = f"blocks.{int(rest.partition('.')[0]) // size}.{rest}"
        found[key] = tensor
    return found


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("wrapper", ["", "_fsdp_wrapped_module.", "_orig_mod.module."])
@pytest.mark.parametrize("whole", [True, False])
def test_training_checkpoints_of_dinov2_are_read(tmp_path, size, wrapper, whole):
    teacher = vit(**TINY, layer_scale=True) | {"mask_token": torch.randn(1, 16)}
    expected, images = forward(teacher, 2, x := torch.randn(2, 3, 32, 32)), x
    inside = {
        k.replace("blocks.0.", f"blocks.0.{wrapper}"): v for k, v in chunked(teacher, size).items()
    }
    t = prefixed(inside, f"backbone.{wrapper}")
    for name in ("dino_head.", "ibot_head."):
        t |= prefixed(head(16), f"{name}{wrapper}")
    container = {"teacher": t}
    if whole:
        student = {f"student.{k}": v + 1 for k, v in t.items()}
        losses = {"dino_loss.center": torch.zeros(1, 9), "ibot_patch_loss.center": torch.zeros(1)}
        container = {"model": prefixed(t, "teacher.") | student | losses, "iteration": 9}
    model = load(tmp_path, container)
    assert worst(features(model, images), expected) <= 1e-5
    assert (model.card.method, model.card.identified) == ("dinov2", "checkpoint")
    names = container["model" if whole else "teacher"]
    report = model.report
    said = [*report.loaded, *(k for keys in report.dropped.values() for k in keys)]
    assert sorted(said) == sorted(names)


def test_wrappers_go_wherever_they_stand():
    name = "module.a._fsdp_wrapped_module._orig_mod.blocks.0.3._checkpoint_wrapped_module.norm1.w"
    assert plain(name) == "a.blocks.3.norm1.w"
    assert plain("submodule.x.modules.y") == "submodule.x.modules.y"
    assert plain("blocks.0.norm1.w") == "blocks.0.norm1.w"


@pytest.mark.parametrize(
    "first, second",
    [
        ("norm.weight", "module.norm.weight"),
        ("blocks.0.norm1.weight", "blocks.0._orig_mod.norm1.weight"),
    ],
)
def test_one_parameter_under_two_names_is_refused(tmp_path, first, second):
    t = vit(**TINY)
    with pytest.raises(UserError, match=f"holds both {first} and {second}, one parameter"):
        load(tmp_path, t | {second: t[first]})


def test_flattened_parameters_are_refused_truly(tmp_path):
    t = vit(**TINY) | {"blocks.0._flat_param": torch.zeros(9)}
    with pytest.raises(UserError, match=r"blocks.0._flat_param, parameters that FSDP flattened"):
        load(tmp_path, t)
