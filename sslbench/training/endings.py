"""How a run ends early, by a signal or a dead data worker, and how it is resumed then."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sslbench import plugins
from sslbench.errors import RunError
from sslbench.storage import layout
from sslbench.system.interrupts import Interrupted
from sslbench.system.processes import is_worker_death
from sslbench.training.run import Run


def how_to_resume(run: Run) -> str:
    group = plugins.group_with(run.method.name)
    if group == plugins.CLASSIFIERS:
        return "repeat the command to resume it"
    command = "tokenizer train" if group == plugins.TOKENIZERS else "pretrain"
    return f"resume it with `sslbench {command} --resume --out {shlex.quote(str(run.out))}`"


@contextmanager
def resumable(run: Run) -> Iterator[None]:
    """Adds how to resume to an Interrupted that was raised before or after the steps."""
    try:
        yield
    except Interrupted as end:
        if not end.message and layout.has_state(run.out):
            end.message = f"the newest checkpoint is kept; {how_to_resume(run)}"
        raise


@contextmanager
def worker_deaths(run: Run) -> Iterator[None]:
    """Turns what torch raises where a data worker died into a RunError of one sentence."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not is_worker_death(error):
            raise
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch raises the same again
        reason = " ".join(str(error).split()).removesuffix(".")
        raise RunError(
            f"a data worker died: {reason} (by hand, or because memory ran out: then lower "
            f"run.workers); the newest checkpoint is kept, {how_to_resume(run)}."
        ) from error
