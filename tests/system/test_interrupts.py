"""Signals: raised where they meet a command, noted where something has to finish first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader

from sslbench.system import interrupts
from sslbench.system.interrupts import Interrupted


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_each_signal_is_raised_with_the_code_that_launchers_know(number) -> None:
    with pytest.raises(Interrupted) as end, interrupts.raised():
        send(number)
    assert end.value.code == 128 + number
    assert end.value.sentence.startswith(f"stopped by {signal.Signals(number).name}: ")


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_each_signal_is_noted_and_handlers_are_put_back(number) -> None:
    before = [signal.getsignal(n) for n in interrupts.SIGNALS]
    with interrupts.noted() as asked:
        assert asked.number == 0
        send(number)
        send(signal.SIGTERM)  # a launcher and its child may both be told
        assert asked.number == number
    assert [signal.getsignal(n) for n in interrupts.SIGNALS] == before


def test_a_second_ctrl_c_is_in_a_hurry_but_one_that_arrives_twice_is_not(monkeypatch) -> None:
    with interrupts.noted() as asked:
        send(signal.SIGINT)
        send(signal.SIGINT)
        later = time.monotonic() + interrupts.DUPLICATE_SECONDS + 0.1
        monkeypatch.setattr(interrupts.time, "monotonic", lambda: later)
        with pytest.raises(Interrupted, match="second Ctrl-C"):
            send(signal.SIGINT)
    assert asked.number == signal.SIGINT


class Finalised:
    """Its finaliser swallows what a signal raises there, as Python makes it."""

    def __del__(self) -> None:
        send(signal.SIGTERM)


def swallow() -> None:
    """As C code does that clears errors."""
    with contextlib.suppress(Interrupted):
        send(signal.SIGTERM)


@pytest.mark.parametrize("swallows", [Finalised, swallow])
def test_a_signal_that_is_swallowed_is_raised_again(swallows, capfd) -> None:
    with pytest.raises(Interrupted) as end, interrupts.raised():
        swallows()
        time.sleep(5)
    assert end.value.number == signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_an_error_after_a_signal_is_its_doing() -> None:
    with pytest.raises(Interrupted) as end, interrupts.raised():
        swallow()
        raise RecursionError("numpy is half imported")
    assert isinstance(end.value.__cause__, RecursionError)


def test_a_signal_that_was_dealt_with_does_not_come_back() -> None:
    with pytest.raises(Interrupted), interrupts.raised():
        send(signal.SIGTERM)
    with interrupts.noted() as asked:
        time.sleep(3 * interrupts.RETRY_SECONDS)
    assert asked.number == 0


def test_what_arrives_twice_does_not_break_the_end() -> None:
    ended = []
    with pytest.raises(Interrupted), interrupts.raised():
        try:
            send(signal.SIGINT)
        finally:
            send(signal.SIGINT)
            ended.append("in peace")
    assert ended


def test_nohup_is_respected() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.raised():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_forked_child_leaves_signals_to_its_parent() -> None:
    """A data worker gets what is sent to the whole process group; its parent still needs it."""
    with interrupts.noted():
        child = os.fork()
        if child == 0:
            for number in interrupts.SIGNALS:
                send(number)
            time.sleep(0.1)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_data_worker_outlives_a_signal_to_the_whole_group_and_obeys_its_parent() -> None:
    """`timeout` and schedulers signal all processes; torch's own handler ended workers at once."""
    with interrupts.noted():
        batches = iter(DataLoader(range(64), num_workers=1))  # type: ignore[arg-type]
        next(batches)
        (worker,) = batches._workers
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        assert [int(batch) for batch in batches] == list(range(1, 64))
        batches = iter(DataLoader(range(64), num_workers=1))  # type: ignore[arg-type]
        next(batches)
        (worker,) = batches._workers
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0


def test_a_child_without_a_parent_that_ends_it_ends_after_a_delay(monkeypatch) -> None:
    monkeypatch.setattr(interrupts, "LINGER_SECONDS", 0.3)
    with interrupts.noted():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
    subprocess.run(["kill", "-TERM", str(child.pid)], check=True)
    child.join(0.1)
    assert child.is_alive()
    child.join(10)
    assert child.exitcode == 128 + signal.SIGTERM


def test_a_child_obeys_its_parent_from_its_first_moment() -> None:
    """What arrived between the fork and the child's own handler was lost."""
    with interrupts.noted() as asked:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        child.terminate()
        child.join(10)
        assert child.exitcode == 0
        send(signal.SIGTERM)  # which the parent itself still gets
        assert asked.number == signal.SIGTERM


def test_a_child_that_gets_no_thread_is_ended_as_usual(monkeypatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with interrupts.noted():
        monkeypatch.setattr(interrupts.threading.Thread, "start", refuse)
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        monkeypatch.undo()
        child.terminate()
        child.join(10)
    assert child.exitcode == -signal.SIGTERM
