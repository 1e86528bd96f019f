"""What the kits share: how a broken promise is reported, and what every plugin promises."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sslbench import plugins
from sslbench.errors import UserError


class BrokenPromise(AssertionError):
    """A promise of the contract that does not hold: one sentence that names it."""


def promise(holds: object, sentence: str) -> None:
    """Raises BrokenPromise with `sentence` unless `holds`."""
    if not holds:
        raise BrokenPromise(sentence)


@contextmanager
def promised(sentence: str) -> Iterator[None]:
    """Whatever the plugin's code raises inside breaks the promise `sentence`."""
    try:
        yield
    except BrokenPromise:
        raise
    except Exception as error:  # other people's code may break in any way
        raise BrokenPromise(f"{sentence}, but {type(error).__name__}: {error}") from error


def check_registered(plugin: type, group: str) -> None:
    """The class is what the entry point of its name loads."""
    kind, name = plugins.kind_of(group), getattr(plugin, "name", None)
    promise(isinstance(plugin, type), f"a {kind} is a class, not {plugin!r}")
    promise(
        isinstance(name, str) and name,
        f"a {kind} has a `name`, a text that is not empty; {plugin.__name__} has {name!r}",
    )
    try:
        loaded = plugins.load(group, str(name))
    except UserError as error:
        raise BrokenPromise(
            f"a {kind} has an entry point of its name in the group {group}, but {error}"
        ) from error
    promise(
        loaded is plugin,
        f"the entry point {name!r} of the group {group} loads the class itself, "
        f"not {loaded.__module__}.{loaded.__qualname__}",
    )


def check_frozen(section: Any, what: str) -> None:
    """`section` is a frozen dataclass, all of whose fields have defaults."""
    parameters = getattr(section, "__dataclass_params__", None)
    promise(getattr(parameters, "frozen", False), f"{what} is a frozen dataclass")
    for field in dataclasses.fields(section):
        promise(
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING,
            f"every field of {what} has a default; {field.name!r} has none",
        )


def plain(value: Any) -> Any:
    """`value` after a round trip through JSON."""
    return json.loads(json.dumps(value, allow_nan=False))
