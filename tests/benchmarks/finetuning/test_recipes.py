"""A config that cannot train on the data says so before anything starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sslbench.benchmarks.finetuning.recipes import check_size
from sslbench.errors import UserError


def test_a_batch_larger_than_the_data_is_one_sentence() -> None:
    recipe = SimpleNamespace(name="finetune/big", train=SimpleNamespace(batch_size=64))
    check_size(recipe, SimpleNamespace(name="photos", train=range(64)))
    with pytest.raises(UserError, match=r"finetune/big .* batches of 64 .* photos has 63; choose"):
        check_size(recipe, SimpleNamespace(name="photos", train=range(63)))
