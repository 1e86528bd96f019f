"""Output for people: one line stays one line, on every terminal and in every encoding."""

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
    r"""Return `text` as one printable line, with other bytes and characters written as \x..."""
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # Python's stand-in for a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class SafeConsole(Console):
    """A console that passes every text through `printable`."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)

    def say(self, *lines: str) -> None:
        """Print plain lines, without markup (a path may contain brackets) and without wrapping."""
        for line in lines:
            self.print(line, markup=False, highlight=False, soft_wrap=True)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return printable(text) if record.name.startswith("sslbench") else _lines(text)


def start_in_utf8() -> None:
    """Restart the process in Python's UTF-8 mode if the locale has another encoding.

    Otherwise file names, fingerprints made of them and text files would depend on the locale.
    Output keeps its encoding. Child processes inherit the mode.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        output_encoding = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": output_encoding}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def speak_safely() -> None:
    """Make sure that no printed or logged text fails to encode or controls the terminal.

    Call it at the start of a process: it sets the error handler of stdout and stderr and the
    handler of the root logger.
    """
    codecs.register_error(ESCAPED, _encodable)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # tests and notebooks replace the streams
            stream.reconfigure(errors=ESCAPED)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(handlers=[handler])


def _encodable(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks; an error handler of `codecs.register_error`."""
    assert isinstance(error, UnicodeEncodeError)
    unencodable = error.object[error.start : error.end]
    return "".join(map(_escaped, unencodable)), error.end


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
