"""The command `new`: writes a small installable package with a method or a benchmark."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from sslbench import plugins
from sslbench.cli.app import app, say
from sslbench.errors import UserError
from sslbench.storage.files import draft
from sslbench.system.printing import printable

TEMPLATES = files("sslbench.cli") / "templates"
SUFFIX = ".txt"  # of every template, so that no tool takes one for a source file
GROUPS = (plugins.METHODS, plugins.TOKENIZERS, plugins.BENCHMARKS)


@app.command()
def new(
    kind: Annotated[Literal["method", "benchmark"], typer.Argument(help="What to write.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and _.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to create; unset: one called like it, here.")
    ] = None,
) -> None:
    """Write a package with a small method or benchmark that works at once, to change."""
    folder = out or Path(name)
    check_name(name)
    if folder.exists():
        raise UserError(f"{printable(folder)} exists already; choose another --out.")
    with draft(folder) as package:
        write_package(kind, name, package)
        package.replace(folder)
    say(f"written: {folder}; {folder / 'README.md'} says how to install and test it")


def check_name(name: str) -> None:
    """Raises UserError unless `name` can be that of a new package and of its plugin."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{printable(name)!r} cannot be a name; take lower-case letters, digits and _, "
            "starting with a letter, and no word of Python's own."
        )
    for group in GROUPS:
        if name in plugins.available(group):
            raise UserError(
                f"the {plugins.kind_of(group)} {name!r} is installed already; choose another name."
            )
    if importlib.util.find_spec(name):
        raise UserError(f"a Python package {name!r} is installed already; choose another name.")


def write_package(kind: str, name: str, folder: Path) -> None:
    """Writes the templates of `kind` into the new `folder`, NAME and CLASS filled in."""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    root = Path(str(TEMPLATES / kind))
    for template in sorted(root.rglob(f"*{SUFFIX}")):
        relative = template.relative_to(root).as_posix().removesuffix(SUFFIX)
        target = folder / relative.replace("NAME", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = template.read_text(encoding="utf-8")
        filled = text.replace("CLASS", class_name).replace("NAME", name)
        target.write_text(filled, encoding="utf-8")
