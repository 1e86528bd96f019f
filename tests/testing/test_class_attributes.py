"""Class attributes of a wrong type break a promise, in one sentence, never with a traceback."""

import pytest

from sslbench import testing
from sslbench.testing import benchmarks, methods
from sslbench.testing.promises import BrokenPromise
from tests.testing.broken_benchmarks import Sound as SoundBenchmark
from tests.testing.broken_methods import Sound as SoundMethod


@pytest.mark.parametrize("values", [{"poolings": ([],)}, {"needs": None}, {"needs": ["teacher"]}])
def test_a_method_with_an_attribute_of_a_wrong_type(values):
    with pytest.raises(BrokenPromise, match="types of the contract"):
        methods.check_class(type("Wrong", (SoundMethod,), values))


@pytest.mark.parametrize("directions", [None, ["top1"], {"top1": []}])
def test_a_benchmark_with_an_attribute_of_a_wrong_type(directions):
    with pytest.raises(BrokenPromise, match="types of the contract"):
        benchmarks.check_class(type("Wrong", (SoundBenchmark,), {"directions": directions}))


@pytest.mark.parametrize(("check", "kind"), [("method", "method"), ("benchmark", "benchmark")])
def test_what_is_no_class_is_one_sentence(check, kind):
    with pytest.raises(BrokenPromise, match=f"a {kind} is a class, not 3"):
        getattr(testing, f"check_{check}")(3)
