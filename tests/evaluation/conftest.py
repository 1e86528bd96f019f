import pytest

from sslbench.evaluation import features


@pytest.fixture(autouse=True)
def one_pass_a_split(monkeypatch):
    """A batch holds all images of the tests' small sets, so that a backbone's calls count them."""
    monkeypatch.setattr(features, "CPU_BATCH", 64)
