"""What is printed while a suite runs (E7)."""

import io

import pytest
from rich.console import Console

from sslbench.evaluation.watcher import ConsoleWatcher, Forecast, duration

JOBS = ("boxes on a ViT-S/16", "masks on b ViT-S/16")


def go(console):
    """Two jobs at once; what stands below the results when both run and after one has ended."""
    states = []
    with ConsoleWatcher(console) as watcher:
        watcher.say("left out: masks [x].")
        for number, job in enumerate(JOBS, start=1):
            watcher.starts(job, number, 2)
        watcher.progress(JOBS[0], "", 30, 150)
        watcher.progress(JOBS[1], "features of x", 1, 2)
        states.append(below(watcher))
        watcher.ends(JOBS[0], "AP^b 31.2")
        watcher.progress(JOBS[1], "", 2, 2)
        states.append(below(watcher))
        watcher.ends(JOBS[1], "")
    return states


def below(watcher):
    screen = Console(file=io.StringIO(), width=60)
    screen.print(watcher.status())
    return screen.file.getvalue().splitlines()


def test_a_log_has_a_line_for_each_start_and_end_with_jobs_done_and_time_left():
    screen = io.StringIO()
    go(Console(file=screen, width=20))
    assert screen.getvalue().splitlines() == [
        "left out: masks [x].",
        f"1/2 {JOBS[0]}",
        f"2/2 {JOBS[1]}",
        f"{JOBS[0]}: AP^b 31.2 [1/2 done, about 1 s left]",
        f"{JOBS[1]}: done [2/2 done]",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_shows_results_as_they_come_and_what_is_running(width):
    screen = io.StringIO()
    both, last = go(Console(file=screen, force_terminal=True, width=width))
    assert both[:2] == [f"1/2 {JOBS[0]}: 30/150", f"2/2 {JOBS[1]}: features of x 1/2"]
    assert " 0/2 done, about " in both[-1]
    assert last[0] == f"2/2 {JOBS[1]}: 2/2" and last[-1].endswith(" 1/2 done, about 1 s left")
    assert "left out: masks [x]." in screen.getvalue()
    assert f"{JOBS[0]}: AP^b 31.2 [1/2 done, about 1 s left]\n" in screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_quiet_console_stays_quiet(terminal):
    screen = io.StringIO()
    go(Console(file=screen, force_terminal=terminal, quiet=True))
    assert screen.getvalue() == ""


def test_time_left_is_that_of_jobs_of_the_same_benchmark():
    now = [0.0]
    forecast = Forecast(clock=lambda: now[0])
    assert forecast.left() is None
    for number, (job, took) in enumerate([("knn on a", 10), ("boxes on a", 100)], start=1):
        forecast.starts(job, number, 4)
        now[0] += took
        forecast.ends(job)
    forecast.starts("boxes on b", 3, 4)
    now[0] += 30
    # 100 s less 30 for this one, the mean of 10 and 100 for the one that waits
    assert forecast.left() == 70 + 55
    forecast.running["boxes on b"].share = 0.5  # it takes 60 s and not 100, as it goes
    assert forecast.left() == pytest.approx(30 + (10 + 100 + 60) / 3)
    assert str(forecast) == "2/4 done, about 1 min left"


def test_a_job_that_another_process_has_done_counts_as_done():
    forecast = Forecast()
    forecast.starts("knn on a", 1, 3)
    forecast.ends("knn on b")
    assert (forecast.done, list(forecast.running)) == (1, ["knn on a"])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (61, "1 min"), (3599, "60 min"), (3900, "1 h 05 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words.replace("60 min", "1 h 00 min")
