"""The house's rules: who may import whom, what the engine may know, how large a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("methods", "benchmarks", "configs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIELDS = ("id", "attr", "arg", "name", "asname", "module")  # of an ast node: identifiers
METHODS = frozenset(PROJECT["entry-points"]["sslbench.methods"])


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name of a source file; wings stand at the top but are imported below sslbench."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "sslbench" else ("sslbench", *parts))


def imported(source: str, module: str) -> Iterator[str]:
    """Every module that `source`, itself `module`, imports, by statement or by import_module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def wing_of(module: str) -> str | None:
    first = module.removeprefix("sslbench.").split(".")[0]
    return first if first in WINGS else None


def words(source: str) -> Iterator[tuple[int, str]]:
    """(line, word) of what a program can act on: identifiers and string literals.

    Prose may name a method as an example: docstrings, comments, and literals with white space
    (help texts, messages) do not count.
    """
    for node in ast.walk(ast.parse(source)):
        texts = [getattr(node, name, None) for name in FIELDS]
        if isinstance(node, ast.Constant) and not re.search(r"\s", str(node.value)):
            texts.append(node.value)
        for text in texts:
            if isinstance(text, str):
                spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
                both = f"{text} {spaced}".lower()  # iBOT and IbotLoss are both found
                yield from ((getattr(node, "lineno", 0), w) for w in re.findall("[a-z0-9]+", both))


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]


@pytest.mark.parametrize("path", sources("sslbench"), ids=module_of)
def test_the_engine_imports_no_wing(path: Path) -> None:
    found = {m for m in imported(path.read_text(), module_of(path)) if wing_of(m)}
    assert not found, "use the entry points (sslbench.plugins) instead"


@pytest.mark.parametrize("path", [p for w in WINGS for p in sources(w)], ids=module_of)
def test_a_wing_imports_no_other_wing(path: Path) -> None:
    own = wing_of(module_of(path))
    wings = {wing_of(m) for m in imported(path.read_text(), module_of(path))}
    assert wings <= {None, own}, "what two wings share belongs into the engine"


def nameless() -> list[Path]:
    """The engine without backbones/, whose architectures and weight files carry papers' names."""
    return [p for p in sources("sslbench") if p.parent.name != "backbones"]


@pytest.mark.parametrize("path", nameless(), ids=module_of)
def test_the_engine_knows_no_method_by_name(path: Path) -> None:
    found = sorted({(line, w) for line, w in words(path.read_text()) if w in METHODS})
    assert not found, f"(line, name): {found}"


def test_no_file_is_over_one_mebibyte() -> None:
    assert not [str(p.relative_to(ROOT)) for p in tracked() if p.stat().st_size > 2**20]


def test_no_source_is_longer_than_500_lines() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in tracked() if p.suffix == ".py"}
    long = {str(p.relative_to(ROOT)): length for p, length in lengths.items() if length > 500}
    assert not long, "split them; most stay under 300"


def test_a_room_without_torch_is_tested_without_it() -> None:
    """What every test run imports first is quick: the command line and conftest.py."""
    code = "import sys, tests.conftest; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_constraints_are_plain_pins_of_every_dependency() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+-]+", pin) for pin in pins)
    pinned = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["dense"] + extras["dev"]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", w).group()).lower() for w in wanted}
    assert names <= pinned


@pytest.mark.parametrize(
    "source",
    [
        "import sslbench.methods.x",
        "from sslbench import methods",
        "from sslbench.methods.x import X",
        "from ..methods.x import X",
        "from .. import configs",
        "from benchmarks import x",
        "def f():\n    import_module('sslbench.methods.x')",
    ],
)
def test_imports_of_wings_are_seen(source: str) -> None:
    assert any(wing_of(m) for m in imported(source, "sslbench.room.file"))


@pytest.mark.parametrize(
    "source",
    [
        "if name == 'ibot': pass",
        "DINO(3)",
        "x.ibot_loss",
        "class IbotThing: pass",
        "def f(dino=1): pass",
        "f(dino=1)",
        "from x import iBOT",
    ],
)
def test_names_of_methods_are_seen(source: str) -> None:
    assert METHODS & {w for _, w in words(source)}


def test_prose_may_name_a_method() -> None:
    source = '"""As in DINO."""\nf(help="e.g. ibot")  # BEiT\nraise E(f"not {x}, try dino")'
    assert not METHODS & {w for _, w in words(source)}
