"""The command that tells where the time of a training step goes."""

from __future__ import annotations

from typing import Annotated

import typer

from sslbench.cli.app import app, say
from sslbench.cli.train import Config, Data, MethodName, Set
from sslbench.plugins import METHODS
from sslbench.training.options import check_training


@app.command()
def profile(
    method: MethodName = None,
    config: Config = None,
    data: Data = None,
    set_: Set = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 10,
) -> None:
    """Time the training steps of a recipe on its data and take them apart; writes nothing.

    Batch, precision and backbone are settings: --set train.batch_size=8
    --set train.precision=bf16 --set backbone.name=vit_small.
    """
    changes = set_ or []
    check_training(METHODS, method, config, data, None, changes, False, None)
    from sslbench.system.distributed import join_world
    from sslbench.training.profile import measure
    from sslbench.training.runs import choose_recipe

    recipe, remark = choose_recipe(method, config, data, changes)
    with join_world() as world:
        found = measure(recipe, world, steps, METHODS)
    say(*([remark] if remark else []), *found.lines())
