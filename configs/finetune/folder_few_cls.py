"""Few labels of any folder: [CLS] behind the pretrained norm."""

_base_ = "_folder.py"

evaluate_every = 5
budget = dict(images=10_000, epochs=200.0, batches=1)
