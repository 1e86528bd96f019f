"""Few labels on the embedded set for a mean patch, as of BEiT."""

_base_ = ["_shapes.py"]

method = dict(token="mean", norm="new")
evaluate_every = 8
budget = dict(images=6400, epochs=100.0, batches=1)
