"""What `evaluate` does: open data, load models and their floors, measure and record."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from sslbench.backbones.classifier import RELEASED, read_classifier
from sslbench.backbones.files import expanded
from sslbench.backbones.floors import FLOORS, PIXELS, random_source
from sslbench.backbones.load import LoadedModel, load_backbone, read_card
from sslbench.backbones.sources import named
from sslbench.backbones.sources import split as split_source
from sslbench.benchmark import Benchmark, Data, Splits
from sslbench.config import benchmark_configs
from sslbench.data.dense import KINDS, open_dense
from sslbench.data.images import is_named, open_dataset
from sslbench.data.reading import printable
from sslbench.data.splits import split_named
from sslbench.errors import UserError, nearest
from sslbench.evaluation.jobs import LeftOut, lacking, sentence
from sslbench.evaluation.suite import WORK_DIR, find_benchmarks, run_suite
from sslbench.evaluation.watcher import ConsoleWatcher
from sslbench.machine import limit_threads
from sslbench.reporting.rendering import RECORDS
from sslbench.reporting.result import Result, digest
from sslbench.reporting.store import Store
from sslbench.training.checkpoint import WEIGHTS, has_state
from sslbench.training.export import export_run

log = logging.getLogger(__name__)
EMBEDDED = "shapes"
IMAGES = "images"  # the kind of data that is no dense kind


def pretraining_data(sources: Sequence[str]) -> str:
    """The data that the runs among `sources` were trained on; embedded where none is a run.

    Raises UserError where they were trained on different data, as nobody says which is meant, and
    where the data is no longer there.
    """
    found: dict[str, list[str]] = {}  # what tells data apart -> its sources
    stored = [place for _, place in map(named, sources) if place.partition(":")[0] not in FLOORS]
    places = [split_source(place)[0] for place in stored]
    for run in (place for place in places if expanded(place).exists()):
        card = read_card(run)
        if source := card.get("recipe", {}).get("data", {}).get("source"):
            found.setdefault(card.get("data_fingerprint") or _one_spelling(source), []).append(
                source
            )
    several = list(dict.fromkeys(_one_spelling(same[0]) for same in found.values()))
    if len(found) > 1 and len(several) > 1:
        raise UserError(
            f"the runs were trained on different data ({' and '.join(several)}); name what to "
            "evaluate on with --data."
        )
    told = next(iter(found.values()), [EMBEDDED])
    there = [source for source in told if is_named(source) or expanded(source).exists()]
    if not there:
        raise UserError(
            f"the runs were trained on {printable(told[0])!r}, which is not there; name what to "
            "evaluate on with --data."
        )
    return there[0]


def _one_spelling(source: str) -> str:
    """An existing folder by its absolute path, whatever way it was written."""
    path = expanded(source)
    return str(path.resolve()) if path.exists() else source


def with_weights(source: str) -> str:
    """`source`, or the weights of its newest checkpoint where it is a run that has not ended."""
    label, place = named(source)
    folder = expanded(place)
    if not has_state(folder) or (folder / WEIGHTS).exists():
        return source
    path = export_run(folder)
    log.warning("%s has not ended; its newest checkpoint is evaluated: %s.", folder, path.name)
    return f"{label}={path}" if label else str(path)


def load_models(
    sources: Sequence[str], classifier: Path | None
) -> tuple[dict[str, LoadedModel], list[LeftOut]]:
    """The models behind `sources` ([NAME=]PLACE); the only one gets the layer released for it.

    One that cannot be loaded costs its own evaluations. UserError where none can.
    """
    if classifier is not None and len(sources) != 1:
        raise UserError(
            f"--classifier {classifier} belongs to one model, not to {len(sources)}; name that one "
            "with --model."
        )
    layer = read_classifier(classifier) if classifier else None
    models, broken = {}, list[LeftOut]()
    for source in sources:
        try:
            source = with_weights(source)
            label, place = named(source)
            models[source] = replace(load_backbone(place, label), classifier=layer)
        except UserError as error:
            broken.append(
                LeftOut(f"every evaluation of {printable(source)}", sentence(error), True)
            )
    if not models and broken:
        raise UserError("; ".join(dict.fromkeys(one.why for one in broken)) + ".")
    return models, broken


def configured(benchmarks: Sequence[Benchmark], configs: Sequence[str]) -> list[Benchmark]:
    """`benchmarks` set to the `configs` (names or files) that are for them.

    Raises UserError for a config that is for none of them.
    """
    found: list[Benchmark] = []
    configs = list(dict.fromkeys(map(_one_config, configs)))
    unused = configs
    for benchmark in benchmarks:
        fit = [] if lacking(benchmark) else configs
        made = {c: b for c in fit if (b := benchmark.configured(c)) is not None}
        unused = [c for c in unused if c not in made]
        found += made.values() or [benchmark]
    if unused:
        names = [benchmark.name for benchmark in benchmarks]
        known = [c for name in names for c in benchmark_configs(name)]
        raise UserError(
            f"--config {printable(unused[0])} is for none of {', '.join(names)}: "
            f"{nearest(unused[0], known)}, or give a .py file."
        )
    return found


def _one_config(config: str) -> str:
    """A config's file by one path however it was typed, for that stands in the protocol."""
    if not config.endswith(".py"):
        return config
    path, here = expanded(config).resolve(), Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def released(results: Sequence[Result]) -> list[str]:
    """What a released classifier reached, a line a figure; it has no column in small tables."""
    found = [f"{RELEASED}: {r.metric} {r.value:.2f}" for r in results if r.setting == RELEASED]
    return found or ["the classifier was not used: no benchmark that ran reads one"]


def with_floors(models: Sequence[LoadedModel]) -> list[LoadedModel]:
    """`models` after their floors: the pixels, and fresh weights of each architecture and seed.

    Both are of the size that the model is evaluated at, which is not always that of its positions.
    Fresh weights give each feature that a model above them is evaluated by.
    """
    present = {m.card.source for m in models}
    floors: dict[str, LoadedModel] = {}
    for model in models:
        config = getattr(model.backbone, "config", None)
        if config is None:
            continue
        size = model.image_size
        pixels = f"{PIXELS}:{size - size % 8}"
        fresh = random_source(replace(config, image_size=size), model.card.seed or 0)
        for source in (s for s in (pixels, fresh) if s not in present):
            floors.setdefault(source, load_backbone(source))
        if fresh in floors:
            poolings = dict.fromkeys((*floors[fresh].poolings, *model.poolings))
            floors[fresh] = replace(floors[fresh], poolings=tuple(poolings))
    return [*floors.values(), *models]


def open_splits(source: str, split: str, name: str | None = None) -> Splits:
    """The labelled bank and evaluated split of a dataset; UserError if it has no labels.

    name: what records and tables call it; unset, what it is called itself.
    """
    train, judged = open_dataset(source, "train"), open_dataset(source, split)
    for part in (train, judged):
        if part.labels is None:
            raise UserError(
                f"{printable(source)} has no labels in its {part.split} split, which every "
                f"evaluation needs{', for ' * bool(part.unlabelled)}{part.unlabelled}; give a "
                "folder with one sub-folder a class."
            )
    fingerprint = digest([train.fingerprint, judged.fingerprint])
    return Splits(name or train.name, fingerprint, train.classes, train, judged, split)


def open_data(
    kinds: Iterable[str],
    given: Mapping[str, str | None],
    sources: Sequence[str],
    split: str,
    name: str | None = None,
) -> dict[str, Data]:
    """The data of each kind that `kinds` asks for and that is known, checked before any work.

    given: kind -> source; name: what records call the images. Images default to what the models
    behind `sources` were trained on, the others to the embedded scenes where the images are
    embedded too. Raises UserError.
    """
    kinds, split = set(kinds), split_named(split)
    images = given.get(IMAGES) or pretraining_data(sources)
    opened: dict[str, Data] = {}
    if IMAGES in kinds:
        opened[IMAGES] = open_splits(images, split, name)
    for kind in KINDS:
        source = given.get(kind) or (EMBEDDED if images == EMBEDDED else None)
        if kind in kinds and source:
            opened[kind] = open_dense(kind, source, split)
    return opened


def evaluate(
    sources: Sequence[str],
    suite: str | Sequence[str],
    data: Mapping[str, str | None],
    split: str,
    out: Path,
    force: bool,
    console: Console,
    at_once: int | None = None,
    work_dir: Path = WORK_DIR,
    classifier: Path | None = None,
    data_name: str | None = None,
    configs: Sequence[str] = (),
) -> list[Result]:
    """Evaluates `sources` and their floors; records go to `out`/records.jsonl.

    data: kind -> source, see `open_data`. at_once: jobs with processes of their own that run at a
    time; None: one with a GPU, else two. classifier: released with the weights of the one source.
    data_name: what records call the images. configs: what benchmarks use instead of the configs
    they choose. Raises RunError at the end where something failed.
    """
    limit_threads()
    benchmarks, broken = find_benchmarks(suite)
    benchmarks = configured(benchmarks, configs)
    store = Store(out / RECORDS)
    store.load()  # a damaged file is found before hours of work
    models, unread = load_models(sources, classifier)
    kinds = {b.kind for b in benchmarks if not lacking(b)}
    opened = open_data(kinds, data, list(models), split, data_name)
    with ConsoleWatcher(console) as watcher:
        return run_suite(
            with_floors(list(models.values())),
            opened,
            benchmarks,
            store,
            left_out=(*unread, *broken),
            force=force,
            cache_dir=cache_folder(),
            work_dir=work_dir,
            jobs_at_once=at_once or (1 if torch.cuda.is_available() else 2),
            watcher=watcher,
        )


def cache_folder() -> Path | None:
    """Where features are cached, shared by all runs of this user; None, with a warning: nowhere."""
    from sslbench.data.home import home

    try:
        return home() / "features"
    except UserError as error:
        log.warning("features are not cached: %s", error)
        return None
