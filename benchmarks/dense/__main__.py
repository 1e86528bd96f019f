"""mmdet's and mmseg's own tools on detectors that sslbench wrote, and the runs that write them.

    python -m sslbench.benchmarks.dense mmdet test CONFIG CHECKPOINT [the tool's options]
    python -m sslbench.benchmarks.dense mmseg train CONFIG [the tool's options]

or the run directory of one dense benchmark, under torchrun for several processes.

    python -m sslbench.benchmarks.dense run DIR

Run by themselves the tools would import mmcv's compiled operators before they read a config, hence
before the config's custom imports could put the stand-in there.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sslbench.benchmarks.apart import carry_out
from sslbench.benchmarks.dense import install
from sslbench.errors import UserError, nearest
from sslbench.system.processes import leave

TOOLS = ("test", "train")


def run_tool(library: str, arguments: Sequence[str]) -> None:
    """Runs a library's own tool as `python tools/<tool>.py` would; arguments: tool, its own ones.

    UserError for a tool that is none of TOOLS. sys.argv is left as the tool saw it.
    """
    install()
    tool, *rest = arguments or ("",)
    if tool not in TOOLS:
        raise UserError(f"unknown tool {tool!r} of {library}: {nearest(tool, TOOLS)}.")
    spec = find_spec(library)
    assert spec and spec.origin  # install() has looked
    script = Path(spec.origin).parent / ".mim" / "tools" / f"{tool}.py"
    if not script.is_file():
        raise UserError(f"{library} has no {script}: reinstall it with `make setup`.")
    sys.argv = [str(script), *rest]
    runpy.run_path(str(script), run_name="__main__")


def run_folder(arguments: Sequence[str]) -> None:
    """Trains, exports and tests what a run directory's config.py says, or resumes it."""
    install()
    from sslbench.benchmarks.dense.runner import run

    if len(arguments) != 1:
        raise UserError("`run` takes one run directory; give DIR.")
    run(Path(arguments[0]))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "run": run_folder,
    "mmdet": partial(run_tool, "mmdet"),
    "mmseg": partial(run_tool, "mmseg"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code is that of `carry_out`."""
    name, *rest = arguments or ("",)

    def command() -> None:
        if name not in COMMANDS:
            raise UserError(f"unknown command {name!r}: {nearest(name, COMMANDS)}.")
        COMMANDS[name](rest)

    return carry_out(command)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
