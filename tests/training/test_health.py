"""Collapse and standing still are named, once, and only when they last."""

import math

import pytest

from sslbench.training.health import PATIENCE, Health

BOUND = math.log(64)


def said(values, key="teacher_entropy", every=20, total=1_000_000):
    """What is said of values logged every so many steps."""
    health = Health({key: BOUND}, total)
    steps = range(every, every * len(values) + 1, every)
    return [
        text
        for s, v in zip(steps, values, strict=True)
        for text in health.check({"step": s, key: v})
    ]


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
    assert Health({"patch_entropy": BOUND}, 100).check({"step": 20, "loss": BOUND}) == []


def test_a_loss_that_hardly_leaves_its_bound_is_named_while_there_is_time() -> None:
    """P8: 270 steps from 5.510 to 5.503, where ln 256 is 5.545, ended without a word."""
    health = Health({"loss": math.log(256)}, 270)
    records = [(step, 5.510 - 0.007 * step / 270) for step in range(20, 270, 20)]
    warned = [s for s, loss in records if health.check({"step": s, "loss": loss})]
    assert len(warned) == 1
    assert warned[0] <= 270 / 2


def test_the_band_widens_with_steps_also_where_the_run_is_long() -> None:
    slow = [0.98 * BOUND] * 20
    assert said(slow) == []  # 400 steps of a million
    (text,) = said(slow, every=1_000)  # 20,000 of them
    assert "raise optim.lr" in text
    assert said([0.97 * BOUND] * 20, every=1_000) == []


def test_a_run_that_learns_is_not_accused() -> None:
    """DINO with 65,536 prototypes: 1.7 % below the bound after the first of 100 epochs."""
    health = Health({"loss": math.log(65536)}, 125_000)
    records = [
        (step, math.log(65536) * (1 - 0.017 * step / 1250)) for step in range(50, 12_500, 50)
    ]
    late = [s for s, loss in records if health.check({"step": s, "loss": loss}) and s > 625]
    assert late == []


@pytest.mark.parametrize(("value", "count"), [(32.9, 1), (33.0, 1), (33.1, 0)])
def test_a_measure_no_better_than_untrained_weights_is_named_once(value, count) -> None:
    health = Health({}, 900)
    texts = [
        text
        for step in range(100, 901, 100)
        for text in health.check({"step": step, "knn_top1": value, "knn_top1_start": 33.0})
    ]
    assert len(texts) == count
    assert all("knn_top1 is" in t and "after 300 steps, no better than 33.0" in t for t in texts)


def test_a_measure_without_room_to_rise_says_nothing() -> None:
    """Two or three images always find each other."""
    full = {"step": 300, "views_match": 100.0, "views_match_start": 100.0}
    assert Health({}, 900).check(full) == []


def test_a_loss_near_its_bound_is_no_collapse_where_a_measure_has_risen() -> None:
    """iBOT on shapes: its loss is 0.8 to 1.8 % below ln 256 for 300 steps, its k-NN 34 from 21."""
    health = Health({"loss_cls": math.log(256)}, 300)
    below = {20: 1.35, 40: 1.16, 60: 0.75, 80: 0.82, 100: 0.80, 120: 1.29, 140: 1.60}
    below |= dict.fromkeys(range(160, 301, 20), 1.82)
    records = [{"step": s, "loss_cls": (1 - b / 100) * math.log(256)} for s, b in below.items()]
    for record in records:
        if record["step"] % 100 == 0:
            record |= {"knn_top1": 34.0, "knn_top1_start": 21.0}
    assert [text for record in records for text in health.check(record)] == []
    health = Health({"loss_cls": math.log(256)}, 300)
    flat = [{k: v for k, v in r.items() if "knn" not in k} for r in records]
    assert [text for record in flat for text in health.check(record)] != []


def test_a_start_from_weights_need_not_rise_but_must_not_fall() -> None:
    def warnings(value: float) -> list[str]:
        record = {"step": 300, "knn_top1": value, "knn_top1_start": 80.0}
        return Health({}, 900, started=True).check(record)

    assert warnings(80.0) == warnings(76.0) == []
    (text,) = warnings(74.0)
    assert "below the 80.0 of the weights it started from" in text and "optim.lr" in text
