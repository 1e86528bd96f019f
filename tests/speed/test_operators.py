import torch

from tests.speed.operators import lines, own_seconds


def test_operators_are_timed_by_themselves() -> None:
    a, b = torch.randn(2, 300, 300)
    seconds = own_seconds(lambda: (a @ b).exp())
    assert seconds["aten::mm"] > 0 and seconds["aten::exp"] > 0


def test_products_are_told_from_the_rest() -> None:
    seconds = {"aten::mm": 1.0, "aten::addmm": 0.5, "aten::exp": 0.25}
    first, *operators = lines("ours", seconds)
    assert first == "ours: 1.75 s, matrix products 1.5 s, the rest 0.25 s"
    assert [line.split()[0] for line in operators] == ["aten::mm", "aten::addmm", "aten::exp"]
