"""The commands; thin, no logic. Wrong use ends with one sentence and exit code 2."""

from __future__ import annotations

import sys

import typer

from sslbench.cli import (  # noqa: F401  (they add their commands to the app)
    about,
    judge,
    tokenizer,
    train,
    weights,
)
from sslbench.cli.app import app
from sslbench.errors import RunError, UserError
from sslbench.interrupts import Interrupted, raised
from sslbench.printing import printable, speak_safely, start_in_utf8
from sslbench.processes import end_with_parent, leave, report


def main() -> None:
    """Runs the command line and turns errors into one sentence and an exit code."""
    start_in_utf8()
    speak_safely()
    end_with_parent()
    with raised():
        leave(_run())


def _run() -> int:
    try:
        return app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except Interrupted as end:
        kind, sentence, code = type(end).__name__, end.told, end.code
        shown = end.sentence
    except typer.Abort:  # a question was left unanswered
        return 1
    except Exception as error:
        told = _told(error)
        if told is None or "--debug" in sys.argv:
            raise
        (sentence, code), kind = told, type(error).__name__
        shown = f"error: {' '.join(sentence.split())}"
    if not report(kind, sentence, code):  # else the process that launched this one says it
        print(printable(shown), file=sys.stderr)
    return code


def _told(error: Exception) -> tuple[str, int] | None:
    """Sentence and exit code of an error that somebody can do something about, else None."""
    if isinstance(error, UserError | RunError):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}.", 2
    if hasattr(error, "format_message"):  # wrong options; typer's class for them keeps moving
        return f"{error.format_message().rstrip('.')}; see --help.", 2
    return None
