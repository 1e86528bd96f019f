"""Builds records from untrusted JSON, checking each field against its declared type."""

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

MAX_CHARACTERS = 2**16  # of one string
MAX_DEPTH = 16  # of nested dicts and lists
MAX_NUMBER = 1e100  # so that means and standard deviations stay finite
MAX_AMOUNT = 2**53  # above it, float64 cannot represent every integer
AMOUNTS = ("n", "steps", "epochs", "effective_epochs", "tokens", "seconds")  # 0 or more
DATES = ("date",)


class BadRecord(ValueError):
    """A record is invalid; the message names the field, its value and what is expected."""


class NewerRecord(BadRecord):
    """A record has fields that this version does not know."""


def build(cls: type, values: Any, where: str = "") -> Any:
    """Return the dataclass `cls` built from a JSON object; `where` is the path of its field.

    Raises NewerRecord for unknown fields and BadRecord for missing or wrongly typed ones.
    """
    if not isinstance(values, Mapping):
        raise _unexpected(where, values, "an object with fields")
    hints, prefix = _hints(cls), f"{where}." if where else ""
    fields = dataclasses.fields(cls)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    unknown = sorted(prefix + name for name in values.keys() - hints.keys())
    if unknown and 2 * len(missing) < len(required):
        listing = ", ".join(_shown(name) for name in unknown)
        raise NewerRecord(f"it has the field{'s' if len(unknown) > 1 else ''} {listing}")
    if missing:
        raise BadRecord(f"the field '{prefix}{missing[0]}' is missing")
    return cls(**{n: _checked(hints[n], v, prefix + n) for n, v in values.items()})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Return `value` converted to the field's type, or raise BadRecord."""
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
            k: _checked(arguments[1], v, f"{where}.{repr(_shortened(k))[1:-1]}")
            for k, v in value.items()
        }
    if hint is Any:
        return value
    expected, fits = KINDS[hint]
    if not fits(value) or (name in AMOUNTS and not 0 <= value <= MAX_AMOUNT):
        raise _unexpected(where, value, expected + " of 0 or more" * (name in AMOUNTS))
    _bounded(value, where)
    if name in DATES and value and not _is_date(value):
        raise _unexpected(where, value, "a date as 2026-01-31T12:00:00+00:00")
    return value


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # `_bounded` refuses integers too large for a float
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
    """Raise BadRecord for strings, numbers and structures beyond the limits of this module."""
    if depth > MAX_DEPTH:
        raise BadRecord(f"the field '{where}' is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        raise BadRecord(
            f"the field '{where}' is a text of {len(value):,} characters, expected at most "
            f"{MAX_CHARACTERS:,}"
        )
    if isinstance(value, int | float) and MAX_NUMBER < abs(value) < math.inf:
        raise _unexpected(where, value, f"a number within ±{MAX_NUMBER:g}")
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
    """Return a short one-line form of a JSON value."""
    if isinstance(value, Mapping | list | tuple) and not value:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return f"an object with {len(value)} fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(_shortened(value))
    try:
        return _shortened(json.dumps(value))
    except ValueError:  # Python refuses to print so many digits
        return "a number of very many digits"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
