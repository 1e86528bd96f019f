import numpy as np

from sslbench.data.rng import order_rng, sample_rng


def test_a_stream_is_a_pure_function_of_its_address():
    assert np.array_equal(sample_rng(3, 2, 5).random(9), sample_rng(3, 2, 5).random(9))


def test_neighbouring_streams_are_different_and_uncorrelated():
    addresses = [(s, e, i) for s in range(3) for e in range(4) for i in range(40)]
    draws = np.array([sample_rng(*address).random(200) for address in addresses])
    assert len(np.unique(draws)) == draws.size
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.4  # 5.6 standard deviations of 1 / sqrt(200)
    assert abs(draws.mean() - 0.5) < 0.01


def test_order_and_samples_do_not_share_a_stream():
    assert not np.array_equal(order_rng(0, 0).random(4), sample_rng(0, 0, 0).random(4))
