"""Work that overlaps on a GPU, whose streams are stood in for here, and what a CPU does."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from sslbench.system import device
from sslbench.system.device import Late, aside, chosen, sent

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_nothing_is_copied_where_it_is() -> None:
    x = torch.randn(3)
    assert sent(x, CPU) is x


def test_rows_are_chosen_in_their_order() -> None:
    x = torch.randn(4, 2, requires_grad=True)
    rows = chosen(x, torch.tensor([2, 0]))
    assert torch.equal(rows, x[[2, 0]])
    rows.sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]


def test_a_number_is_read_later() -> None:
    assert Late(torch.tensor(15.0)).read() == 15


def test_a_cpu_has_nothing_aside() -> None:
    x = torch.randn(3)
    with aside(CPU) as awaited:
        y = 2 * x
    assert awaited(y) is y


class Stream:
    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def wait_stream(self, other: Stream) -> None:
        self.told.append(f"{self.name} waits for {other.name}")


class Result:
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def record_stream(self, stream: Stream) -> None:
        self.told.append(f"{stream.name} uses it")


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What streams are told, in order."""
    order: list[str] = []

    @contextmanager
    def stream(used: Stream):
        order.append(f"on {used.name}")
        yield
        order.append(f"off {used.name}")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("usual", order))
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream("second", order))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    device._second_stream.cache_clear()
    yield order
    device._second_stream.cache_clear()


def test_a_gpu_waits_before_and_where_a_result_is_used(told) -> None:
    with aside(GPU) as awaited:
        told.append("the work")
        result = Result(told)
    told.append("what comes after")
    assert awaited(result) is result
    assert told == [
        "second waits for usual",
        "on second",
        "the work",
        "off second",
        "what comes after",
        "usual waits for second",
        "usual uses it",
    ]


def test_there_is_one_second_stream(told) -> None:
    assert device._second_stream(GPU) is device._second_stream(GPU)
