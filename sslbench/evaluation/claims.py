"""Who does what among processes that share a folder, on one machine or several.

A claim is a file that says which process works on something. It ends with the process, however
that ends: on the same machine nobody with its number and start time is there any more; on another
one the file is not touched any longer. Decisions are made under one lock a folder, so that two
processes never take the same claim over.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event, Lock, Thread
from typing import Any

from sslbench.storage.files import parse_json, read_small

FOLDER, LOCK = ".claims", ".lock"
BEAT_SECONDS, STALE_SECONDS = 30.0, 600.0  # of a process on another machine
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """A process: its machine, what numbers its processes (boot and PID namespace), and itself."""

    host: str
    place: str
    pid: int
    started: str
    what: str = field(default="", compare=False)

    @classmethod
    def here(cls) -> Holder:
        return cls(platform.node(), _place(), os.getpid(), _started(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Claims:
    """The claims of this process among those of a folder; they end with the context."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory) / FOLDER
        self.me = Holder.here()
        self._held: set[Path] = set()
        self._lock, self._ended = Lock(), Event()
        self._beating: Thread | None = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for path in list(self._held):
            self.release(path.name)
        self._tidy()

    def take(self, key: str, what: str = "") -> Holder | None:
        """Claims `key` (a file's name) for this process; or who holds it, where somebody does.

        what: the work in words. A folder that cannot be written to holds no claims: everything is
        free there.
        """
        path = self.directory / key
        try:
            with self._alone():
                if (other := self._holder(path)) is not None:
                    return other
                path.write_text(json.dumps(asdict(replace(self.me, what=what))))
        except OSError as error:
            log.debug("%s cannot be claimed (%s)", path, error)
            return None
        with self._lock:
            self._held.add(path)
            if self._beating is None:
                self._beating = Thread(target=self._beat, daemon=True)
                self._beating.start()
        return None

    def release(self, key: str) -> None:
        """Ends the claim of this process on `key`."""
        path = self.directory / key
        with self._lock:
            if path not in self._held:
                return
            self._held.discard(path)
        try:
            with self._alone():
                if _read(path) in (None, self.me):  # not one that was taken over meanwhile
                    path.unlink(missing_ok=True)
        except OSError as error:  # it ends with this process anyway
            log.debug("%s cannot be released (%s)", path, error)

    def holder(self, key: str) -> Holder | None:
        """Who else works on `key`; None where nobody does."""
        path = self.directory / key
        return self._holder(path) if path.exists() else None

    def _holder(self, path: Path) -> Holder | None:
        """The living process behind a claim."""
        found = _read(path)
        if found is None:  # none, or of a process that ended while it wrote
            return None
        lives = _lives(found) if found.place == self.me.place else None
        if lives is None:
            lives = self._age(path) < STALE_SECONDS
        return found if lives else None

    def _age(self, path: Path) -> float:
        """Seconds since a claim was touched, by the clock of the file system."""
        try:
            with TemporaryFile(dir=self.directory) as probe:
                now = os.fstat(probe.fileno()).st_mtime
                return now - path.stat().st_mtime
        except FileNotFoundError:
            return STALE_SECONDS

    def _beat(self) -> None:
        """Tells other machines that this process lives."""
        while not self._ended.wait(BEAT_SECONDS):
            with self._lock:
                held = list(self._held)
            for path in held:
                try:
                    os.utime(path)
                except OSError as error:
                    log.debug("%s cannot be touched (%s)", path, error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else decides about claims of this folder meanwhile."""
        file = self._locked()
        try:
            yield
        finally:
            os.close(file)

    def _locked(self) -> int:
        lock = self.directory / LOCK
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # removed with the folder, since it was empty
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file), lock.stat()):
                    return file
            except FileNotFoundError:
                pass  # the next turn makes it anew
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _tidy(self) -> None:
        """Removes the folder where no claim is left in it."""
        if not self.directory.exists():
            return
        try:
            with self._alone():
                if {path.name for path in self.directory.iterdir()} == {LOCK}:
                    (self.directory / LOCK).unlink()
                    self.directory.rmdir()
        except OSError as error:
            log.debug("%s is left (%s)", self.directory, error)


def _read(path: Path) -> Holder | None:
    """What a claim says; None where there is none that could be read."""
    try:
        said: Any = parse_json(read_small(path))
        return replace(Holder(**said), pid=int(said["pid"]))
    except (OSError, ValueError, TypeError):
        return None


def _lives(holder: Holder) -> bool | None:
    """Whether a process of this machine still runs; None where the system does not tell."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    started = _started(holder.pid)
    return started == holder.started if started else None


def _place() -> str:
    """What the numbers of processes belong to: a boot of a machine and a namespace in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str:
    """When the process `pid` of this machine started, in ticks since boot; "" if nobody says."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "ended" if state in "ZX" else fields[18]
