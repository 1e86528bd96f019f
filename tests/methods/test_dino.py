"""DINO against its published step, rewritten in float64 (steps.py)."""

import math

import pytest
import torch

from tests.methods.small import at, make_batch, make_dino
from tests.methods.steps import dino_step, make_run, march

TEMPERATURES = (0.04, 0.055, 0.07)  # linspace over three warm-up epochs, one step each
SETTINGS = {"momentum": 0.9, "warmup_teacher_temp_epochs": 3.0, "freeze_last_layer": 2.0}


def three_steps(method, local):
    batches = [make_batch(seed, local=local) for seed in range(3)]
    run = make_run(method, len(batches[0]))
    return march(run, batches, lambda twin, batch, i: dino_step(twin, batch, TEMPERATURES[i]))


@pytest.mark.parametrize("local", [0, 3])
@pytest.mark.parametrize("norm_last_layer", [True, False])
@pytest.mark.parametrize("head_batch_norm", [True, False])
def test_three_steps_equal_the_published_ones(float64, local, norm_last_layer, head_batch_norm):
    settings = {"norm_last_layer": norm_last_layer, "head_batch_norm": head_batch_norm}
    method = make_dino(**SETTINGS | settings).double()
    errors = three_steps(method, local)
    # AdamW makes steps of rounding noise where batch norm makes the gradient 0: biases before it
    assert max(errors.values()) < (1e-7 if head_batch_norm else 1e-9), errors


def test_three_steps_in_fp32_stay_close():
    errors = three_steps(make_dino(**SETTINGS), local=3)
    # AdamW makes steps of rounding noise where the gradient is 0 by symmetry: a key's bias
    assert max(errors.pop("student"), errors.pop("teacher")) < 1e-2
    assert max(errors.values()) < 2e-5, errors


def test_the_teacher_sees_global_crops_only():
    method, batch = make_dino(), make_batch(0, local=2)
    shapes = []
    embedding = method.teacher["backbone"].patch_embed
    embedding.register_forward_hook(lambda m, a, o: shapes.append(a[0].shape))
    method(batch, at(0))
    assert shapes == [(6, 3, 16, 16)]


@pytest.mark.parametrize("apart", [False, True])
def test_crops_of_one_size_are_normalised_with_the_others_or_apart(apart):
    """The official head sees all crops at once; the embedded recipes keep the sizes apart."""
    method = make_dino(head_batch_norm=True, head_batch_norm_apart=apart)
    batch = make_batch(0, local=2)
    crops, local = batch.images("global"), batch.images("local")
    alone = method._cls_logits(method.student, [crops])
    both = method._cls_logits(method.student, [crops, local])
    assert both.shape[0] == alone.shape[0] + local.shape[0]
    assert torch.allclose(both[: len(alone)], alone, atol=1e-6) is apart


def test_equal_outputs_everywhere_give_the_uniform_loss():
    method = make_dino()
    for network in (method.student, method.teacher):
        torch.nn.init.zeros_(network["head"].last_layer.weight_g)
    values = method(make_batch(0, local=1), at(0))
    assert method.health() == {"loss": math.log(12), "teacher_entropy": math.log(12)}
    for key, uniform in method.health().items():
        assert values[key].item() == pytest.approx(uniform, rel=1e-6)


def test_effective_epochs_count_the_area_of_all_crops():
    method = make_dino()
    # 2 x 224^2 + 10 x 96^2 = 3.84 x 224^2 (iBOT App. B)
    assert method.effective_epochs(method.config, 100) == pytest.approx(100 * 3.8367, rel=1e-4)
