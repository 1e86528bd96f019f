"""The place of each setting in a config and its bases; files are read, not run."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sslbench.recipes.discovery import all_configs

BASE, DELETE = "_base_", "_delete_"  # mmengine's keys: files to start from; drop their settings


@dataclass(frozen=True)
class Place:
    """A line of a file, and the comment at its end."""

    path: Path
    line: int
    comment: str


def origins(path: Path) -> dict[str, str]:
    """Dotted key -> "papers/_dino.py:7 [C]" for what is written out in a config or its bases.

    The last file that sets a key counts, with the comment on its line. What a config computes in
    another way than `section = dict(key=value)` is not found.
    """
    places = _places(path)
    names = {file: _short(file) for file in {place.path for place in places.values()}}
    return {key: f"{names[p.path]}:{p.line}{p.comment}" for key, p in places.items()}


def set_by_user(config: str) -> set[str]:
    """Dotted keys, or sections, that the user's own files set; a budget leaves these as they are.

    config: a name, which has no such files, or a .py file. What stands in one file with
    budget.images is what that budget replaces, and is left out.
    """
    if not config.endswith(".py"):
        return set()
    places = _places(Path(config))
    own = {p for p in {place.path for place in places.values()} if _installed(p) is None}
    if budget := places.get("budget.images"):
        own.discard(budget.path)
    return {key for key, place in places.items() if place.path in own}


def _places(path: Path) -> dict[str, Place]:
    text = path.read_text(encoding="utf-8")
    inherited: dict[str, Place] = {}
    lines: dict[str, int] = {}
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name == BASE:
            texts = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
            for base in [path.parent / str(text) for text in texts]:
                inherited |= _places(base) if base.suffix == ".py" and base.is_file() else {}
        else:
            lines |= dict(_leaves(name, node.value))
    for section in [key.removesuffix(f".{DELETE}") for key in lines if key.endswith(f".{DELETE}")]:
        inherited = {k: v for k, v in inherited.items() if not k.startswith(f"{section}.")}
    comments = _comments(text)
    places = {key: Place(path, line, comments.get(line, "")) for key, line in lines.items()}
    return inherited | places


def _leaves(key: str, value: ast.expr) -> Iterator[tuple[str, int]]:
    """(dotted key, line of its value) of nested `dict(...)` and `{...}`."""
    inside: list[tuple[str, ast.expr]] = []
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "dict" and not value.args:
        inside = [(k.arg, k.value) for k in value.keywords if k.arg]
    elif isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        inside = [(str(k.value), v) for k, v in pairs if isinstance(k, ast.Constant)]
    else:
        yield key, value.end_lineno or value.lineno
    for name, child in inside:
        yield from _leaves(f"{key}.{name}", child)


def _comments(text: str) -> dict[int, str]:
    """Line -> the comment at its end, " [C] [P]"."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: f" {t.string.lstrip('# ')}" for t in tokens if t.type == tokenize.COMMENT}


def _short(path: Path) -> str:
    """The path below its folder of configs; for other files, the path as it is."""
    if (installed := _installed(path)) is not None:
        return installed
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _installed(path: Path) -> str | None:
    """The path of a package's config, or of a base of one, below its folder; None for others."""
    path = path.resolve()
    for name, config in all_configs().items():
        root = config.resolve().parents[name.count("/")]
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None
