"""mmseg's dataset of listed pairs. Importing this file imports mmseg, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset


class PairedSegDataset(BaseSegDataset):
    """The pairs of image and label map in `ann_file`, as `sslbench.data.ade20k.check` lists them.

    mmseg's own would read every file with one suffix below a folder, whoever left it there.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        listed = json.loads(Path(self.ann_file).read_text())
        images, maps = Path(listed["images"]), Path(listed["maps"])
        return [
            {
                "img_path": str(images / photo),
                "seg_map_path": str(maps / label),
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for photo, label in listed["pairs"]
        ]
