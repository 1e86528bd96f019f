"""The process of one fine-tuning: `python -m sslbench.benchmarks.finetuning DIR`.

Under torchrun, one of its processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sslbench.benchmarks.apart import carry_out
from sslbench.errors import UserError
from sslbench.system.processes import leave


def main(arguments: list[str]) -> int:
    """Trains and evaluates what DIR/plan.json says, or resumes it; the exit code."""

    def work() -> None:
        from sslbench.benchmarks.finetuning.job import train

        if len(arguments) != 1:
            raise UserError("one run directory is expected; give DIR.")
        train(Path(arguments[0]))

    return carry_out(work)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
