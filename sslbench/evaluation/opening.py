"""Opens the data that benchmarks are run on, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sslbench import plugins
from sslbench.benchmark import Data, Splits
from sslbench.checkpoints.floors import FLOORS
from sslbench.checkpoints.load import read_card
from sslbench.checkpoints.sources import named
from sslbench.checkpoints.sources import split as split_source
from sslbench.data.dense import KINDS, open_dense
from sslbench.data.images import open_dataset
from sslbench.data.places import absolute_place, is_named, place_and_option
from sslbench.data.splits import split_named
from sslbench.errors import UserError
from sslbench.result import digest
from sslbench.storage.home import expanded
from sslbench.system.printing import printable

EMBEDDED = "shapes"
IMAGES = "images"  # the kind of data of most benchmarks


def pretraining_data(sources: Sequence[str]) -> str:
    """The data that the runs among `sources` were trained on; the embedded set if none is a run.

    Raises UserError if they were trained on different data, because the choice is unclear, and if
    the data no longer exists.
    """
    by_content: dict[str, list[str]] = {}  # content, or one spelling of its path -> sources
    stored = [place for _, place in map(named, sources) if place.partition(":")[0] not in FLOORS]
    places = [split_source(place)[0] for place in stored]
    for run in (place for place in places if expanded(place).exists()):
        card = read_card(run)
        if source := card.get("recipe", {}).get("data", {}).get("source"):
            content = card.get("data_fingerprint") or _one_spelling(source)
            by_content.setdefault(content, []).append(source)
    several = list(dict.fromkeys(_one_spelling(same[0]) for same in by_content.values()))
    if len(by_content) > 1 and len(several) > 1:
        raise UserError(
            f"the runs were trained on different data ({' and '.join(several)}); name what to "
            "evaluate on with --data."
        )
    same = next(iter(by_content.values()), [EMBEDDED])
    there = [source for source in same if is_named(source) or _exists(source)]
    if not there:
        raise UserError(
            f"the runs were trained on {printable(same[0])!r}, which is not there; name what to "
            "evaluate on with --data."
        )
    return there[0]


def _exists(source: str) -> bool:
    return expanded(place_and_option(source)[0]).exists()


def _one_spelling(source: str) -> str:
    """The absolute path of an existing folder, so that every spelling of it is equal."""
    path = expanded(source)
    return str(path.resolve()) if path.exists() else source


def open_splits(
    source: str, split: str, name: str | None = None, limit: int | None = None
) -> Splits:
    """The labelled bank and evaluated split of a dataset; UserError if it has no labels.

    name: the dataset's name in records and tables; unset: its own. limit: images per split, see
    `ImageDataset.limited`.
    """
    train, test = open_dataset(source, "train"), open_dataset(source, split)
    if limit:
        if max(len(train), len(test)) > limit:
            name = f"{name or train.name} ({limit} images per split)"
        train, test = train.limited(limit), test.limited(limit)
    for part in (train, test):
        if part.labels is None:
            raise UserError(
                f"{printable(source)} has no labels in its {part.split} split, which every "
                f"evaluation needs{', for ' * bool(part.unlabelled)}{part.unlabelled}; give a "
                "folder with one sub-folder a class."
            )
    fingerprint = digest([train.fingerprint, test.fingerprint])
    name = name or train.name
    place = absolute_place(source)
    return Splits(name, fingerprint, train.classes, train, test, split, place, limit)


def open_data(
    kinds: Iterable[str],
    given: Mapping[str, str | None],
    sources: Sequence[str],
    split: str,
    name: str | None = None,
    limit: int | None = None,
) -> dict[str, Data]:
    """The data of each kind that `kinds` asks for and that is known, checked before any work.

    given: kind -> source; name, limit: of the images, see `open_splits`. Images default to what the
    models behind `sources` were trained on, the others to the embedded scenes where the images are
    embedded too. Raises UserError.
    """
    kinds, split = set(kinds), split_named(split)
    images = given.get(IMAGES) or pretraining_data(sources)
    opened: dict[str, Data] = {}
    if IMAGES in kinds:
        opened[IMAGES] = open_splits(images, split, name, limit)
    for kind in (*KINDS, *sorted(kinds - {IMAGES, *KINDS})):
        embedded = EMBEDDED if images == EMBEDDED and kind in KINDS else None
        source = given.get(kind) or embedded
        if kind in kinds and source:
            opened[kind] = open_kind(kind, source, split)
    return opened


def open_kind(kind: str, source: str, split: str) -> Data:
    """Data of a kind that is not images: COCO, ADE20K, or one that a package adds.

    A package adds one by an entry point of the group `sslbench.data`: kind -> an object whose
    `open(source, split)` returns data with `name`, `fingerprint` and `split`. Raises UserError.
    """
    if kind in KINDS:
        return open_dense(kind, source, split)
    opener = plugins.load(plugins.DATA, kind)
    try:
        data: Data = opener.open(source, split)
    except UserError:
        raise
    except Exception as error:  # other people's code may break in any way
        raise UserError(
            f"{printable(source)} cannot be opened as {kind} data, {type(error).__name__}: {error}."
        ) from error
    lacking = [name for name in ("name", "fingerprint", "split") if not hasattr(data, name)]
    if lacking:
        raise UserError(
            f"the {kind} data of {printable(source)} has no {' and no '.join(lacking)}; repair "
            "the package that adds this kind of data."
        )
    return data


def by_kind(items: Sequence[str]) -> dict[str, str]:
    """Kind -> source of items that are KIND=SOURCE with a known kind, or a source of images.

    Raises UserError where two items give the same kind.
    """
    known, sources = {IMAGES, *KINDS, *plugins.available(plugins.DATA)}, dict[str, str]()
    for item in items:
        kind, equals, source = item.partition("=")
        if not equals or kind not in known:  # a folder's name may hold "="
            kind, source = IMAGES, item
        if kind in sources:
            raise UserError(
                f"--data gives {kind} twice, {printable(sources[kind])} and {printable(source)}; "
                "drop one."
            )
        sources[kind] = source
    return sources
