"""One file per pretraining method, and what they share: heads, losses, head batch norm."""
