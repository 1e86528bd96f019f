"""What the commands do: pick a recipe, train it, evaluate models."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from sslbench import plugins
from sslbench.backbones.classifier import RELEASED, read_classifier
from sslbench.backbones.files import expanded
from sslbench.backbones.floors import FLOORS, PIXELS, random_source
from sslbench.backbones.load import LoadedModel, load_backbone, read_card
from sslbench.backbones.sources import named
from sslbench.backbones.sources import split as split_source
from sslbench.benchmark import Data, Splits
from sslbench.config import Recipe, config_files, load_recipe, recipe_from_dict
from sslbench.data.dense import KINDS, open_dense
from sslbench.data.images import is_named, open_dataset
from sslbench.data.reading import printable
from sslbench.data.splits import split_named
from sslbench.errors import UserError
from sslbench.evaluation.jobs import lacking
from sslbench.evaluation.suite import WORK_DIR, find_benchmarks, run_suite
from sslbench.evaluation.watcher import ConsoleWatcher
from sslbench.reporting.rendering import RECORDS
from sslbench.reporting.result import Result, digest
from sslbench.reporting.store import Store
from sslbench.training.checkpoint import CONFIG, WEIGHTS, has_state

EMBEDDED = "shapes"
IMAGES = "images"  # the kind of data that is no dense kind
# patterns of config names, the best first
SMALL = ("shapes/{}",)
PAPER = ("papers/{}_vit-small-p16_*_in1k", "papers/{}_*", "papers/{}")


def choose_recipe(
    method: str | None,
    config: str | None,
    data: str | None,
    changes: Sequence[str],
    group: str = plugins.METHODS,
) -> tuple[Recipe, str]:
    """The recipe a command line asks for, and a sentence where it was chosen for the user.

    No method: the config's. No config: the small recipe on the embedded dataset; with `data`, the
    paper's, of ViT-S/16 where there is one.
    """
    if method is not None:
        plugins.load(group, method)  # an unknown method is the first thing to say
    changes, said = list(changes), ""
    if config is None:
        if method is None:
            raise UserError("nothing says what to train; pass --method NAME or --config NAME.")
        config = _choose_config(method, PAPER if data else SMALL)
        if data:
            large = ("papers/", "matched/")
            small = ", ".join(n for n in _configs_of(method) if not n.startswith(large))
            said = f"No --config given: {config}, made for ImageNet. Smaller presets: {small}."
    if data:
        changes.insert(0, f"data.source={data!r}")  # quoted: a folder may be called 2012
    return load_recipe(config, method, changes, group), said


def _choose_config(method: str, patterns: Sequence[str]) -> str:
    """The first config that fits a pattern, the earlier the better; UserError if none does."""
    files = config_files()
    for pattern in patterns:
        if fitting := fnmatch.filter(files, pattern.format(method)):
            return fitting[0]
    own = _configs_of(method)
    raise UserError(
        f"method {method!r} has no config {patterns[0].format(method)!r}; pass --config with "
        f"{'one of ' + ', '.join(own) if own else 'a file of yours'}."
    )


def _configs_of(method: str) -> list[str]:
    return [name for name in config_files() if name.rsplit("/", 1)[-1].startswith(method)]


def free_folder(parent: Path, recipe: Recipe) -> Path:
    """A run directory that does not exist yet, e.g. runs/ibot-shapes-seed0-2."""
    place = "-".join(Path(recipe.name).parent.parts) or "own"
    name = f"{recipe.method_name}-{place}-seed{recipe.train.seed}"
    folder, number = parent / name, 2
    while folder.exists():
        folder, number = parent / f"{name}-{number}", number + 1
    return folder


def check_free(out: Path) -> None:
    """Raises UserError if `out` already holds a run."""
    if has_state(out) or (out / WEIGHTS).exists():
        raise UserError(
            f"{out} already holds a run; add --resume to go on with it or choose another --out."
        )


def resumed_recipe(out: Path, method: str | None, changes: Sequence[str], group: str) -> Recipe:
    """The recipe of the run in `out`; only `run.*` may change. UserError if it is another's."""
    try:
        values = json.loads((out / CONFIG).read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{out} holds no run to resume ({CONFIG} is missing); leave out --resume to start one."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{out / CONFIG} is damaged ({error}); start the run anew.") from error
    try:
        begun = recipe_from_dict(values, group)
    except UserError as error:
        raise UserError(f"{out / CONFIG} cannot be used: {error}") from error
    if method not in (None, begun.method_name):
        raise UserError(
            f"{out} is a run of {begun.method_name!r}, not {method!r}; pass --method "
            f"{begun.method_name}."
        )
    for change in changes:
        if not change.startswith("run."):
            raise UserError(
                f"--set {change} would change a run half-way; with --resume only run.* may change."
            )
    return recipe_from_dict(values, group, changes)


def newest_runs(folder: Path) -> list[str]:
    """The newest finished run of each method below `folder`; UserError if there is none."""
    newest: dict[str, tuple[float, Path]] = {}
    methods = plugins.available(plugins.METHODS)
    for weights in folder.rglob(WEIGHTS):
        method, when = _method_of(weights.parent), weights.stat().st_mtime
        if method in methods and when > newest.get(method, (0.0, weights))[0]:
            newest[method] = (when, weights.parent)
    if not newest:
        raise UserError(
            f"no finished run below {folder}; run `sslbench pretrain --method NAME` first or name "
            "one with --model."
        )
    return [str(path) for _, (_, path) in sorted(newest.items())]


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


def _method_of(run: Path) -> str | None:
    """The method a run directory says it was trained with; None if it does not."""
    try:
        return json.loads((run / CONFIG).read_text())["method"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def load_models(sources: Sequence[str], classifier: Path | None) -> list[LoadedModel]:
    """The models behind `sources` ([NAME=]PLACE); the only one gets the layer released for it."""
    if classifier is None:
        return [load_backbone(place, label) for label, place in map(named, sources)]
    if len(sources) != 1:
        raise UserError(
            f"--classifier {classifier} belongs to one model, not to {len(sources)}; name that one "
            "with --model."
        )
    layer = read_classifier(classifier)
    label, place = named(sources[0])
    return [replace(load_backbone(place, label), classifier=layer)]


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
) -> list[Result]:
    """Evaluates `sources` and their floors; records go to `out`/records.jsonl.

    data: kind -> source, see `open_data`. at_once: jobs with processes of their own that run at a
    time; None: one with a GPU, else two. classifier: released with the weights of the one source.
    data_name: what records call the images.
    """
    benchmarks = find_benchmarks(suite)
    store = Store(out / RECORDS)
    store.load()  # a damaged file is found before hours of work
    kinds = {b.kind for b in benchmarks if not lacking(b)}
    opened = open_data(kinds, data, sources, split, data_name)
    models = with_floors(load_models(sources, classifier))
    with ConsoleWatcher(console) as watcher:
        return run_suite(
            models,
            opened,
            benchmarks,
            store,
            force=force,
            cache_dir=cache_folder(),
            work_dir=work_dir,
            jobs_at_once=at_once or (1 if torch.cuda.is_available() else 2),
            watcher=watcher,
        )


def cache_folder() -> Path:
    """Where features are cached, shared by all runs of this user."""
    from sslbench.data.images import home

    return home() / "features"
