"""What is printed while a suite runs."""

import io

import pytest
from rich.console import Console

from sslbench.evaluation.watcher import ConsoleWatcher

JOBS = ("boxes on a ViT-S/16", "masks on b ViT-S/16")


def go(console):
    """Two jobs at once; what the status line says when both run, and after the first has ended."""
    with ConsoleWatcher(console) as watcher:
        watcher.say("masks [x] will not run.")
        for number, job in enumerate(JOBS, start=1):
            watcher.starts(job, number, 2)
        watcher.progress(JOBS[0], "", 30, 150)
        watcher.progress(JOBS[1], "features of x", 1, 2)
        both = watcher.status.status.plain
        watcher.ends(JOBS[0], "AP^b 31.2")
        watcher.progress(JOBS[1], "", 2, 2)
        last = watcher.status.status.plain
        watcher.ends(JOBS[1], "")
    return both, last


def test_a_log_has_a_line_for_each_start_and_end():
    screen = io.StringIO()
    go(Console(file=screen, width=20))
    assert screen.getvalue().splitlines() == [
        "masks [x] will not run.",
        f"1/2 {JOBS[0]}",
        f"2/2 {JOBS[1]}",
        f"{JOBS[0]}: AP^b 31.2",
        f"{JOBS[1]}: done",
    ]


def test_a_terminal_shows_what_is_running():
    screen = io.StringIO()
    both, last = go(Console(file=screen, force_terminal=True, width=200))
    assert both == f"1/2 {JOBS[0]}: 30/150 | 2/2 {JOBS[1]}: features of x 1/2"
    assert last == f"2/2 {JOBS[1]}: 2/2"
    assert "masks [x] will not run." in screen.getvalue()
    assert "AP^b" not in screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_quiet_console_stays_quiet(terminal):
    screen = io.StringIO()
    go(Console(file=screen, force_terminal=terminal, quiet=True))
    assert screen.getvalue() == ""
