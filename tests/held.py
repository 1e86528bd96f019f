"""A process that trains no further than a step, so that a kill never comes too late.

`python -m tests.held STEP MODULE ARGUMENTS` runs MODULE as `python -m MODULE ARGUMENTS` does.
However slow the machine, it waits to be killed once the log has the line of step STEP.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Mapping

from sslbench.training.log import RunLog

PATIENCE = 120  # seconds until a process that nobody kills ends by itself


def hold_after(step: int) -> None:
    """From now on whatever this process trains waits after `step`."""
    write = RunLog.write

    def holding(self: RunLog, values: Mapping[str, float]) -> None:
        write(self, values)
        if values["step"] >= step:
            time.sleep(PATIENCE)
            sys.exit(f"nobody killed it after step {step}")

    RunLog.write = holding  # type: ignore[method-assign]


if __name__ == "__main__":
    hold_after(int(sys.argv[1]))
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
