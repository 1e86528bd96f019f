"""The losses, centres and schedules against loops in float64 (reference.py) and numpy arrays."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslbench.methods.losses import Centre, cls_loss, cosine, entropy, patch_loss, temperature
from tests.methods.reference import numpy_cls_loss, numpy_patch_loss
from tests.methods.small import at

few = settings(max_examples=25, derandomize=True)
small = st.integers(1, 4)
seeds = st.integers(0, 2**16)


def logits(rng, *shape):
    return torch.from_numpy(rng.normal(0, 1, shape)).float()


def probabilities(rng, *shape):
    """What a sharpened teacher gives: peaky rows that sum to 1."""
    return torch.softmax(logits(rng, *shape) / 0.2, dim=-1)


def agree(loss, student, expected, gradient, tau):
    """Absolute tolerances: a few fp32 roundings of a logarithm, and of a difference over tau."""
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(student.grad, gradient, rtol=1e-5, atol=3e-7 / tau)


@few
@given(seeds, st.integers(1, 3), st.integers(0, 4), small, st.integers(2, 9))
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_cls_loss_is_the_mean_over_ordered_pairs(tau, seed, crops, local, images, dim):
    if crops + local < 2:
        local = 1  # one view alone has no pair
    rng = np.random.default_rng(seed)
    student = logits(rng, crops + local, images, dim).requires_grad_()
    teacher = probabilities(rng, crops, images, dim)
    expected = numpy_cls_loss(student.detach().double().numpy(), teacher.double().numpy(), tau)
    agree(cls_loss(student, teacher, tau), student, *expected, tau)


def test_cls_loss_has_22_terms_for_two_and_ten_crops():
    """Every pair costs ln K under uniform outputs, and a view is never paired with itself."""
    student, teacher = torch.zeros(12, 2, 5), torch.full((2, 2, 5), 0.2)
    assert cls_loss(student, teacher, 0.1).item() == pytest.approx(math.log(5), rel=1e-6)
    student[:2, :, 0] = 3.0  # the globals, in one pair each; the locals in two: 2 of 22 terms
    pair = 0.2 * math.exp(30) / (math.exp(30) + 4)
    cost = -(math.log(pair / 0.2) + 4 * (math.log(1 / (math.exp(30) + 4)))) / 5
    expected = (2 * cost + 20 * math.log(5)) / 22
    assert cls_loss(student, teacher, 0.1).item() == pytest.approx(expected, rel=1e-5)


@few
@given(seeds, small, small, st.integers(1, 9), st.integers(2, 9), st.sampled_from([0, 0.3, 1.0]))
def test_patch_loss_is_a_mean_of_means(seed, views, images, patches, dim, ratio):
    rng = np.random.default_rng(seed)
    mask = rng.random((views, images, patches)) < ratio * rng.random((views, images, 1))
    student, teacher = logits(rng, *mask.shape, dim), probabilities(rng, *mask.shape, dim)
    chosen = torch.from_numpy(mask)
    expected, gradient = numpy_patch_loss(
        student.double().numpy(), teacher.double().numpy(), mask, 0.1
    )
    masked = student[chosen].requires_grad_()
    agree(patch_loss(masked, teacher[chosen], chosen, 0.1), masked, expected, gradient[mask], 0.1)


def test_patch_loss_counts_unmasked_images_as_zero():
    mask = torch.tensor([[[True, True], [False, False]]])
    uniform = torch.full((2, 4), 0.25)
    loss = patch_loss(torch.zeros(2, 4), uniform, mask, 0.1)
    assert loss.item() == pytest.approx(math.log(4) / 2)
    alone = patch_loss(torch.zeros(2, 4), uniform, mask, 0.1, count_unmasked=False)
    assert alone.item() == pytest.approx(math.log(4))
    for counted in (True, False):
        none = torch.zeros(0, 4)
        assert patch_loss(none, none, torch.zeros_like(mask), 0.1, counted).item() == 0


def test_losses_run_in_fp32_under_autocast():
    """Trap T17: softmax, log-softmax and centre stay in fp32."""
    rng = np.random.default_rng(0)
    student, teacher = logits(rng, 2, 3, 8).bfloat16(), logits(rng, 2, 3, 8).bfloat16()
    centre = Centre(8)
    with torch.autocast("cpu", torch.bfloat16):
        targets = centre.sharpen(teacher, 0.04)
        loss = cls_loss(student, targets, 0.1)
        centre.observe(teacher)
        centre.step()
    assert targets.dtype == loss.dtype == centre.value.dtype == torch.float32
    exact = torch.softmax(teacher.double() / 0.04, -1)
    torch.testing.assert_close(targets.double(), exact, rtol=1e-5, atol=1e-7)
    expected = 0.1 * teacher.double().mean((0, 1))
    torch.testing.assert_close(centre.value.double(), expected, rtol=1e-5, atol=1e-7)


@few
@given(seeds, st.lists(st.lists(small, min_size=1, max_size=3), min_size=1, max_size=4))
def test_centre_is_an_ema_over_all_rows_of_a_step(seed, steps):
    """`steps` holds the rows of each micro-batch of each step."""
    rng, centre, expected = np.random.default_rng(seed), Centre(5, momentum=0.8), np.zeros(5)
    for micro in steps:
        rows = [logits(rng, n, 2, 5) for n in micro]
        for row in rows:
            before = centre.value.clone()
            centre.observe(row)
            assert torch.equal(centre.value, before)  # the loss uses the previous centre
        centre.step()
        mean = np.concatenate([r.double().numpy().reshape(-1, 5) for r in rows]).mean(0)
        expected = 0.8 * expected + 0.2 * mean
    np.testing.assert_allclose(centre.value, expected, rtol=1e-5, atol=1e-6)


def test_centre_without_rows_stays():
    centre = Centre(3)
    centre.observe(torch.ones(2, 3))
    centre.step()
    before = centre.value.clone()
    centre.step()
    assert torch.equal(centre.value, before)
    assert torch.equal(before, torch.full((3,), 0.1))


def test_centre_travels_in_the_state_but_its_micro_batches_do_not():
    centre = Centre(3)
    centre.observe(torch.ones(2, 3))
    assert set(centre.state_dict()) == {"value"}


def test_sharpen_subtracts_the_centre_and_passes_no_gradient():
    rng, centre = np.random.default_rng(1), Centre(6)
    raw = logits(rng, 4, 6).requires_grad_()
    centre.observe(logits(rng, 3, 6) * 5)
    centre.step()
    x = (raw.detach().double().numpy() - centre.value.double().numpy()) / 0.04
    expected = np.exp(x - x.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    found = centre.sharpen(raw, 0.04)
    assert not found.requires_grad
    np.testing.assert_allclose(found.double(), expected, rtol=1e-4, atol=1e-7)


def test_entropy_of_the_two_collapses():
    assert entropy(torch.eye(4)).item() == pytest.approx(0, abs=1e-6)
    assert entropy(torch.full((3, 4), 0.25)).item() == pytest.approx(math.log(4))
    assert entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
@pytest.mark.parametrize("delay", [0, 3])
def test_temperature_is_the_published_array(warmup, delay):
    """main_dino.py:374-378 and main_ibot.py:503-512: [start] * delay, linspace, then flat."""
    warm = np.linspace(0.04, 0.07, warmup)
    array = np.concatenate([np.full(delay, 0.04), warm, np.full(10 - delay - warmup, 0.07)])
    found = [temperature(0.04, 0.07, warmup, at(3 * e + 2, 30, 3), delay) for e in range(10)]
    np.testing.assert_allclose(found, array, rtol=1e-12)


@few
@given(st.floats(0, 6), st.floats(0, 3), st.integers(0, 20))
def test_temperature_stays_between_its_ends(warmup, delay, step):
    now, later = (temperature(0.04, 0.07, warmup, at(s, 40, 2), delay) for s in (step, step + 1))
    assert 0.04 <= now <= later + 1e-12 <= 0.07 + 2e-12
    assert temperature(0.04, 0.07, warmup, at(39, 40, 2), delay) == 0.07


def test_momentum_rises_by_step_and_never_reaches_one():
    i = np.arange(20)
    array = 1 + 0.5 * (0.996 - 1) * (1 + np.cos(np.pi * i / 20))
    found = [cosine(0.996, 1.0, at(s, 20, 5)) for s in range(20)]
    np.testing.assert_allclose(found, array, rtol=1e-12)
    assert found[0] == 0.996 and all(a < b < 1 for a, b in pairwise(found))
