"""A section is typed and checked by its annotations, whoever wrote it; errors are one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from sslbench.errors import UserError
from sslbench.settings import Scale, described, setting, typed


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ValueError(f"rate {self.rate} is over 1")


@dataclass(frozen=True)
class Outer:
    """A stranger's section: annotations without bounds."""

    count: int = 1
    flag: bool = False
    name: str = "x"
    limit: float | None = 3.0
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    grid: tuple[tuple[float, float], ...] = ()
    inner: Inner = field(default_factory=Inner)


def read(**values: object) -> Outer:
    return typed(Outer, values, "outer")


def test_defaults_and_values() -> None:
    assert read() == Outer()
    assert read(count=2, flag=True, name="y") == Outer(2, True, "y")
    assert read(inner={"rate": 0.25}).inner == Inner(0.25)


def test_whole_numbers_stand_for_floats() -> None:
    value = read(limit=2, pair=[0, 1], inner={"rate": 1})
    assert value == Outer(limit=2.0, pair=(0.0, 1.0), inner=Inner(1.0))
    assert isinstance(value.limit, float) and isinstance(value.pair[0], float)


def test_lists_become_tuples() -> None:
    value = read(many=[1, 2, 3], grid=[[0, 0.5]])
    assert (value.many, value.grid) == ((1, 2, 3), ((0.0, 0.5),))
    assert read(many=[]).many == ()


def test_none_only_where_it_may_be() -> None:
    assert read(limit=None).limit is None
    with pytest.raises(UserError, match=r"outer\.count=None is NoneType, expected int\."):
        read(count=None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, r"unknown key 'outer\.cuont': did you mean 'count'\?"),
        ({"inner": {"raet": 1}}, r"unknown key 'outer\.inner\.raet': did you mean 'rate'\?"),
        ({"count": True}, r"outer\.count=True is bool, expected int\."),
        ({"limit": True}, r"outer\.limit=True is bool, expected float\."),
        ({"flag": 1}, r"outer\.flag=1 is int, expected bool\."),
        ({"count": 1.5}, r"outer\.count=1\.5 is float, expected int\."),
        ({"name": 3}, r"outer\.name=3 is int, expected str\."),
        ({"many": "12"}, r"outer\.many='12' is str, expected a list\."),
        ({"many": [1, "2"]}, r"outer\.many='2' is str, expected int\."),
        ({"pair": [1, 2, 3]}, r"outer\.pair=\[1, 2, 3\]: has too many values, 2 at most\."),
        ({"pair": [1]}, r"outer\.pair=\[1\]: has too few values\."),
        ({"limit": float("nan")}, r"outer\.limit=nan: must be a finite number\."),
        ({"pair": [0, float("inf")]}, r"outer\.pair=inf: must be a finite number\."),
        ({"name": {1, 2}}, r"outer: \{1, 2\} is set; a setting is a number, a text"),
        ({"name": "caf\udce9"}, r"outer holds text that is not Unicode"),
        ({"inner": 3}, r"outer\.inner is a section with the keys rate\."),
        ({"inner": {"rate": 2}}, r"outer\.inner: rate 2\.0 is over 1\."),
    ],
)
def test_wrong_values_are_named(values, message) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        read(**values)


@dataclass(frozen=True)
class Bounded:
    rate: Annotated[float, setting("peak rate", gt=0, lt=10)] = 0.1
    steps: Annotated[int, setting("warm-up", "steps", ge=1)] = 5
    scale: Annotated[Scale, setting("share of the area")] = (0.1, 1.0)
    kind: Annotated[Literal["slow", "fast"], setting("how")] = "slow"
    names: Annotated[tuple[str, ...], setting("endings", min_length=1)] = ("a",)
    limit: Annotated[float | None, setting("largest norm", ge=0)] = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rate": 0}, "b.rate=0: must be greater than 0 (peak rate)."),
        ({"rate": 10.0}, "b.rate=10.0: must be less than 10 (peak rate)."),
        ({"rate": "x"}, "b.rate='x' is str, expected float (peak rate)."),
        ({"steps": 0}, "b.steps=0: must be greater than or equal to 1 (warm-up, in steps)."),
        ({"limit": -1}, "b.limit=-1: must be greater than or equal to 0 (largest norm)."),
        (
            {"scale": [1, 0.5]},
            "b.scale=[1, 0.5]: the first must not be larger than the second (share of the area).",
        ),
        (
            {"kind": "slw"},
            "b.kind='slw': did you mean 'slow'? (known: fast, slow) (how).",
        ),
        ({"names": []}, "b.names=[]: has too few values, 1 at least (endings)."),
        ({"rate": 10**5000}, "b: Exceeds the limit (4300 digits) for integer string conversion"),
        ({"rate": [0] * 100}, "b.rate=[0, 0, 0, 0,"),
    ],
)
def test_bounds_are_named_with_what_is_bounded(values, sentence) -> None:
    with pytest.raises(UserError) as refused:
        typed(Bounded, values, "b")
    said = str(refused.value)
    assert said == sentence or (not sentence.endswith(".") and said.startswith(sentence))
    assert len(said) < 200


def test_bounds_are_told_in_words() -> None:
    known = described(Bounded, "b")
    assert {key: f"{said.meaning}: {said.bounds}" for key, said in known.items()} == {
        "b.rate": "peak rate: a number in (0,10)",
        "b.steps": "warm-up, in steps: a whole number >= 1",
        "b.scale": "share of the area: 2 numbers in (0,1]",
        "b.kind": "how: slow or fast",
        "b.names": "endings: 1 or more of: text",
        "b.limit": "largest norm: a number >= 0 or None",
        "b.inner.rate": ": a number",
    }


@dataclass(frozen=True)
class Strange:
    """Types that our sections do not use and other people's may."""

    needed: int
    either: int | str = 1
    table: dict[str, float] = field(default_factory=dict)
    many: list[int] = field(default_factory=list)
    place: Path = Path("here")
    pattern: re.Pattern[str] = re.compile("x")
    made: int = field(default=3, init=False)


def test_strange_types_of_other_people_work() -> None:
    given = {"needed": 2, "either": "a", "table": {"x": 1}, "many": [1], "place": "there"}
    found = typed(Strange, given, "s")
    assert found == Strange(2, "a", {"x": 1.0}, [1], Path("there"))
    assert set(described(Strange, "s")) >= {"s.needed", "s.either", "s.table", "s.place"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "s.needed is not set and has no default; set it."),
        ({"needed": 1, "either": []}, "s.either=[] is list, expected int."),
        ({"needed": 1, "many": ["x"]}, "s.many='x' is str, expected int."),
    ],
)
def test_errors_in_strange_types_are_one_sentence(values, sentence) -> None:
    with pytest.raises(UserError) as refused:
        typed(Strange, values, "s")
    assert str(refused.value) == sentence


@dataclass(frozen=True)
class Broken:
    rate: NoSuchType = 1  # noqa: F821 (what is tested)


def test_a_section_whose_types_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError, match=r"settings of tests\.test_settings\.Broken cannot be read"):
        typed(Broken, {}, "b")
