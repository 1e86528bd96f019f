"""The files of a run directory.

config.json          the resolved recipe
state.pt             everything needed to resume; state.previous.pt is the checkpoint before it,
                     state.damaged.pt one that did not match its checksum
weights.safetensors  the exported backbone (the teacher where there is one) with its card
log.jsonl            one line per logged step
"""

from __future__ import annotations

from pathlib import Path

STATE, PREVIOUS, DAMAGED = "state.pt", "state.previous.pt", "state.damaged.pt"
RUNS = Path("runs")  # the default parent of run directories
WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def has_state(folder: Path) -> bool:
    """Return whether there is a checkpoint to resume from."""
    return (folder / STATE).exists() or (folder / PREVIOUS).exists()
