"""Few labels on the embedded set as of iBOT and DINO: from the first projection layer."""

_base_ = "_shapes.py"

from_head = True
evaluate_every = 8
budget = dict(images=6400, epochs=100.0, batches=1)
