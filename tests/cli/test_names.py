"""Names that the shell completes."""

from __future__ import annotations

import pytest

from sslbench.cli import names

NAMES = [
    (names.methods, "di", ["dino"]),
    (names.tokenizers, "dv", ["dvae"]),
    (names.benchmarks, "kn", ["knn"]),
    (names.recipes, "shapes/di", ["shapes/dino"]),
    (names.recipes, "detection/", []),
    (names.benchmark_configs, "shapes_u", ["shapes_upernet"]),
    (names.layouts, "froz", ["frozen"]),
    (names.suites, "pap", ["papers"]),
]


@pytest.mark.parametrize(("known", "typed", "completions"), NAMES)
def test_what_begins_as_typed_is_completed(known, typed, completions) -> None:
    assert names.completing(known)(typed) == completions
