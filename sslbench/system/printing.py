"""What people are shown: one line stays one line, on every terminal and in every encoding."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

ESCAPED = "sslbench.escaped"  # the name under which Python finds `_encodable`


def printable(text: str | Path) -> str:
    r"""`text` as one line that every terminal and file takes: odd bytes and characters as \x..."""
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class SafeConsole(Console):
    """A console that prints every text as one line, by `printable`."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)

    def say(self, *lines: str) -> None:
        """Prints plain lines: brackets in a path are no markup, and nothing is wrapped."""
        for line in lines:
            self.print(line, markup=False, highlight=False, soft_wrap=True)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return printable(text) if record.name.startswith("sslbench") else _lines(text)


def start_in_utf8() -> None:
    """Begins the process anew in Python's UTF-8 mode where the locale's encoding is another.

    Else names of files, fingerprints made of them and every text file would depend on the locale.
    What is printed keeps its encoding. Processes that are started from here inherit the mode.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        spoken = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": spoken}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def speak_safely() -> None:
    """Whatever is printed or logged from now on can neither fail nor steer the terminal.

    For the start of a process: sets how standard output and error encode, and the root's handler.
    """
    codecs.register_error(ESCAPED, _encodable)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # tests and notebooks put other objects there
            stream.reconfigure(errors=ESCAPED)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(handlers=[handler])


def _encodable(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks, as `codecs.register_error` asks."""
    assert isinstance(error, UnicodeEncodeError)
    odd = error.object[error.start : error.end]
    return "".join(map(_escaped, odd)), error.end


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
