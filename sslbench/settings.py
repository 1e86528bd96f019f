"""Settings with types, bounds and meanings: `setting` declares one, `typed` checks a section.

A section is a frozen dataclass. Its keys are settings, and what may stand there is their type:

    lr: Annotated[float, setting("peak learning rate", gt=0)] = 5e-4

A key with a plain type is a setting without bounds. pydantic checks, and checks strictly: "1" and
True are no numbers, but a whole number is one with decimals; NaN and infinity are none at all.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from sslbench.errors import UserError, nearest

LONGEST_VALUE = 80  # characters of a value that a sentence shows
CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
KINDS = {"int_type": "int", "float_type": "float", "bool_type": "bool", "string_type": "str"}
KINDS |= {"tuple_type": "a list", "list_type": "a list", "dict_type": "a dict"}


def setting(meaning: str, unit: str = "", **bounds: Any) -> Any:
    """What stands beside a setting's type: its meaning, its unit and pydantic's bounds.

    bounds: gt, ge, lt, le of numbers, min_length and max_length of texts and lists.
    """
    return Field(description=f"{meaning}, in {unit}" if unit else meaning, **bounds)


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first must not be larger than the second")
    return pair


Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Scale = Annotated[tuple[Share, Share], AfterValidator(_ascending)]  # lowest, highest
Side = Annotated[int, Field(ge=1, le=8192)]  # of an image or a crop in pixels
Width = Annotated[int, Field(ge=1, le=2**20)]  # of a layer; a larger one fits no memory
Epochs = Annotated[float, Field(ge=0, le=1e6)]
Factor = Annotated[float, Field(ge=0, le=1e6)]  # of a term of the loss, a decay, a change
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]  # what it divides stays finite


def typed(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a dict, nested ones too; UserError naming key, value and what is allowed.

    where: how the section is called, e.g. "optim"; "" where it is the whole config.
    """
    try:
        text = json.dumps([values], default=_refuse)
        return _adapter(cls).validate_json(text)[0]
    except ValidationError as error:
        raise UserError(_sentence(cls, where, error.errors()[0])) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where or 'the config'}: {error}.") from error


def _refuse(value: Any) -> None:
    raise TypeError(
        f"{value!r} is {type(value).__name__}; a setting is a number, a text, True, False, None or "
        "a list of them"
    )


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    """A list of `cls`, since pydantic takes no configuration for a dataclass alone."""
    try:
        adapter = TypeAdapter(list[cls], config=CONFIG)  # type: ignore[valid-type]
        adapter.rebuild(raise_errors=True)  # raises for a name that is not known yet
        return adapter
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"the settings of {cls.__module__}.{cls.__qualname__} cannot be read ({reason}); mend "
            "their types."
        ) from error


def _sentence(cls: type, where: str, error: Mapping[str, Any]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "json_invalid":
        return f"{where} holds text that is not Unicode; write it anew."
    owner, names, info = _place(cls, error["loc"][1:])
    key, shown = ".".join(filter(None, [where, *names])), _shown(value)
    known = [f.name for f in dataclasses.fields(owner)]
    meaning = f" ({info.description})" if info and info.description else ""
    if kind == "unexpected_keyword_argument":
        unknown = str(error["loc"][-1])
        return f"unknown key '{key}.{unknown}': {nearest(unknown, known)}."
    if kind == "dataclass_type":
        return f"{key} is a section with the keys {', '.join(sorted(known))}."
    if kind in KINDS:
        return f"{key}={shown} is {type(value).__name__}, expected {KINDS[kind]}{meaning}."
    if kind == "missing" and not isinstance(error["loc"][-1], int):
        return f"{key} is not set and has no default; set it{meaning}."
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"{key}={shown}: {nearest(str(value), choices)}{meaning}."
    if kind == "value_error":
        reason = context["error"]
        return f"{key}: {reason}." if info is None else f"{key}={shown}: {reason}{meaning}."
    return f"{key}={shown}: {_must(kind, error['msg'], context)}{meaning}."


def _must(kind: str, said: str, context: Mapping[str, Any]) -> str:
    """pydantic's "Input should be greater than 0" in our words."""
    if kind in ("missing", "too_short"):
        least = context.get("min_length")
        return "has too few values" + (f", {least} at least" if least else "")
    if kind == "too_long":
        return f"has too many values, {context['max_length']} at most"
    if kind == "string_too_short":
        return "must not be empty"
    return said.replace("Input should be", "must be")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _place(cls: type, loc: Sequence[int | str]) -> tuple[type, list[str], FieldInfo | None]:
    """The innermost section on the way to `loc`, the keys up to there, and the setting's own words.

    The last is None where `loc` is a section.
    """
    names: list[str] = []
    for part in loc:
        hint = get_type_hints(cls, include_extras=True).get(str(part))
        if hint is None:  # an unknown key
            return cls, names, None
        names.append(str(part))
        if not dataclasses.is_dataclass(hint):
            return cls, names, _words(hint)
        cls = hint  # type: ignore[assignment]
    return cls, names, None


def _words(hint: Any) -> FieldInfo:
    return FieldInfo.from_annotation(hint)


@dataclass(frozen=True)
class Described:
    """What is known of a setting: its meaning with its unit; its bounds with its type."""

    meaning: str
    bounds: str


class _Lenient(GenerateJsonSchema):
    """Knows nothing of a type that JSON cannot hold, instead of failing."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


def described(cls: type, where: str) -> dict[str, Described]:
    """Dotted key -> what is known of it, of every setting of a section and those inside."""
    schema = _adapter(cls).json_schema(schema_generator=_Lenient)
    return dict(_described(schema["items"], schema.get("$defs", {}), where))


def _described(
    schema: Mapping[str, Any], sections: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Described]]:
    if "$ref" in schema:
        schema = sections[schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        yield where, Described(schema.get("description", ""), _bounds(schema))
        return
    for name, child in schema["properties"].items():
        yield from _described(child, sections, f"{where}.{name}")


def _bounds(schema: Mapping[str, Any]) -> str:
    """ "a number in [0,1)", "a whole number >= 1", "tensor or global", "2 numbers in (0,1]"."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, map(_bounds, schema["anyOf"]))))
    if "enum" in schema or "const" in schema:
        *others, last = map(str, schema.get("enum", [schema.get("const")]))
        return f"{', '.join(others)} or {last}" if others else last
    kind = schema.get("type")
    if kind == "array":
        return _list_bounds(schema)
    names = {"integer": "a whole number", "number": "a number", "string": "text", "null": "None"}
    names |= {"boolean": "True or False", "object": "a dict"}
    return f"{names.get(str(kind), '')}{_interval(schema)}"


def _list_bounds(schema: Mapping[str, Any]) -> str:
    each = list(dict.fromkeys(map(_bounds, schema.get("prefixItems", [schema.get("items", {})]))))
    inside = ", then ".join(each)
    least, most = schema.get("minItems"), schema.get("maxItems")
    if most is not None and least == most:
        return f"{least} {inside.removeprefix('a ').replace('number', 'numbers', 1)}"
    return f"{least} or more of: {inside}" if least else f"a list of: {inside}"


def _interval(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (low, over) == (None, None) and (high, under) == (None, None):
        return ", not empty" if schema.get("minLength") else ""
    if (high, under) == (None, None):
        return f" >= {_number(low)}" if over is None else f" > {_number(over)}"
    if (low, over) == (None, None):
        return f" <= {_number(high)}" if under is None else f" < {_number(under)}"
    left = f"[{_number(low)}" if over is None else f"({_number(over)}"
    return f" in {left},{_number(high)}]" if under is None else f" in {left},{_number(under)})"


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
