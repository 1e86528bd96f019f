"""Where sslbench keeps what it makes and remembers."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """$SSLBENCH_HOME, else ~/.cache/sslbench."""
    return Path(os.environ.get("SSLBENCH_HOME") or Path.home() / ".cache" / "sslbench")
