"""Signals that ask a process to end, such as Ctrl-C or a cluster's warning before a time limit.

`raised` turns them into `Interrupted` at once; `noted` only records them, for code that must finish
something first (a training step and its checkpoint).
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
DUPLICATE_SECONDS = 1.0  # one Ctrl-C may arrive twice, from the terminal and from the parent
RETRY_SECONDS = 0.1  # before a signal is sent again whose exception was swallowed
LINGER_SECONDS = 30.0  # for a data worker to outlive a SIGTERM, so that its parent can finish


class Interrupted(BaseException):
    """A signal ended the command; `message` says what was kept.

    A BaseException, so that `except Exception` does not swallow it. code: the exit code by which
    shells and launchers recognise a signal, 128 + its number.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number, self.message, self.code = number, message, 128 + number

    @property
    def sentence(self) -> str:
        message = self.message or "finished work is kept; repeat the command to continue"
        return f"stopped by {signal.Signals(self.number).name}: {message}"


class Request:
    """The number of the signal that asked this process to end, 0 if none did."""

    def __init__(self) -> None:
        self.number, self._received_at = 0, 0.0

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal; a second Ctrl-C raises Interrupted at once."""
        elapsed = time.monotonic() - self._received_at
        if self.number and number == signal.SIGINT and elapsed > DUPLICATE_SECONDS:
            raise Interrupted(number, "at once, by a second Ctrl-C; nothing more was saved")
        if not self.number:
            self.number, self._received_at = number, time.monotonic()


class _Alarm:
    """Raises Interrupted for a signal, again and again as long as something swallows it.

    Finalisers swallow exceptions, and so does C code that clears errors, such as torch's import of
    numpy. If the exception was destroyed while its block still runs, it was swallowed: an exception
    that is still propagating exists.
    """

    def __init__(self) -> None:
        self.number, self.over, self._raised_at = 0, False, 0.0

    def raise_(self, number: int, _: FrameType | None) -> None:
        """Handle a signal; the same signal arriving twice is raised once."""
        if not self.number or time.monotonic() - self._raised_at > DUPLICATE_SECONDS:
            self.number, self._raised_at = number, time.monotonic()
            raise self._watched_exception()  # not bound to a name, which would keep it alive

    def _watched_exception(self) -> Interrupted:
        end = Interrupted(self.number)
        weakref.finalize(end, self._on_destroyed).atexit = False
        return end

    def _on_destroyed(self) -> None:
        if not self.over:  # by a timer, because exceptions of a finaliser are ignored
            timer = threading.Timer(RETRY_SECONDS, self._send_again)
            timer.daemon = True
            timer.start()

    def _send_again(self) -> None:
        if not self.over:
            self._raised_at = 0.0
            signal.pthread_kill(threading.main_thread().ident or 0, self.number)


@contextmanager
def raised() -> Iterator[None]:
    """Let signals raise Interrupted in the main thread while the block runs.

    Any error after a signal also becomes Interrupted, because the signal may have caused it, e.g.
    by leaving a module half imported.
    """
    alarm = _Alarm()
    with _handled(alarm.raise_), _silent_unraisable():
        try:
            yield
        except Exception as error:
            if alarm.number:
                raise Interrupted(alarm.number) from error
            raise
        finally:
            alarm.over = True


@contextmanager
def _silent_unraisable() -> Iterator[None]:
    """Keep Python from printing an Interrupted that a finaliser swallowed: it is raised again."""
    previous_hook = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            previous_hook(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook


@contextmanager
def noted() -> Iterator[Request]:
    """Only record signals, in the request, while the block runs."""
    request = Request()
    with _handled(request.note):
        yield request


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # other threads cannot set them
        yield
        return
    # leave SIGHUP alone where nohup made the process ignore it
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    previous_handlers = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in previous_handlers.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _is_ours() -> bool:
    return getattr(signal.getsignal(signal.SIGTERM), "__module__", "") == __name__


def _hold_back() -> None:
    """Keep a SIGTERM from a child that does not wait for it yet."""
    if _is_ours():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_go() -> None:
    if _is_ours():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _ignore_in_child() -> None:
    """Make a forked child (a data worker) leave signals to the whole group to its parent.

    SIGTERM is blocked, and waited for by a thread: torch's workers replace any handler of it.
    What the child starts itself inherits this.
    """
    if not _is_ours():
        return
    for number in SIGNALS:  # to ignore SIGTERM would discard one that waits already
        to = signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN
        signal.signal(number, to)
    try:
        threading.Thread(target=_outlive, args=(os.getppid(),), daemon=True).start()
    except RuntimeError:  # there is no thread to be had
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _outlive(parent: int) -> None:
    """End this process: at once if its parent sends SIGTERM, after a delay if another does.

    Meanwhile the parent, which got the same signal, can finish a step.
    """
    asked: signal.struct_siginfo | None = signal.sigwaitinfo({signal.SIGTERM})
    deadline = time.monotonic() + LINGER_SECONDS
    while asked is None or asked.si_pid != parent:
        left = deadline - time.monotonic()
        if left <= 0:
            os._exit(128 + signal.SIGTERM)
        asked = signal.sigtimedwait({signal.SIGTERM}, left)
    os._exit(0)  # torch reports any other code as a worker's death


os.register_at_fork(before=_hold_back, after_in_parent=_let_go, after_in_child=_ignore_in_child)
