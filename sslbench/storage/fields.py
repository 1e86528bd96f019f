"""Builds records from JSON that anybody may have written, by the types of their fields."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

LONGEST = 2**16  # characters of a text
DEEPEST = 16  # dicts and lists inside one another
LARGEST = 1e100  # of a number, so that means and spreads are numbers too
MOST = 2**53  # of what is counted; a larger float has no ones any more
AMOUNTS = ("n", "steps", "epochs", "effective_epochs", "tokens", "seconds")  # never below 0
DATES = ("date",)


class BadRecord(ValueError):
    """What is wrong with a record, naming field, value and what is expected."""


class NewerRecord(BadRecord):
    """A record with fields that this version does not know."""


def build(cls: type, values: Any, where: str = "") -> Any:
    """The dataclass `cls` of a JSON object; `where` is the field it stands in.

    Raises NewerRecord for unknown fields and BadRecord for missing and ill-typed ones.
    """
    if not isinstance(values, Mapping):
        raise _unexpected(where, values, "an object with fields")
    hints, prefix = _hints(cls), f"{where}." if where else ""
    fields = dataclasses.fields(cls)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    unknown = sorted(prefix + name for name in values.keys() - hints.keys())
    if unknown and 2 * len(missing) < len(required):
        told = ", ".join(_shown(name) for name in unknown)
        raise NewerRecord(f"it has the field{'s' if len(unknown) > 1 else ''} {told}")
    if missing:
        raise BadRecord(f"the field '{prefix}{missing[0]}' is missing")
    return cls(**{n: _checked(hints[n], v, prefix + n) for n, v in values.items()})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the field's type has it, or BadRecord."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    name = where.rpartition(".")[2]
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):  # "X | None"
        kind = next(a for a in arguments if a is not types.NoneType)
        return None if value is None else _checked(kind, value, where)
    if origin is tuple:
        if not (isinstance(value, list | tuple) and len(value) == len(arguments)):
            raise _unexpected(where, value, f"{len(arguments)} numbers or null")
        return tuple(_checked(a, v, where) for a, v in zip(arguments, value, strict=True))
    if origin is dict:
        _bounded(value, where)
        if not isinstance(value, dict):
            raise _unexpected(where, value, "an object")
        return {
            k: _checked(arguments[1], v, f"{where}.{repr(_cut(k))[1:-1]}") for k, v in value.items()
        }
    if hint is Any:
        return value
    expected, fits = KINDS[hint]
    if not fits(value) or (name in AMOUNTS and not 0 <= value <= MOST):
        raise _unexpected(where, value, expected + " of 0 or more" * (name in AMOUNTS))
    _bounded(value, where)
    if name in DATES and value and not _is_date(value):
        raise _unexpected(where, value, "a date as 2026-01-31T12:00:00+00:00")
    return value


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float holds is refused for its size
        return True
    except TypeError:
        return False


KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ("a finite number", _is_number),
}


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _bounded(value: Any, where: str, depth: int = 0) -> None:
    """Raises BadRecord for texts, numbers and structures that no record of ours holds."""
    if depth > DEEPEST:
        raise BadRecord(f"the field '{where}' is nested more than {DEEPEST} deep")
    if isinstance(value, str) and len(value) > LONGEST:
        raise BadRecord(
            f"the field '{where}' is a text of {len(value):,} characters, expected at most "
            f"{LONGEST:,}"
        )
    if isinstance(value, int | float) and LARGEST < abs(value) < math.inf:
        raise _unexpected(where, value, f"a number within ±{LARGEST:g}")
    for part in _parts(value):
        _bounded(part, where, depth + 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


def _unexpected(where: str, value: Any, expected: str) -> BadRecord:
    subject = f"the field '{where}'" if where else "it"
    return BadRecord(f"{subject} is {_shown(value)}, expected {expected}")


def _shown(value: Any) -> str:
    """A value as JSON spells it, on one line and not too long."""
    if isinstance(value, Mapping | list | tuple) and not value:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return f"an object with {len(value)} fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(_cut(value))
    try:
        return _cut(json.dumps(value))
    except ValueError:  # a number of more digits than Python prints
        return "a number of very many digits"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
