"""A sound benchmark as small as can be, and benchmarks that each break one promise."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sslbench.benchmark import Benchmark, Cost, FeatureSpec


@dataclass(frozen=True)
class Protocol:
    pool: str = "cls"


class Sound(Benchmark):
    """The mean norm of the features."""

    name = "Sound"
    version = "1"
    Protocol = Protocol
    main = (("", "norm"),)
    directions = {"norm": "higher"}

    def value(self, backbone, data, context) -> float:
        features = context.features(backbone, data, "test", FeatureSpec(pool=self.protocol.pool))
        return float(features.x.norm(dim=1).mean())

    def run(self, backbone, data, context):
        value = self.value(backbone, data, context)
        return [context.result(self, data, "", "norm", value, len(data.test))]


class Versionless(Sound):
    name, version = "Versionless", ""


class Open(Sound):
    name = "Open"

    @dataclass
    class Protocol:
        pool: str = "cls"


@dataclass(frozen=True)
class SetProtocol:
    pool: str = "cls"
    layers: frozenset[int] = field(default_factory=lambda: frozenset({1}))


class Unwritable(Sound):
    name, Protocol = "Unwritable", SetProtocol


class Sideways(Sound):
    name, directions = "Sideways", {"norm": "up"}


class Priced(Sound):
    name = "Priced"

    def cost(self, model, data):
        return 12.5


class Endless(Sound):
    name = "Endless"

    def cost(self, model, data):
        return Cost(flops=float("inf"))


class Absent(Sound):
    name, main = "Absent", (("k=20", "norm"),)


class Undirected(Sound):
    name, directions = "Undirected", {}


class Unmeasured(Sound):
    name, main, directions = "Unmeasured", (), {"loss": "lower"}


class Clock(Sound):
    """Its number depends on when it is measured."""

    name = "Clock"

    def value(self, backbone, data, context) -> float:
        return float(time.perf_counter())


class Empty(Sound):
    name = "Empty"

    def run(self, backbone, data, context):
        return []


class Infinite(Sound):
    name = "Infinite"

    def value(self, backbone, data, context) -> float:
        return float("inf")


class Nameless(Sound):
    name = "Nameless"

    def run(self, backbone, data, context):
        return [context.result(self, data, "", "", 1.0, len(data.test))]


class Twice(Sound):
    name = "Twice"

    def run(self, backbone, data, context):
        return 2 * super().run(backbone, data, context)


class Fragile(Sound):
    """Divides by the number of classes less one."""

    name = "Fragile"

    def value(self, backbone, data, context) -> float:
        return 1 / (len(data.classes) - 1)


@dataclass(frozen=True)
class DriftingProtocol:
    """Each instance has a value of its own."""

    began: float = field(default_factory=time.perf_counter)


class Drifting(Sound):
    name, Protocol = "Drifting", DriftingProtocol


BROKEN = {
    "Drifting": "two default protocols are equal",
    "Versionless": "a benchmark has a `version`",
    "Open": "Protocol is a frozen dataclass",
    "Unwritable": "JSON can hold every value of Protocol",
    "Sideways": '`directions` are "higher" or "lower"',
    "Priced": "`cost` returns a Cost, or None where the work is not known; it returned 12.5",
    "Endless": "`cost` returns the work of a run",
    "Absent": r"`main` names \(setting, metric\) pairs of records; \('k=20', 'norm'\) has none",
    "Undirected": "the metrics of `main` have a direction",
    "Unmeasured": "`directions` names metrics of records; loss has none",
    "Clock": "two runs differ",
    "Empty": "`run` returns one record at least",
    "Infinite": "a value is finite",
    "Nameless": "a record has a setting and a metric",
    "Twice": "records of one protocol differ in setting or metric",
    "Fragile": "a set of one class gives records, blanks or a UserError, but ZeroDivisionError",
}
NAMES = ["Sound", *BROKEN]
