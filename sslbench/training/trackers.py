"""Where a run's curves go besides log.jsonl: TensorBoard, W&B or MLflow, by mmengine's backends."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any, Literal

from sslbench.errors import RunError, UserError
from sslbench.system.printing import printable

Kind = Literal["tensorboard", "wandb", "mlflow"]
PROJECT = "sslbench"  # of W&B, and the experiment of MLflow, where no variable names another
logger = logging.getLogger(__name__)


def check_installed(kind: Kind) -> None:
    """Raise UserError if the library of a tracker is missing."""
    if importlib.util.find_spec(kind) is None:
        raise UserError(
            f"run.tracker={kind} needs the package {kind}, which is not installed: `pip install "
            "'sslbench[trackers]'`, or take run.tracker=tensorboard."
        )


def open_tracker(kind: Kind, folder: Path) -> Any:
    """Return mmengine's backend for the run in `folder`; None if TensorBoard cannot open the name.

    W&B and MLflow read their own environment variables (WANDB_*, MLFLOW_*); without
    MLFLOW_TRACKING_URI, MLflow's database lies in `folder`. Raises RunError if one cannot start.
    """
    from mmengine.config import Config
    from mmengine.visualization import (  # seconds to import
        MLflowVisBackend,
        TensorboardVisBackend,
        WandbVisBackend,
    )

    own = folder.absolute() / kind
    if kind == "tensorboard":
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            logger.warning(
                "%s has a name that TensorBoard cannot open; curves are in log.jsonl.",
                printable(folder.name),
            )
            return None
        return TensorboardVisBackend(save_dir=str(folder / kind))
    if kind == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        tracker: Any = WandbVisBackend(
            str(own),
            {"project": project, "name": folder.name},
            define_metric_cfg=[{"name": "*", "step_metric": "step"}],
        )
    else:
        tracker = MLflowVisBackend(
            str(own),
            exp_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
            run_name=folder.name,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{own / 'mlflow.db'}"),
            artifact_suffix=(),  # uploads no files
            artifact_location=None if "MLFLOW_TRACKING_URI" in os.environ else own.as_uri(),
        )
    try:
        tracker.experiment  # noqa: B018 (starts it)
        if kind == "mlflow":  # its backend cannot be closed without a config
            tracker.add_config(Config({"work_dir": str(folder.absolute())}))
    except Exception as error:  # whatever a foreign library raises for no login, no server
        raise RunError(
            f"{kind} cannot start ({printable(str(error))}): log in or set its environment "
            "variables (WANDB_MODE=offline needs no network), or resume with "
            "--set run.tracker=tensorboard."
        ) from error
    return tracker
