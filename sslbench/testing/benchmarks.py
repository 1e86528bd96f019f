"""`check_benchmark`: the promises of `sslbench.benchmark.Benchmark`, on small images."""

from __future__ import annotations

import inspect
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sslbench import plugins
from sslbench.benchmark import Benchmark, Cost, Data
from sslbench.checkpoints.load import LoadedModel, load_backbone
from sslbench.errors import UserError
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.provenance import Provenance
from sslbench.result import Result, digest
from sslbench.testing.data import SIDE, splits
from sslbench.testing.promises import check_frozen, check_registered, plain, promise, promised

MODEL = f"random-init:vit_nano/8@{SIDE}"
CPU = torch.device("cpu")


@promised("all that the contract names can be used")
def check_benchmark(
    benchmark_class: type[Benchmark], protocol: Any = None, data: Data | None = None
) -> None:
    """Checks the promises of a benchmark; BrokenPromise, one sentence, for the first broken one.

    protocol: an instance of its Protocol that takes seconds, default: Protocol(); data: of the
    benchmark's kind, default: small images of six classes.
    """
    check_registered(benchmark_class, plugins.BENCHMARKS)
    check_class(benchmark_class)
    benchmark = benchmark_class(protocol)
    check_protocol(benchmark.protocol)
    promise(
        data is not None or benchmark.kind == "images",
        f"a benchmark of {benchmark.kind} data is checked with `data` of that kind",
    )
    given = data or splits()
    with tempfile.TemporaryDirectory() as folder:
        with promised("`run(backbone, data, context)` returns records"):
            records = run(benchmark, given, Path(folder) / "first")
            again = run(benchmark, given, Path(folder) / "second")
        for record in records:
            check_record(benchmark, given, record)
        check_declared(benchmark, records)
        promise(
            list(map(lasting, records)) == list(map(lasting, again)),
            "equal weights, protocol, data and seed give equal records: two runs differ",
        )
        if data is None:
            check_small(benchmark, Path(folder))


@promised("class attributes have the types of the contract")
def check_class(benchmark_class: type[Benchmark]) -> None:
    """What the class says of itself."""
    promise(
        inspect.isclass(benchmark_class) and issubclass(benchmark_class, Benchmark),
        "a benchmark is a class derived from sslbench.benchmark.Benchmark",
    )
    version = getattr(benchmark_class, "version", None)
    promise(
        isinstance(version, str) and version,
        f"a benchmark has a `version`, a text that is not empty; it is {version!r}",
    )
    suites = benchmark_class.suites
    promise(
        isinstance(suites, tuple) and all(isinstance(s, str) and s for s in suites),
        f"`suites` is a tuple of names; it is {suites!r}",
    )
    promise(hasattr(benchmark_class, "Protocol"), "a benchmark has a Protocol")
    check_frozen(benchmark_class.Protocol, "Protocol")
    promise(
        benchmark_class.Protocol() == benchmark_class.Protocol(),
        "two default protocols are equal, so that their records are of one protocol",
    )
    wrong = {v for v in benchmark_class.directions.values() if v not in ("higher", "lower")}
    promise(not wrong, f'`directions` are "higher" or "lower"; {sorted(map(str, wrong))} is not')


def check_protocol(protocol: Any) -> None:
    """JSON can hold the protocol, which is hashed by what JSON gives back."""
    with promised("JSON can hold every value of Protocol"):
        plain(asdict(protocol))


def run(benchmark: Benchmark, data: Data, folder: Path) -> list[Result]:
    """The records of all protocols on an untrained backbone, as the suite runs them."""
    context = EvalContext(load_backbone(MODEL), 0, CPU, Provenance.here(CPU), work_dir=folder)
    protocols = benchmark.protocols(context.model, data)
    promise(protocols, "`protocols` returns one protocol at least for a vision transformer")
    records: list[Result] = []
    for protocol in protocols:
        check_protocol(protocol)
        check_cost(benchmark.under(protocol), context.model, data)
        found = benchmark.under(protocol).run(context.model.backbone, data, context)
        promise(
            isinstance(found, list) and all(isinstance(r, Result) for r in found),
            "`run` returns a list of records made by `context.result`",
        )
        promise(found, "`run` returns one record at least, a blank one where there is no number")
        records += found
    return records


def check_cost(benchmark: Benchmark, model: LoadedModel, data: Data) -> None:
    """The work that the time of a suite is estimated from."""
    with promised("`cost` returns the work of a run"):
        cost = benchmark.cost(model, data)
    promise(
        cost is None or isinstance(cost, Cost),
        f"`cost` returns a Cost, or None where the work is not known; it returned {cost!r}",
    )


def check_record(benchmark: Benchmark, data: Data, record: Result) -> None:
    """The record is complete, says where it comes from, and can be written."""
    what = f"the record {record.setting!r} {record.metric!r}"
    promise(
        isinstance(record.setting, str) and isinstance(record.metric, str) and record.metric,
        f"a record has a setting and a metric, which are texts, the metric not empty; {what} not",
    )
    promise(
        (record.benchmark, record.version) == (benchmark.name, benchmark.version),
        f"a record names its benchmark and version; {what} says {record.benchmark} "
        f"{record.version}",
    )
    where = (record.dataset, record.dataset_fingerprint, record.split)
    promise(
        where == (data.name, data.fingerprint, data.split) and record.code_version,
        f"a record is complete, made by `context.result`; {what} is not",
    )
    if record.missing:
        promise(math.isnan(record.value), f"a record with `missing` has no value; {what} has one")
    else:
        promise(
            isinstance(record.value, float | int) and math.isfinite(record.value),
            f"a value is finite, or `missing` says why there is none; {what} is {record.value}",
        )
        promise(record.n > 0, f"a record says of how many images its value is; {what} says none")
    if record.metric in ("top1", "top5") and not record.missing:
        promise(0 <= record.value <= 100, f"accuracies are in percent; {what} is {record.value:g}")
    with promised(f"a record can be written as JSON and read back; {what} cannot"):
        again = Result.from_dict(json.loads(record.to_json()))
        promise(lasting(again) == lasting(record), f"{what} is the same after reading it back")


def check_declared(benchmark: Benchmark, records: Sequence[Result]) -> None:
    """`main` and `directions` speak of records that exist, none of which exists twice."""
    pairs = {(r.setting, r.metric) for r in records}
    for pair in benchmark.main:
        promise(
            pair in pairs,
            f"`main` names (setting, metric) pairs of records; {pair!r} has none",
        )
        promise(
            benchmark.direction(*pair) in ("higher", "lower"),
            f"the metrics of `main` have a direction; {pair!r} has none",
        )
    promise(  # of one at least: others may need more classes, say
        not benchmark.directions or {metric for _, metric in pairs} & set(benchmark.directions),
        f"`directions` names metrics of records; {', '.join(benchmark.directions)} has none",
    )
    keys = [(r.model.sha256, r.pool, r.setting, r.metric, r.protocol_hash) for r in records]
    promise(
        len(set(keys)) == len(keys),
        "records of one protocol differ in setting or metric; two do not",
    )


def check_small(benchmark: Benchmark, folder: Path) -> None:
    """Data that is too small costs a blank or one sentence, never an error that nobody foresaw."""
    for what, data in (
        ("one class", splits(train=12, test=6, classes=1)),
        ("two images", splits(train=2, test=2, classes=2)),
    ):
        with promised(f"a set of {what} gives records, blanks or a UserError"):
            try:
                for record in run(benchmark, data, folder / digest(what)):
                    check_record(benchmark, data, record)
            except UserError:
                continue


def lasting(record: Result) -> str:
    """The record as text without what may differ from run to run: date and seconds."""
    return replace(record, date="", seconds=0.0).to_json()
