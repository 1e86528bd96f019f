"""The kit passes for every installed benchmark of images and names what a broken one breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sslbench import plugins
from sslbench.testing import BrokenPromise, check_benchmark
from tests.testing import broken_benchmarks


def of_images() -> list[str]:
    """Those that work in this process, on images that are in memory."""
    kinds = {n: plugins.load(plugins.BENCHMARKS, n) for n in plugins.available(plugins.BENCHMARKS)}
    return [name for name, kind in kinds.items() if kind.kind == "images" and not kind.apart]


@pytest.mark.parametrize("name", of_images())
def test_every_installed_benchmark_of_images_keeps_its_promises(name: str) -> None:
    benchmark = plugins.load(plugins.BENCHMARKS, name)
    check_benchmark(benchmark, shortened(benchmark.Protocol()))


def shortened(protocol: Any) -> Any:
    """The protocol with two epochs where it trains online, which takes a minute otherwise."""
    if not hasattr(protocol, "online"):
        return protocol
    return replace(protocol, online=replace(protocol.online, epochs=2))


def test_a_sound_benchmark_keeps_its_promises(registered) -> None:
    check_benchmark(broken_benchmarks.Sound)


@pytest.mark.parametrize(("name", "sentence"), broken_benchmarks.BROKEN.items())
def test_a_broken_benchmark_is_caught(registered, name: str, sentence: str) -> None:
    broken: Any = getattr(broken_benchmarks, name)
    with pytest.raises(BrokenPromise, match=sentence):
        check_benchmark(broken)
