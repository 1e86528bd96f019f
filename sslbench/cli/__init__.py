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

INTERRUPTED = 130  # the shell's exit code for Ctrl-C


def main() -> None:
    """Runs the command line and turns errors into one sentence and an exit code."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        told = _told(error)
        if told is None or "--debug" in sys.argv:
            raise
        sentence, code = told
        typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    if code == INTERRUPTED:
        typer.echo(
            "interrupted; repeat it, or go on with --resume where a run was training.", err=True
        )
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int] | None:
    """Sentence and exit code of an error that somebody can do something about, else None."""
    if isinstance(error, UserError | RunError):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}.", 2
    if hasattr(error, "format_message"):  # wrong options; typer's class for them keeps moving
        return f"{error.format_message().rstrip('.')}; see --help.", 2
    return None
