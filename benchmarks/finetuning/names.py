"""Names of what is counted while a classifier trains: of the parts, and of the counts."""

from __future__ import annotations

JUDGED, HELD = "judged", "held-out"
HITS1, HITS5, COUNT = "top1_hits", "top5_hits", "images"
