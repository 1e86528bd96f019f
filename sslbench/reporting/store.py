"""Append-only file of Result records: one JSON object per line, never edited."""

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
MAX_BYTES = 2**30  # a million records
SPACE = " \t\r\n\v\f\ufeff"  # the last is the byte order mark that some editors write


class Identity(NamedTuple):
    """Identifies a measurement; a second record of it is a repetition (`--force`)."""

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
        data_and_metric = (r.dataset_fingerprint, r.split, r.setting, r.pool, r.metric)
        return cls(r.model.sha256, r.benchmark, r.protocol_hash, *data_and_metric, r.seed)


def latest(results: Iterable[Result]) -> list[Result]:
    """Return the newest record of each identity: by date, then by position in the file."""
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
        """Add all records or none.

        Raises UserError if a record could not be read again, the file's last line is truncated or
        the disk fails.
        """
        data = _lines(results)
        if not data:
            return
        with self._locked(WRITE, fcntl.LOCK_EX) as file:
            self._add(file, data)

    def extend(self, missing: Callable[[list[Result]], list[Result]]) -> list[Result]:
        """Add and return what `missing` returns for all existing records.

        The file is locked meanwhile, so that several processes do not add the same record twice.
        """
        if not self.path.exists() and not missing([]):  # without records, no file is created
            return []
        with self._locked(WRITE, fcntl.LOCK_EX) as file:
            added = missing(self._parse(self._read()))
            self._add(file, _lines(added))
        return added

    def _add(self, file: int, data: bytes) -> None:
        size = os.fstat(file).st_size
        self._check_encoding(os.pread(file, 2, 0))
        if data and size and os.pread(file, 1, size - 1) != b"\n":
            self._parse(self._read())  # raises if the last line is truncated
            data = b"\n" + data
        try:
            while data:  # usually a single write
                data = data[os.write(file, data) :]
            os.fsync(file)
        except BaseException:
            os.ftruncate(file, size)
            raise

    def load(self) -> list[Result]:
        """Return all records in file order, [] without a file; UserError names an invalid line.

        Files may be merged by hand: blank lines, byte order marks, Windows line ends and records
        that share a line or end without a newline are accepted.
        """
        if not self.path.exists():
            return []
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH):
            data = self._read()
        return self._parse(data)

    def keys(self) -> set[Identity]:
        """Return the identities of all records."""
        return {Identity.of(r) for r in self.load()}

    def has(self, **known: str | int) -> bool:
        """Return whether a record has these fields of Identity, e.g. has(benchmark="x")."""
        if unknown := set(known) - set(Identity._fields):
            raise TypeError(f"not part of a record's identity: {sorted(unknown)}")
        return any(known.items() <= key._asdict().items() for key in self.keys())

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        """Open and lock the file; any OSError in the block becomes a UserError."""
        if self.path.exists() and not self.path.is_file():  # reading a pipe may never end
            raise UserError(f"{self.path} is not a regular file; choose another --out.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, flags, 0o666)  # minus the umask
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
        return read_small(self.path, MAX_BYTES)

    def _parse(self, data: bytes) -> list[Result]:
        self._check_encoding(data[:2])
        lines, records = data.splitlines(keepends=True), list[Result]()
        for number, line in enumerate(lines, start=1):
            try:
                records += _records(line)
            except NewerRecord as error:
                raise UserError(
                    f"{self.path}, line {number} was written by a newer version of sslbench "
                    f"({error}); update sslbench."
                ) from error
            except (ValueError, RecursionError) as error:
                complete = number < len(lines) or line.endswith((b"\n", b"\r"))
                if isinstance(error, json.JSONDecodeError) and not complete:
                    raise self._truncated(number) from error
                nested = isinstance(error, RecursionError)
                reason = "it is nested too deeply" if nested else error
                raise UserError(
                    f"{self.path}, line {number} is not a record ({reason}): correct or delete "
                    "that line, the other lines do not depend on it."
                ) from error
        return records

    def _check_encoding(self, start: bytes) -> None:
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # UTF-32 starts like that too
            raise UserError(
                f"{self.path} is UTF-16 text, as Windows' shells write merged files: save it as "
                "UTF-8, its records are intact."
            )

    def _truncated(self, number: int) -> UserError:
        return UserError(
            f"{self.path}, line {number} is truncated (an earlier run was interrupted while "
            "writing): delete that line, the records before it are intact."
        )


def _lines(results: Iterable[Result]) -> bytes:
    return "".join(f"{_checked_line(r)}\n" for r in results).encode()


def _checked_line(result: Result) -> str:
    """Return the line of a record; UserError if `Store.load` would refuse it."""
    line = result.to_json()
    try:
        Result.from_dict(json.loads(line))
    except BadRecord as error:
        raise UserError(
            f"a record of benchmark {result.benchmark!r} cannot be stored: {error}; correct the "
            "benchmark."
        ) from error
    return line


def _records(line: bytes) -> Iterator[Result]:
    """Yield the records of a line: none if blank, several if files were joined without a newline.

    Raises ValueError (including BadRecord) or RecursionError.
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
