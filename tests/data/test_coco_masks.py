"""Masks as COCO writes them, held against pycocotools; what is none is named."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as codec

from sslbench.data.coco_masks import summary, usable_polygons

masks = arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)


@settings(max_examples=200)
@given(masks, st.booleans())
def test_compressed_run_lengths_are_read_as_pycocotools_does(mask, blocky):
    if blocky:
        mask = np.kron(mask, np.ones((9, 7), np.uint8))  # runs of several characters
    code = codec.encode(np.asfortranarray(mask))["counts"].decode()
    found = summary({"size": list(mask.shape), "counts": code})
    assert (found.problem, found.size, found.area) == ("", mask.shape, mask.sum())


@settings(max_examples=200)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
def test_a_string_that_is_accepted_is_one_that_pycocotools_decodes(code):
    found = summary({"size": [6, 7], "counts": code})
    if not found.problem:
        mask = codec.decode({"size": [6, 7], "counts": code.encode()})
        assert mask.sum() == found.area and mask.max(initial=0) <= 1


def test_uncompressed_run_lengths():
    found = summary({"size": [3, 4], "counts": [2, 3, 0, 1, 6]})
    assert (found.problem, found.size, found.area) == ("", (3, 4), 4)


def test_polygons_have_bounds_and_an_area():
    square, triangle = [1, 2, 5, 2, 5, 6, 1, 6], [8.5, 1, 9.5, 1, 9.5, 3]
    found = summary([square, triangle])
    assert found.bounds == (1, 1, 9.5, 6) and found.area == 17 and not found.cut
    with_point = [square, [3, 3], [1, 1, 2, 2]]
    assert summary(with_point).cut and summary(with_point).area == 16
    assert usable_polygons(with_point) == [square]


@pytest.mark.parametrize("nothing", [None, [], [[]], [[1, 2, 3, 4]], [[1, 2]]])
def test_what_covers_nothing_is_not_wrong(nothing):
    found = summary(nothing)
    assert not found.problem and found.bounds is found.size is None and found.area == 0


NAN, HUGE = float("nan"), 10**400
WRONG = {
    "NaN": ([[1, 1, 30, 1, NAN, 30]], "polygon 0 .* not finite"),
    "infinity": ([[1, 1, 30, 1, float("inf"), 30]], "polygon 0 .* not finite"),
    "overflow": ([[HUGE] * 6], "not finite or too large"),
    "an odd number": (
        [[1, 1, 9, 1, 9, 9], [1, 1, 9, 1, 9]],
        "polygon 1 .* 5 numbers, an x without",
    ),
    "text": ([[1, 1, "30", 1, 30, 30]], "polygon 0 .* flat list of numbers"),
    "booleans": ([[True, 1, 30, 1, 30, 30]], "flat list of numbers"),
    "null": ([[None, 1, 30, 1, 30, 30]], "flat list of numbers"),
    "pairs": ([[[1, 1], [30, 1], [30, 30]]], "flat list of numbers"),
    "one flat list": ([1, 1, 30, 1, 30, 30], "polygon 0 1, which is not a flat list"),
    "a text": ("polygons", "the mask 'polygons', neither"),
    "a number": (3, "the mask 3, neither"),
    "runs of too few": (
        {"size": [96, 128], "counts": [5, 5, 5]},
        "15 pixels in all, not of the 12288",
    ),
    "no runs": ({"size": [96, 128], "counts": []}, "of 0 pixels in all"),
    "a negative run": ({"size": [96, 128], "counts": [-5, 12293]}, "a run of -5 pixels"),
    "half a pixel": ({"size": [96, 128], "counts": [0.5, 12287.5]}, "neither whole numbers"),
    "text runs": ({"size": [96, 128], "counts": ["12288"]}, "neither whole numbers"),
    "boolean runs": ({"size": [1, 1], "counts": [False, True]}, "neither whole numbers"),
    "no counts": ({"size": [96, 128]}, "the run lengths None"),
    "an unfinished code": ({"size": [96, 128], "counts": "P"}, "nor COCO's code"),
    "an endless run": ({"size": [96, 128], "counts": "o" * 50}, "nor COCO's code"),
    "other characters": ({"size": [96, 128], "counts": "\x7f\u20ac"}, "nor COCO's code"),
    "an empty code": ({"size": [96, 128], "counts": ""}, "of 0 pixels in all"),
    "no size": ({"counts": [12288]}, "the size None instead"),
    "one side": ({"size": [96], "counts": [96]}, r"the size \[96\] instead"),
    "a text as size": ({"size": "96x128", "counts": [12288]}, "instead of height and width"),
    "no pixels": ({"size": [0, 128], "counts": []}, "of 0 x 128 pixels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mask_is_named(name):
    mask, match = WRONG[name]
    try:
        mask = json.loads(json.dumps(mask))  # as it comes out of a file
    except ValueError:
        assert name == "overflow"  # more digits than Python's parser takes
    with pytest.raises(AssertionError, match=match):
        raise AssertionError(summary(mask).problem)
