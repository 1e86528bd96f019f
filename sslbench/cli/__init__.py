"""The command line. Wrong use ends with one sentence and exit code 2."""

from __future__ import annotations

import sys

from sslbench.errors import RunError, UserError
from sslbench.system.interrupts import Interrupted, noted, raised
from sslbench.system.processes import end_with_parent, leave, report


def main() -> None:
    """Runs the command line and turns errors into one sentence and an exit code."""
    with noted():  # what arrives while it says how it ended changes nothing
        leave(_run())


def _run() -> int:
    try:
        with raised():
            return _command()
    except Interrupted as end:
        return _tell(type(end).__name__, end.message, end.code, end.sentence)
    except Exception as error:
        ending = _sentence_and_code(error)
        if ending is None or "--debug" in sys.argv:
            raise
        return _tell(type(error).__name__, *ending, f"error: {' '.join(ending[0].split())}")


def _command() -> int:
    # imported here, for a signal may arrive meanwhile
    from sslbench.system.printing import speak_safely, start_in_utf8

    start_in_utf8()
    speak_safely()
    end_with_parent()
    from typer import Abort

    from sslbench.cli.commands import app

    try:
        return app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except Abort:  # a question was left unanswered
        return 1


def _tell(kind: str, sentence: str, code: int, shown: str) -> int:
    """Reports to the process that launched this one, which prints it; else prints it here."""
    from sslbench.system.printing import printable

    if not report(kind, sentence, code):
        print(printable(shown), file=sys.stderr)
    return code


def _sentence_and_code(error: Exception) -> tuple[str, int] | None:
    """The sentence and exit code of an error that the user can act on; None for any other."""
    if isinstance(error, UserError | RunError):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}.", 2
    if isinstance(error, MemoryError):
        return "memory ran out; end other programs, or ask for less at a time.", 1
    if hasattr(error, "format_message"):  # wrong options; typer's class for them keeps moving
        return f"{error.format_message().rstrip('.')}; see --help.", 2
    return None
