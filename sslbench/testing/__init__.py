"""Contract kits for packages outside: `check_method` and `check_benchmark`, for use in tests.

Each checks every promise of a contract that can be checked in seconds, and raises `BrokenPromise`
with one sentence for the first that does not hold.
"""

from sslbench.testing.benchmarks import check_benchmark
from sslbench.testing.methods import check_method
from sslbench.testing.promises import BrokenPromise

__all__ = ["BrokenPromise", "check_benchmark", "check_method"]
