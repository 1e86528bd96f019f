"""Divides work among processes that share a folder, on one machine or several.

A claim is a file that names the process working on something. It expires with that process: on the
same machine, when no process has its id and start time; from another machine, when the file is no
longer touched. One lock per folder prevents two processes from taking over the same claim.
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
BEAT_SECONDS, STALE_SECONDS = 30.0, 600.0  # between touches; until a claim of another machine ends
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """A process. place: boot and PID namespace of its id; what: its work in words."""

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
    """The claims of this process in a folder; leaving the context releases them."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory) / FOLDER
        self.me = Holder.here()
        self._held: set[Path] = set()
        self._lock, self._ended = Lock(), Event()
        self._heartbeat: Thread | None = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for path in list(self._held):
            self.release(path.name)
        self._tidy()

    def take(self, key: str, what: str = "") -> Holder | None:
        """Claim `key` (a file name) and return None, or return the process that holds it.

        what: the work in words. In a folder that is not writable, nothing is ever claimed.
        """
        path = self.directory / key
        try:
            with self._exclusive():
                if (other := self._holder(path)) is not None:
                    return other
                path.write_text(json.dumps(asdict(replace(self.me, what=what))))
        except OSError as error:
            log.debug("%s cannot be claimed (%s)", path, error)
            return None
        with self._lock:
            self._held.add(path)
            if self._heartbeat is None:
                self._heartbeat = Thread(target=self._beat, daemon=True)
                self._heartbeat.start()
        return None

    def release(self, key: str) -> None:
        """End the claim of this process on `key`."""
        path = self.directory / key
        with self._lock:
            if path not in self._held:
                return
            self._held.discard(path)
        try:
            with self._exclusive():
                if _read(path) in (None, self.me):  # another process may have taken it over
                    path.unlink(missing_ok=True)
        except OSError as error:  # it ends with this process anyway
            log.debug("%s cannot be released (%s)", path, error)

    def holder(self, key: str) -> Holder | None:
        """Return the process that works on `key`, or None."""
        path = self.directory / key
        return self._holder(path) if path.exists() else None

    def _holder(self, path: Path) -> Holder | None:
        """Return the process of a claim if it is alive."""
        holder = _read(path)
        if holder is None:  # no claim, or its process ended while writing it
            return None
        alive = _is_alive(holder) if holder.place == self.me.place else None
        if alive is None:
            alive = self._age(path) < STALE_SECONDS
        return holder if alive else None

    def _age(self, path: Path) -> float:
        """Return the seconds since a claim was touched, by the clock of the file system."""
        try:
            with TemporaryFile(dir=self.directory) as probe:
                now = os.fstat(probe.fileno()).st_mtime
                return now - path.stat().st_mtime
        except FileNotFoundError:
            return STALE_SECONDS

    def _beat(self) -> None:
        """Touch the claims, which shows other machines that this process is alive."""
        while not self._ended.wait(BEAT_SECONDS):
            with self._lock:
                held = list(self._held)
            for path in held:
                try:
                    os.utime(path)
                except OSError as error:
                    log.debug("%s cannot be touched (%s)", path, error)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock on the claims of this folder."""
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
            except FileNotFoundError:  # another process removed the empty folder
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(file), lock.stat()):
                    return file
            except FileNotFoundError:
                pass  # the next iteration creates it again
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _tidy(self) -> None:
        """Remove the folder if no claims are left."""
        if not self.directory.exists():
            return
        try:
            with self._exclusive():
                if {path.name for path in self.directory.iterdir()} == {LOCK}:
                    (self.directory / LOCK).unlink()
                    self.directory.rmdir()
        except OSError as error:
            log.debug("%s is kept (%s)", self.directory, error)


def _read(path: Path) -> Holder | None:
    """Return the process named in a claim; None if there is no readable claim."""
    try:
        values: Any = parse_json(read_small(path))
        return replace(Holder(**values), pid=int(values["pid"]))
    except (OSError, ValueError, TypeError):
        return None


def _is_alive(holder: Holder) -> bool | None:
    """Return whether a process of this machine still runs; None if that cannot be determined."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        pass
    started = _started(holder.pid)
    return started == holder.started if started else None


def _place() -> str:
    """Return the boot and PID namespace in which process ids are valid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str:
    """Return the start time of process `pid` in ticks since boot, "ended", or "" if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "ended" if state in "ZX" else fields[18]
