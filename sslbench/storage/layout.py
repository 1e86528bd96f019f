"""What a run directory holds, by name.

config.json          the resolved recipe
state.pt             everything needed to resume, the newest; state.previous.pt the one before;
                     state.damaged.pt one that did not match its checksum
weights.safetensors  the exported backbone (the teacher where there is one) with its card
log.jsonl            one line per logged step
"""

from __future__ import annotations

from pathlib import Path

STATE, PREVIOUS, DAMAGED = "state.pt", "state.previous.pt", "state.damaged.pt"
RUNS = Path("runs")  # where run directories are made
WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def has_state(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / STATE).exists() or (folder / PREVIOUS).exists()
