"""The three splits of a dataset and their common names."""

from __future__ import annotations

from sslbench.errors import UserError, nearest

WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
EVALUATED = ("test", "validation")


def split_named(word: str, known: tuple[str, ...] = tuple(WORDS)) -> str:
    """Return the split of `known` named `word`, e.g. "validation" for "val", or raise UserError."""
    for split in known:
        if str(word).lower() in WORDS[split]:
            return split
    raise UserError(f"Unknown split {word!r}: {nearest(str(word), known)}.")
