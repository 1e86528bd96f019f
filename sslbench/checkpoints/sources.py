"""Parses what a user writes to name weights: a label, a place, and what a file does not say.

[LABEL=]PLACE[?key=student&arch=ViT-S/16&as=ibot_vits16&mean=0.5,0.5,0.5&std=0.5,0.5,0.5]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from sslbench.checkpoints.download import releases
from sslbench.errors import UserError, nearest
from sslbench.storage.home import expanded

KNOWN = ("key", "arch", "as", "mean", "std")
UNKNOWN = "unknown"  # ?as=unknown: the file's name is not believed
# of a mean or std of inputs in [0, 1]; larger values are for pixels from 0 to 255
LARGEST, SMALLEST_STD = 10.0, 1e-6
STATISTICS = {
    "mean": f"three finite numbers of at most {LARGEST:g}, for images from 0 to 1",
    "std": f"three finite numbers from {SMALLEST_STD:g} to {LARGEST:g}, for images from 0 to 1",
}
QUERY = re.compile(r"(?<=.)\?(?=\w+=)")  # where options may begin


def named(text: str) -> tuple[str, str]:
    """("mine", "x.pth?key=student") of "mine=x.pth?key=student"; ("", text) without a label.

    A text that exists as a path has no label, nor has one with a character of "/?:~" before its
    "=", which then belongs to a path or an option. Raises UserError for a label without a source
    or with unprintable characters.
    """
    place, _ = _parts(text)
    label, equals, source = text.partition("=")
    path_like = not label or any(c in label for c in "/\\?:~")
    if not equals or path_like or expanded(place).exists():
        return "", text
    if not source or not label.strip() or not label.isprintable():
        raise UserError(f"{text!r} is not of the form NAME=PATH; give a name and a source.")
    return label.strip(), source


def split(text: str) -> tuple[str, dict[str, str]]:
    """A source as place and options, "x.pth?key=student" as "x.pth" and {"key": "student"}.

    Raises UserError for options that are unknown, empty or impossible.
    """
    place, query = _parts(text)
    if not query:
        return text, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(pairs) > len(options):
        raise UserError(f"{text!r} gives one option twice; give each once.")
    if unknown := set(options) - set(KNOWN):
        known = f"{', '.join(KNOWN[:-1])} and {KNOWN[-1]}"
        raise UserError(f"{text!r} has the option {min(unknown)!r}; known are {known}.")
    if empty := [name for name, value in options.items() if not value]:
        raise UserError(f"{text!r} gives {empty[0]} no value; name one or leave it out.")
    if (release := options.get("as", UNKNOWN)) != UNKNOWN and release not in releases():
        hint = nearest(release, releases())
        raise UserError(f"{text!r} names an unknown release {release!r}: {hint}.")
    statistics(options)
    return place, options


def _parts(text: str) -> tuple[str, str]:
    """Place and options: the longest place that exists, else all before the first option."""
    splits = [(text, ""), *((text[: m.start()], text[m.end() :]) for m in QUERY.finditer(text))]
    by_length = sorted(splits, key=lambda parts: -len(parts[0]))
    existing = (parts for parts in by_length if expanded(parts[0]).exists())
    return next(existing, splits[1] if len(splits) > 1 else splits[0])


def statistics(options: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """The mean and the std that the options give, if any; UserError for impossible values."""
    given: dict[str, tuple[float, ...]] = {}
    for name in ("mean", "std"):
        if name not in options:
            continue
        try:
            values = tuple(float(part) for part in options[name].split(","))
        except ValueError:
            values = ()
        if not sound_statistics(name, values):
            raise UserError(
                f"?{name}={options[name]} must be {STATISTICS[name]}, e.g. {name}=0.5,0.5,0.5."
            )
        given[name] = values
    return given


def sound_statistics(name: str, values: tuple[float, ...]) -> bool:
    """Whether numbers can be a mean or a std of inputs in [0, 1], see `STATISTICS`."""
    low = -LARGEST if name == "mean" else SMALLEST_STD
    return len(values) == 3 and all(low <= v <= LARGEST for v in values)
