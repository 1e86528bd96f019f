"""Learning rate and weight decay against the published array (dino/utils.py:187-198)."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslbench.training.schedules import cosine_schedule, epoch_schedule

runs = st.integers(2, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))
few = settings(max_examples=50, derandomize=True)


def published(total, peak, end, warmup, start=0.0):
    """linspace with both ends, then the cosine at i / length."""
    steps = np.arange(total - warmup)
    cosine = end + 0.5 * (peak - end) * (1 + np.cos(np.pi * steps / len(steps)))
    return np.concatenate([np.linspace(start, peak, warmup), cosine])


def ours(total, peak, end, warmup):
    return [cosine_schedule(step, total, peak, end, warmup) for step in range(total)]


@few
@given(runs, st.floats(1e-5, 1), st.floats(0, 1))
def test_equals_the_published_array(run, peak, end):
    total, warmup = run
    expected = published(total, peak, end, warmup)
    np.testing.assert_allclose(ours(total, peak, end, warmup), expected, rtol=1e-9, atol=1e-15)


def test_warmup_has_both_ends_and_the_cosine_misses_its_own():
    """Trap T18."""
    values = ours(100, 2e-3, 1e-5, 10)
    assert values[0] == 0
    assert values[9] == values[10] == 2e-3
    assert values[-1] > 1e-5
    assert cosine_schedule(100, 100, 2e-3, 1e-5, 10) == pytest.approx(1e-5)


@few
@given(runs, st.floats(1e-5, 1), st.floats(0, 1))
def test_rises_to_the_peak_then_falls_without_reaching_the_end(run, peak, ratio):
    total, warmup = run
    end = ratio * peak
    values = ours(total, peak, end, warmup)
    assert all(a <= b for a, b in pairwise(values[:warmup]))
    assert all(a >= b for a, b in pairwise(values[warmup:]))
    slack = 1e-12 * peak
    assert all(0 <= v <= peak + slack for v in values)
    assert all(v >= end - slack for v in values[warmup:])


@few
@given(st.integers(2, 200), st.floats(0, 0.1), st.floats(0, 1))
def test_weight_decay_rises_from_the_first_step(total, start, more):
    values = ours(total, start, start + more, 0)
    assert values[0] == pytest.approx(start, abs=1e-12)
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    assert values[-1] <= start + more + 1e-12


@pytest.mark.parametrize("total, warmup", [(5, 5), (5, 9), (1, 0), (1, 1), (3, 1)])
def test_short_runs_stay_within_bounds(total, warmup):
    assert all(0 <= v <= 1 for v in ours(total, 1.0, 0.1, warmup))


@few
@given(runs, st.floats(1e-5, 1), st.floats(0, 1))
def test_the_warmup_may_start_above_0(run, peak, start):
    """`start_warmup_value` of the published function."""
    total, warmup = run
    values = [cosine_schedule(step, total, peak, 0.0, warmup, start) for step in range(total)]
    expected = published(total, peak, 0.0, warmup, start)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-15)


def test_deit_s_schedule_is_an_epoch_late():
    """`lr_scheduler.step(epoch)` after the epoch: the first value is used twice."""
    values = [epoch_schedule(epoch, 10, 1.0, 0.0, 2, 0.2) for epoch in range(10)]
    assert values[:3] == [0.2, 0.2, pytest.approx(0.6)]
    # the cosine began with the first epoch, so the peak itself is never reached
    assert values[3] == pytest.approx(0.5 * (1 + np.cos(0.2 * np.pi)))
    assert values[-1] == pytest.approx(0.5 * (1 + np.cos(0.8 * np.pi)))


def test_an_end_at_the_peak_is_flat_after_the_warmup():
    """iBOT's semi-supervised fine-tuning: trap T36."""
    values = [epoch_schedule(epoch, 1000, 1e-5, 1e-5, 5, 1e-6) for epoch in range(1000)]
    assert values[0] == values[1] == 1e-6 and set(values[6:]) == {1e-5}
    rising = values[1:7]
    assert all(a < b for a, b in pairwise(rising))


@pytest.mark.parametrize("epochs, warmup", [(0.5, 0), (1, 0), (1, 5), (2.5, 0.5), (3, 3)])
def test_short_runs_of_epochs_stay_within_bounds(epochs, warmup):
    values = [epoch_schedule(e, epochs, 1.0, 0.1, warmup, 0.05) for e in range(-int(-epochs // 1))]
    assert all(0.05 <= v <= 1 for v in values)
