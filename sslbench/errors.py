"""The two ways a command ends badly: wrong use (exit code 2) and a failed run (exit code 1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use: one sentence naming the thing, the value and the remedy. Exit code 2."""


class RunError(Exception):
    """A run that failed although the command was correct. Exit code 1."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown `name`: the closest known spelling, if any, and all of them.

    Returns e.g. "did you mean 'dino'? (known: beit, dino, ibot)".
    """
    names = sorted(known)
    listing = f"(known: {', '.join(names)})" if names else "(none is installed)"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}? {listing}" if close else f"choose one of these {listing}"
