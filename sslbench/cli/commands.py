"""All commands; thin, no logic."""

from sslbench.cli import (  # noqa: F401  (they add their commands to the app)
    about,
    evaluate,
    features,
    new,
    profile,
    tokenizer,
    train,
    weights,
)
from sslbench.cli.app import app

__all__ = ["app"]
