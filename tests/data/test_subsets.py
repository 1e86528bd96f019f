"""Images held out of the training labels are a function of these labels alone."""

from __future__ import annotations

import numpy as np
import pytest

from sslbench.data.subsets import held_out


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_a_share_of_every_class_is_held_out_and_the_rest_kept(share: float) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 3, 7], [40, 9, 2]))
    kept, held = held_out(labels, share)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    for c, size in ((0, 40), (3, 9), (7, 2)):
        count = int((labels[held] == c).sum())
        assert count == min(size - 1, max(1, round(share * size)))


def test_the_last_image_of_a_class_is_never_held_out() -> None:
    kept, held = held_out(np.array([2, 0, 1, 1]), 0.9)
    assert set(kept) >= {0, 1} and len(held) == 1


def test_nothing_is_held_out_at_a_share_of_zero() -> None:
    kept, held = held_out(np.repeat([0, 1], 5), 0.0)
    assert len(held) == 0 and kept.tolist() == list(range(10))
    assert [len(part) for part in held_out(np.zeros(0, dtype=np.int64), 0.1)] == [0, 0]


def test_the_same_labels_have_the_same_images_held_out() -> None:
    labels = np.repeat([0, 1], 50)
    first, again, longer = (
        held_out(labels, 0.1),
        held_out(labels.copy(), 0.1),
        held_out(np.repeat([0, 1, 2], 50), 0.1),
    )
    assert first[1].tolist() == again[1].tolist()
    assert longer[1][:10].tolist() == first[1].tolist()  # a class does not depend on the others
    assert first[1].tolist() != [*range(5), *range(50, 55)]  # not merely the first ones
