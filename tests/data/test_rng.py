import numpy as np
import pytest

from sslbench.data.rng import fitting, order_rng, sample_rng
from sslbench.data.shapes import image_rng


def test_a_stream_is_a_pure_function_of_its_address():
    assert np.array_equal(sample_rng(3, 2, 5).random(9), sample_rng(3, 2, 5).random(9))


def test_neighbouring_streams_are_different_and_uncorrelated():
    addresses = [(s, e, i) for s in range(3) for e in range(4) for i in range(40)]
    draws = np.array([sample_rng(*address).random(200) for address in addresses])
    assert len(np.unique(draws)) == draws.size
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.4  # 5.6 standard deviations of 1 / sqrt(200)
    assert abs(draws.mean() - 0.5) < 0.01


def test_copies_have_streams_of_their_own_and_copy_0_is_the_image():
    assert np.array_equal(sample_rng(3, 2, 5, 0).random(9), sample_rng(3, 2, 5).random(9))
    draws = np.array([sample_rng(3, 2, i, copy).random(200) for i in range(9) for copy in range(9)])
    assert len(np.unique(draws)) == draws.size
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.4


def test_the_streams_of_runs_of_before_stay():
    """Drawn before streams had copies."""
    assert sample_rng(3, 2, 5).integers(2**32, size=3).tolist() == [
        1254859905,
        3063994381,
        705991467,
    ]
    assert order_rng(3, 2).permutation(8).tolist() == [0, 5, 7, 3, 4, 2, 1, 6]


def test_order_and_samples_do_not_share_a_stream():
    assert not np.array_equal(order_rng(0, 0).random(4), sample_rng(0, 0, 0).random(4))


@pytest.mark.parametrize("bits", [32, 64])
def test_p21_a_seed_that_fits_is_itself_and_any_other_is_made_to_fit(bits):
    for seed in (0, 7, 2**bits - 1):
        assert fitting(seed, bits) == seed
    large = [2**bits, 2**bits + 1, 2**70, 2**70 + 1, 10**300]
    found = [fitting(seed, bits) for seed in large]
    assert len(set(found)) == len(large) and all(0 <= f < 2**bits for f in found)
    assert found == [fitting(seed, bits) for seed in large]


def test_p21_streams_of_any_seed():
    seeds = [0, 202611251333, 2**64 - 1, 2**64, 2**70]
    assert len({sample_rng(seed, 1, 2).random() for seed in seeds}) == len(seeds)
    assert len({order_rng(seed, 1).random() for seed in seeds}) == len(seeds)
    assert image_rng(2**70, 0, 1).random() != image_rng(0, 0, 1).random()
