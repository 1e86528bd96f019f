"""Append-only file of Result records: one JSON object a line, never edited."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sslbench.errors import UserError
from sslbench.result import Result
from sslbench.storage.fields import BadRecord, NewerRecord
from sslbench.storage.files import read_small

WRITE = os.O_RDWR | os.O_CREAT | os.O_APPEND
LARGEST = 2**30  # bytes: a million records
SPACE = " \t\r\n\v\f\ufeff"  # the last is the mark that some editors begin UTF-8 with


class Identity(NamedTuple):
    """What makes two records the same measurement; a second one is a repetition (`--force`)."""

    sha256: str
    benchmark: str
    protocol_hash: str
    dataset_fingerprint: str
    split: str
    setting: str
    pool: str
    metric: str
    seed: int

    @classmethod
    def of(cls, r: Result) -> Identity:
        where = (r.dataset_fingerprint, r.split, r.setting, r.pool, r.metric)
        return cls(r.model.sha256, r.benchmark, r.protocol_hash, *where, r.seed)


def latest(results: Iterable[Result]) -> list[Result]:
    """The newest record of each identity: by date, and by place in the file where dates tie."""
    newest: dict[Identity, Result] = {}
    for result in results:
        key = Identity.of(result)
        if key not in newest or result.date >= newest[key].date:
            newest[key] = result
    return list(newest.values())


class Store:
    """The records of one JSONL file, safe against concurrent writers and full disks."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, results: Iterable[Result]) -> None:
        """Adds all records or none.

        Raises UserError where a record could not be read again, the file's last line is cut short
        or the disk fails.
        """
        data = _lines(results)
        if not data:
            return
        with self._locked(WRITE, fcntl.LOCK_EX) as file:
            self._add(file, data)

    def extend(self, missing: Callable[[list[Result]], list[Result]]) -> list[Result]:
        """Adds what `missing` makes of all records there are, and returns it.

        Nobody else writes meanwhile, so that processes which find the same add it once.
        """
        if not self.path.exists() and not missing([]):  # nothing makes no file
            return []
        with self._locked(WRITE, fcntl.LOCK_EX) as file:
            added = missing(self._parse(self._read()))
            self._add(file, _lines(added))
        return added

    def _add(self, file: int, data: bytes) -> None:
        size = os.fstat(file).st_size
        self._check_encoding(os.pread(file, 2, 0))
        if data and size and os.pread(file, 1, size - 1) != b"\n":
            self._parse(self._read())  # raises where the last line is cut short
            data = b"\n" + data
        try:
            while data:  # one write, unless the system takes only a part of it
                data = data[os.write(file, data) :]
            os.fsync(file)
        except BaseException:
            os.ftruncate(file, size)
            raise

    def load(self) -> list[Result]:
        """All records in file order, [] without a file; UserError names a line that is none.

        Files may have been merged by hand: blank lines, byte order marks, Windows line ends and
        records that share a line or end without a newline are read.
        """
        if not self.path.exists():
            return []
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH):
            data = self._read()
        return self._parse(data)

    def keys(self) -> set[Identity]:
        """The identity of every record."""
        return {Identity.of(r) for r in self.load()}

    def has(self, **known: str | int) -> bool:
        """Whether a record agrees with every given field of Identity, e.g. has(benchmark="x")."""
        if unknown := set(known) - set(Identity._fields):
            raise TypeError(f"not part of a record's identity: {sorted(unknown)}")
        return any(known.items() <= key._asdict().items() for key in self.keys())

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        """The open file under a lock; any OSError within becomes one sentence."""
        if self.path.exists() and not self.path.is_file():  # a pipe would wait forever
            raise UserError(f"{self.path} is not a regular file; choose another --out.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, flags, 0o666)  # less the umask
            try:
                fcntl.flock(file, lock)
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise UserError(
                f"{self.path}: {error.strerror or error}; no record was added or changed; make the "
                "file accessible and free disk space, or choose another --out."
            ) from error

    def _read(self) -> bytes:
        return read_small(self.path, LARGEST)

    def _parse(self, data: bytes) -> list[Result]:
        self._check_encoding(data[:2])
        lines, found = data.splitlines(keepends=True), list[Result]()
        for number, line in enumerate(lines, start=1):
            try:
                found += _records(line)
            except NewerRecord as error:
                raise UserError(
                    f"{self.path}, line {number} was written by a newer version of sslbench "
                    f"({error}); update sslbench."
                ) from error
            except (ValueError, RecursionError) as error:
                whole = number < len(lines) or line.endswith((b"\n", b"\r"))
                if isinstance(error, json.JSONDecodeError) and not whole:
                    raise self._cut_short(number) from error
                deep = "it is nested too deeply"
                reason = deep if isinstance(error, RecursionError) else error
                raise UserError(
                    f"{self.path}, line {number} is not a record ({reason}): correct or delete "
                    "that line, the other lines do not depend on it."
                ) from error
        return found

    def _check_encoding(self, start: bytes) -> None:
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # that of UTF-32 begins so too
            raise UserError(
                f"{self.path} is UTF-16 text, as Windows' shells write merged files: save it as "
                "UTF-8, its records are intact."
            )

    def _cut_short(self, number: int) -> UserError:
        return UserError(
            f"{self.path}, line {number} is cut short (an earlier run was interrupted while "
            "writing): delete that line, the records before it are intact."
        )


def _lines(results: Iterable[Result]) -> bytes:
    return "".join(f"{_readable(r)}\n" for r in results).encode()


def _readable(result: Result) -> str:
    """The line of a record; UserError where `Store.load` would refuse it."""
    line = result.to_json()
    try:
        Result.from_dict(json.loads(line))
    except BadRecord as error:
        raise UserError(
            f"a record of benchmark {result.benchmark!r} cannot be kept: {error}; correct the "
            "benchmark."
        ) from error
    return line


def _records(line: bytes) -> Iterator[Result]:
    """The records of a line: none if it is blank, several if files were joined without a newline.

    Raises ValueError, BadRecord among them, or RecursionError.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    decoder = json.JSONDecoder()
    while text := text.lstrip(SPACE):
        values, end = decoder.raw_decode(text)
        yield Result.from_dict(values)
        text = text[end:]
