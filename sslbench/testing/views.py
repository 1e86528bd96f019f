"""The promises of a method's views."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from sslbench.method import Method, Sample, Views
from sslbench.recipes.recipe import Recipe
from sslbench.testing.data import pixels
from sslbench.testing.promises import promise, promised


def check_views(method_class: type[Method], recipe: Recipe) -> None:
    """Views are picklable, depend on (image, rng, epoch) alone, and give crops and masks."""
    stride = recipe.backbone.stride
    with promised("`views(config, patch_size)` returns the views"):
        views = method_class.views(recipe.method, stride)
    with promised("views are picklable"):
        copy: Views = pickle.loads(pickle.dumps(views))
    first, second = (Image.fromarray(array) for array in pixels(2, 2, seed=0)[0])
    sample = _draw(views, first)
    check_sample(sample, stride)
    _draw(views, second)
    message = "views depend on (image, rng, epoch) alone: {} gives another sample"
    promise(equal(sample, _draw(views, first)), message.format("a second call with the same ones"))
    promise(equal(sample, _draw(copy, first)), message.format("a pickled copy"))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    promise(equal(sample, _draw(views, first)), message.format("another global seed"))
    wide = Image.fromarray(np.concatenate([np.asarray(first), np.asarray(second)], axis=1))
    promise(
        shapes(_draw(views, wide)) == shapes(sample),
        "views of all images have the same shapes, so that they form a batch",
    )


def _draw(views: Views, image: Image.Image) -> Sample:
    with promised("views take (image, rng, epoch) and return a Sample"):
        return views(image.copy(), np.random.default_rng(0), 0)


def check_sample(sample: Sample, stride: int) -> None:
    """Crops are uint8 (V, 3, H, W) and masks bool (V, h, w) of the crop of the same name."""
    promise(isinstance(sample, Sample), f"views return a Sample, not {type(sample).__name__}")
    promise(sample.crops, "a Sample has one kind of crop at least")
    for name, crop in sample.crops.items():
        promise(
            isinstance(crop, np.ndarray)
            and crop.dtype == np.uint8
            and crop.ndim == 4
            and crop.shape[1] == 3,
            f"crops are uint8 (V, 3, H, W); {name!r} is {_described(crop)}",
        )
    for name, mask in sample.masks.items():
        promise(
            isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.ndim == 3,
            f"masks are bool (V, h, w); {name!r} is {_described(mask)}",
        )
        if name in sample.crops:
            views, _, height, width = sample.crops[name].shape
            promise(
                mask.shape == (views, height // stride, width // stride),
                f"a mask has one entry per patch of the crop of its name; {name!r} is "
                f"{mask.shape} for crops of {sample.crops[name].shape} and patches of {stride}",
            )


def _described(array: object) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype} {array.shape}"
    return f"a {type(array).__name__}"


def equal(one: Sample, other: Sample) -> bool:
    """Whether all crops and masks are the same, bit for bit."""
    pairs = ((one.crops, other.crops), (one.masks, other.masks))
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in pairs
    )


def shapes(sample: Sample) -> list[Mapping[str, tuple[int, ...]]]:
    """name -> shape, of the crops and of the masks."""
    return [{k: v.shape for k, v in part.items()} for part in (sample.crops, sample.masks)]
