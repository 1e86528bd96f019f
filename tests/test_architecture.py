"""The house's rules: who may import whom, what the engine may know, how large a file may be."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sslbench import plugins

ROOT = Path(__file__).parents[1]
WINGS = ("methods", "benchmarks", "configs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {  # distribution -> module, where they differ
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmdetection": "mmdet",
    "onedl-mmsegmentation": "mmseg",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
NOT_IMPORTED = {  # distribution -> why it is declared all the same
    "tensorboard": "mmengine's default tracker needs it",
    "pycocotools": "mmdet reads COCO with it",
    "wandb": "mmengine's tracker of this name imports it",
    "mlflow": "mmengine's tracker of this name imports it",
    "pyarrow": "pandas writes .parquet with it",
}
FIELDS = ("id", "attr", "arg", "name", "asname", "module")  # of an ast node: identifiers
METHODS = frozenset(PROJECT["entry-points"]["sslbench.methods"])
# The rooms of the engine from the ground up: each may use those above it in this list.
FLOORS = (
    ("errors",),
    ("plugins", "settings", "system"),
    ("backbones", "storage"),
    ("method", "result", "tokenizer"),
    ("data", "recipes"),
    ("checkpoints",),
    ("benchmark", "reporting", "training"),
    ("evaluation",),
    ("api",),
    ("cli", "testing"),
)
ROOMS = {
    p.stem
    for p in (ROOT / "sslbench").iterdir()
    if p.suffix == ".py" or (p / "__init__.py").is_file()
}
ROOMS -= {"__init__"}
# Files of the wings that use more of the engine than packages outside may -> the rooms they use.
BEYOND = {
    "benchmarks/apart.py": {"storage", "system", "training"},
    "benchmarks/finetune.py": {"data"},
    "benchmarks/finetuning/": {
        "backbones",
        "checkpoints",
        "data",
        "evaluation",
        "plugins",
        "recipes",
        "storage",
        "system",
        "training",
    },
    "benchmarks/augmented.py": {"data"},
    "benchmarks/dense/": {
        "backbones",
        "data",
        "plugins",
        "recipes",
        "storage",
        "system",
        "training",
    },
    "benchmarks/courses.py": {"data", "evaluation"},
    "benchmarks/kmeans.py": {"system", "training"},
    "benchmarks/linear.py": {"checkpoints", "storage", "system"},
    "benchmarks/linear_layers.py": {"evaluation"},
    "benchmarks/linear_online.py": {"evaluation"},
    "benchmarks/logistic.py": {"system"},
    "benchmarks/neighbours.py": {"system", "training"},
    "benchmarks/online.py": {"data", "evaluation", "storage"},
    "benchmarks/selection.py": {"data"},
    "benchmarks/semi_supervised.py": {"data"},
    "benchmarks/taps.py": {"plugins"},
    "methods/beit.py": {"backbones"},
    "methods/heads.py": {"system"},
    "methods/mixing.py": {"data"},
    "methods/supervised.py": {"data"},
    "methods/tokenizers/dalle.py": {"checkpoints", "storage"},
}
FACE = ""  # sslbench itself: its version for all, its API for nobody inside


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


def room_of(module: str) -> str:
    """ "sslbench.data.views.Views" -> "data", FACE for what is sslbench's own."""
    rest = module.removeprefix("sslbench").removeprefix(".").partition(".")[0]
    return rest if rest in ROOMS else FACE


def arrows() -> dict[str, dict[str, str]]:
    """room -> the rooms that it imports, at any time and for types too -> a file that does."""
    drawn: dict[str, dict[str, str]] = {}
    for path in sources("sslbench"):
        module = module_of(path)
        for other in imported(path.read_text(), module):
            if other.partition(".")[0] == "sslbench" and room_of(other) != room_of(module):
                drawn.setdefault(room_of(module), {}).setdefault(room_of(other), str(path))
    return drawn


def test_no_arrow_of_the_import_graph_runs_upwards_or_in_a_circle() -> None:
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    upward = [
        f"{room} -> {other}: {path}"
        for room, others in arrows().items()
        for other, path in others.items()
        if FACE not in (room, other) and floor[other] >= floor[room]
    ]
    assert not upward, "move what both need to a lower floor"


def beyond_public(source: str, module: str) -> set[str]:
    """What `source` imports from the engine that packages outside may not."""
    engine = {m for m in imported(source, module) if m.startswith("sslbench") and not wing_of(m)}
    return {m for m in engine if not any(f"{m}.".startswith(f"{p}.") for p in plugins.PUBLIC)}


def test_packages_made_from_the_templates_import_public_modules_only() -> None:
    templates = sorted((ROOT / "sslbench" / "cli" / "templates").rglob("*.py.txt"))
    assert templates
    assert not {m for path in templates for m in beyond_public(path.read_text(), "package.module")}


@pytest.mark.parametrize("path", [*sources("methods"), *sources("benchmarks")], ids=module_of)
def test_a_wing_imports_public_modules_unless_it_is_listed(path: Path) -> None:
    """What comes with the engine changes with it, and may use more, but each use is known."""
    found = beyond_public(path.read_text(), module_of(path))
    place = path.relative_to(ROOT).as_posix()
    listed = next((rooms for start, rooms in BEYOND.items() if place.startswith(start)), set())
    assert {m.split(".")[1] for m in found} <= listed


def test_the_public_modules_exist_and_are_documented() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    assert re.findall(r"^\| `(sslbench[\w.]+)` \|", text, re.M) == list(plugins.PUBLIC)
    places = [ROOT / Path(*module.split(".")) for module in plugins.PUBLIC]
    assert all(p.with_suffix(".py").is_file() or (p / "__init__.py").is_file() for p in places)


def test_every_room_stands_on_one_floor() -> None:
    assert sorted(room for floor in FLOORS for room in floor) == sorted(ROOMS)


@pytest.mark.parametrize("top", ["sslbench", "methods", "benchmarks", "configs"])
def test_every_folder_says_what_may_be_in_it(top: str) -> None:
    folders = {path.parent for path in sources(top)}
    silent = [str(f) for f in folders if not ast.get_docstring(ast.parse(read_init(f)))]
    assert not silent, "give its __init__.py a docstring"


def read_init(folder: Path) -> str:
    path = folder / "__init__.py"
    return path.read_text() if path.is_file() else ""


def nameless() -> list[Path]:
    """The engine less the rooms whose architectures and weight files carry papers' names."""
    named = ("backbones", "checkpoints")
    return [p for p in sources("sslbench") if not set(named) & set(p.parts)]


@pytest.mark.parametrize("path", nameless(), ids=module_of)
def test_the_engine_knows_no_method_by_name(path: Path) -> None:
    found = sorted({(line, w) for line, w in words(path.read_text()) if w in METHODS})
    assert not found, f"(line, name): {found}"


def test_no_file_is_over_one_mebibyte() -> None:
    assert not [str(p.relative_to(ROOT)) for p in tracked() if p.stat().st_size > 2**20]


def test_sources_are_short() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in tracked() if p.suffix == ".py"}
    code = {p: n for p, n in lengths.items() if p.relative_to(ROOT).parts[0] != "tests"}
    assert not {str(p): n for p, n in code.items() if n > 350}, "split them"
    assert not {str(p): n for p, n in lengths.items() if n > 500}, "split them"
    assert statistics.median(n for p, n in code.items() if "configs" not in p.parts) <= 120


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


def declared() -> set[str]:
    """The distributions that users install; the extras dev and speed are for tests and tools."""
    extras = [v for k, v in PROJECT["optional-dependencies"].items() if k not in ("dev", "speed")]
    wanted = [*PROJECT["dependencies"], *(w for extra in extras for w in extra)]
    return {re.match(r"[\w.-]+", w).group() for w in wanted}


def test_every_dependency_is_imported_or_says_why_not() -> None:
    modules = {
        module.partition(".")[0]
        for folder in ("sslbench", *WINGS)
        for path in sources(folder)
        for module in imported(path.read_text(), module_of(path))
    }
    unused = {name for name in declared() if IMPORTED_AS.get(name, name) not in modules}
    assert unused == set(NOT_IMPORTED), "drop it, or say why it is needed, or no longer unused"
    assert set(IMPORTED_AS) <= declared()


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
