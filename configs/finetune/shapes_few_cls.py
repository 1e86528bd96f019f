"""Few labels on the embedded set: [CLS] behind the pretrained norm."""

_base_ = "_shapes.py"

evaluate_every = 8
budget = dict(images=6400, epochs=100.0, batches=1)
