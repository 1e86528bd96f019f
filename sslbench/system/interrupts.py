"""Signals that ask a process to end: Ctrl-C, a cluster's warning, the end of its patience.

A command turns them into `Interrupted` wherever it is; what has to finish first (a training step
and its checkpoint) notes them instead and ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
IMPATIENT = 1.0  # seconds: one Ctrl-C may arrive twice, from the terminal and from a parent
AGAIN = 0.1  # seconds until a signal is raised anew whose exception somebody swallowed
LINGER = 30.0  # seconds that a data worker goes on when a signal meant for its parent reaches it


class Interrupted(BaseException):
    """A signal ended the command; `told` says what was kept. No Exception: nothing may swallow it.

    code: the exit code by which shells and launchers know of a signal, 128 + its number.
    """

    def __init__(self, number: int, told: str = "") -> None:
        super().__init__(told)
        self.number, self.told, self.code = number, told, 128 + number

    @property
    def sentence(self) -> str:
        told = self.told or "what was finished is kept; repeat the command to go on"
        return f"stopped by {signal.Signals(self.number).name}: {told}"


class Request:
    """Whether a signal has asked for the end: its number, 0 if none has."""

    def __init__(self) -> None:
        self.number, self._when = 0, 0.0

    def note(self, number: int, _: FrameType | None) -> None:
        """The signal handler. Raises Interrupted for a second Ctrl-C: somebody is in a hurry."""
        hurry = number == signal.SIGINT and time.monotonic() - self._when > IMPATIENT
        if self.number and hurry:
            raise Interrupted(number, "at once, by a second Ctrl-C; nothing more was saved")
        if not self.number:
            self.number, self._when = number, time.monotonic()


class _Alarm:
    """Raises Interrupted for a signal, and anew as long as somebody swallows it.

    Finalisers do, and C code that clears errors, such as torch's import of numpy. An exception that
    has ceased to exist while its block still runs was swallowed: one on its way out still exists.
    """

    def __init__(self) -> None:
        self.number, self.over, self._when = 0, False, 0.0

    def raise_(self, number: int, _: FrameType | None) -> None:
        """The signal handler; what arrives twice is raised once."""
        if not self.number or time.monotonic() - self._when > IMPATIENT:
            self.number, self._when = number, time.monotonic()
            raise self._watched()  # no name here may hold it

    def _watched(self) -> Interrupted:
        end = Interrupted(self.number)
        weakref.finalize(end, self._gone).atexit = False
        return end

    def _gone(self) -> None:
        if not self.over:  # later, for nothing can be raised in a finaliser
            timer = threading.Timer(AGAIN, self._send)
            timer.daemon = True
            timer.start()

    def _send(self) -> None:
        if not self.over:
            self._when = 0.0
            signal.pthread_kill(threading.main_thread().ident or 0, self.number)


@contextmanager
def raised() -> Iterator[None]:
    """Within it a signal raises Interrupted in the main thread, and ends the block by nothing else.

    An error that comes after the signal is its doing, e.g. of a module that it left half imported.
    """
    alarm = _Alarm()
    with _handled(alarm.raise_), _swallowed_in_silence():
        try:
            yield
        except Exception as error:
            if alarm.number:
                raise Interrupted(alarm.number) from error
            raise
        finally:
            alarm.over = True


@contextmanager
def _swallowed_in_silence() -> Iterator[None]:
    """Python does not print what finalisers swallow, since it is raised again."""
    former = sys.unraisablehook

    def hook(told: sys.UnraisableHookArgs) -> None:
        if not isinstance(told.exc_value, Interrupted):
            former(told)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = former


@contextmanager
def noted() -> Iterator[Request]:
    """Within it a signal is noted in the request, and nothing else happens."""
    request = Request()
    with _handled(request.note):
        yield request


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there handlers can be set
        yield
        return
    # nohup has SIGHUP ignored, and means it
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


def _leave_to_parent() -> None:
    """In a forked child (a data worker): what is sent to the whole group is its parent's affair.

    It ends when its parent does; by a SIGTERM, only after its parent had time to finish a step.
    """
    if getattr(signal.getsignal(signal.SIGTERM), "__module__", "") != __name__:
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    code = 128 + signal.SIGTERM

    def linger(*_: object) -> None:
        timer = threading.Timer(LINGER, os._exit, (code,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, linger)


os.register_at_fork(after_in_child=_leave_to_parent)
