import pytest
import torch
from torch.nn.functional import normalize

from sslbench.benchmarks import neighbours
from sslbench.benchmarks.neighbours import BLOCK, Bank, largest


def features(n: int, dim: int, seed: int, spread: float) -> torch.Tensor:
    """Rows of length 1 around one direction, as of networks whose features all look alike."""
    rng = torch.Generator().manual_seed(seed)
    return normalize(1 + spread * torch.randn(n, dim, generator=rng), dim=1)


@pytest.fixture(params=["bf16", "float32"])
def precision(request, monkeypatch):
    monkeypatch.setattr(neighbours, "use_bf16", lambda *_: request.param == "bf16")
    monkeypatch.setattr(neighbours, "ROWS", 500)
    return request.param


@pytest.mark.parametrize("spread", [10.0, 0.1, 1e-3])
@pytest.mark.parametrize("similarities", [2**26, 20_000])
def test_finds_the_nearest_of_a_float64_sort(precision, monkeypatch, spread, similarities):
    monkeypatch.setattr(neighbours, "SIMILARITIES", similarities)
    rows, queries = features(3001, 48, 0, spread), features(37, 48, 1, spread)
    similarity, index = Bank.of(rows, 10).nearest(queries, 10)
    wanted = (queries.double() @ rows.double().T).topk(10, dim=1).values
    torch.testing.assert_close(similarity.double(), wanted, atol=3e-7, rtol=0)
    found = (queries.double()[:, None] * rows.double()[index]).sum(2)
    torch.testing.assert_close(found, wanted, atol=3e-7, rtol=0)
    assert all(len(set(row)) == 10 for row in index.tolist())


def test_a_rough_bank_is_made_where_it_pays(precision):
    rows = features(2560, 8, 0, 1.0)
    assert (Bank.of(rows, 20).rough is not None) == (precision == "bf16")
    assert Bank.of(rows, 21).rough is None


def test_where_rounding_could_hide_a_neighbour_the_list_is_not_sure(monkeypatch):
    monkeypatch.setattr(neighbours, "use_bf16", lambda *_: True)
    rows = features(2048, 32, 0, 10.0)
    copies = rows[:128].repeat(16, 1)  # fill any short list with equals
    for held, sure in ((rows, True), (copies, False)):
        bank = Bank.of(held, 4)
        space = bank.rough.new_full((5, 2048), -torch.inf)
        assert bool(bank._shortlist(held[:5], 4, space)[1].all()) is sure


def test_what_is_not_finite_is_treated_as_in_float32(precision):
    rows = features(3000, 16, 0, 1.0)
    rows[7] = torch.nan
    similarity, index = Bank.of(rows, 5).nearest(rows[:3], 5)
    assert (index == 7).any(dim=1).all() and similarity.isnan().any(dim=1).all()


def test_no_queries_have_no_neighbours(precision):
    similarity, index = Bank.of(features(2000, 8, 0, 1.0), 3).nearest(torch.empty(0, 8), 3)
    assert similarity.shape == index.shape == (0, 3)


@pytest.mark.parametrize(("blocks", "k"), [(1, 5), (41, 10), (64, 1), (400, 100)])
def test_the_largest_of_the_best_blocks_are_the_largest(blocks, k):
    values = torch.randn(9, blocks * BLOCK, generator=torch.Generator().manual_seed(k)).round(
        decimals=2
    )  # with ties
    found, index = largest(values, k)
    assert torch.equal(found, values.topk(k, dim=1).values)
    assert torch.equal(values.gather(1, index), found)
    assert all(len(set(row)) == k for row in index.tolist())
