"""Both collapses are named, once, and only when they last."""

import math

import pytest

from sslbench.training.health import PATIENCE, Health

BOUND = math.log(64)


def said(values, key="teacher_entropy"):
    health = Health({key: BOUND})
    return [text for value in values for text in health.check({key: value})]


def test_a_constant_output_is_named_once() -> None:
    (text,) = said([0.001 * BOUND] * 3 * PATIENCE)
    assert "teacher_entropy is 0.004 nats of 4.159 (ln K)" in text
    assert "every image gets the same prototype" in text


@pytest.mark.parametrize("value", [0.999 * BOUND, BOUND, 1.001 * BOUND])
def test_a_uniform_output_is_named_once(value) -> None:
    (text,) = said([value] * 3 * PATIENCE)
    assert "the output is uniform and nothing is learnt" in text


def test_a_loss_near_zero_is_no_collapse_but_one_at_its_bound_is() -> None:
    assert said([0.0] * PATIENCE, "loss") == []
    assert len(said([BOUND] * PATIENCE, "loss")) == 1


def test_healthy_values_and_short_streaks_say_nothing() -> None:
    assert said([0.5 * BOUND] * 3 * PATIENCE) == []
    assert said(([BOUND] * (PATIENCE - 1) + [0.5 * BOUND]) * 3) == []
    assert said([float("nan")] * 3 * PATIENCE) == []


def test_a_second_streak_is_named_again() -> None:
    assert len(said([BOUND] * PATIENCE + [0.5 * BOUND] + [BOUND] * PATIENCE)) == 2


def test_a_key_that_is_not_logged_is_passed_over() -> None:
    assert Health({"patch_entropy": BOUND}).check({"loss": BOUND}) == []
