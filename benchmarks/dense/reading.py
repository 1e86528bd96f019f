"""mm's pipelines on our readers: what is trained and tested on is what was checked.

mmcv reads images with OpenCV and label maps with Pillow, each with its own rules for orientations,
16 bits and odd modes; the checks read with `sslbench.data.reading`. On ordinary JPEG files both
give the same pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS

from sslbench.data.label_maps import IGNORED, UnfitMap, read_label_map
from sslbench.data.reading import BrokenImage, decode
from sslbench.errors import RunError, UserError

KEPT = ("to_float32",)  # settings of mm's LoadImageFromFile that ours has
MOOT = ("backend_args", "imdecode_backend", "type")  # ... and those that mean nothing to it
Results = dict[str, Any]


@TRANSFORMS.register_module()
class ReadImage:
    """LoadImageFromFile with our reader: uint8 (h, w, 3), BGR, upright."""

    def __init__(self, to_float32: bool = False) -> None:
        self.to_float32 = to_float32

    def __call__(self, results: Results) -> Results:
        try:
            pixels = np.asarray(decode(results["img_path"]))
        except BrokenImage as error:
            raise _changed(error) from error
        image = np.ascontiguousarray(pixels[..., ::-1])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class ReadLabelMap:
    """mmseg's LoadAnnotations with our reader: uint8 (h, w), classes from 0, the rest 255."""

    def __call__(self, results: Results) -> Results:
        try:
            labels = read_label_map(results["seg_map_path"])
        except (BrokenImage, UnfitMap) as error:
            raise _changed(error) from error
        shifted = labels - np.uint8(1)  # 0 becomes 255
        results["gt_seg_map"] = np.where(labels == IGNORED, labels, shifted)
        results["seg_fields"].append("gt_seg_map")
        return results


def _changed(error: Exception) -> RunError:
    return RunError(
        f"{error}: the file could be read when the data were checked; restore it and repeat the "
        "command to resume."
    )


def with_our_readers(node: Any, kind: str) -> Any:
    """A part of a config in which our readers stand for mm's; `kind`: of the data.

    UserError for a setting of mm's that ours does not have.
    """
    if isinstance(node, list | tuple):
        return type(node)(with_our_readers(child, kind) for child in node)  # a size is a tuple
    if not isinstance(node, dict):
        return node
    name = str(node.get("type", "")).rpartition(".")[2]
    if name == "LoadImageFromFile":
        return {"type": "ReadImage", **_kept(node, KEPT)}
    if name == "LoadAnnotations" and kind == "ade20k":
        return {"type": "ReadLabelMap", **_kept(node, (), ("reduce_zero_label",))}
    return {key: with_our_readers(child, kind) for key, child in node.items()}


def _kept(node: Any, kept: tuple[str, ...], moot: tuple[str, ...] = ()) -> dict[str, Any]:
    if unknown := sorted(set(node) - {*kept, *MOOT, *moot, "_scope_"}):
        raise UserError(
            f"the config's {node['type']} sets {', '.join(unknown)}, which sslbench's reader does "
            "not have; leave it out, or evaluate with mm's own tools."
        )
    return {key: node[key] for key in kept if key in node}
