"""sslbench: pretrain BEiT, DINO and iBOT under equal conditions and evaluate any checkpoint fairly.

    import sslbench

    run = sslbench.pretrain("dino", data="~/photos")        # a recipe or a method
    model = sslbench.load_backbone(run)                     # or "ibot_vits16", "timm:...", a file
    tokens = model(images)                                  # model.transform, model.card
    table = sslbench.features(model, "~/photos")            # table.x (N, D), table.names
    records = sslbench.evaluate([run], data="~/labelled", suite="frozen")
    records.table(), records.to_frame()
    sslbench.load_records("results/mine"), sslbench.open_dataset("~/labelled", "test")

These names are the whole public face; nothing is imported before it is used. What outside methods
and benchmarks build on is listed in docs/plugins.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslbench.api import evaluate, features, pretrain
    from sslbench.checkpoints.load import load_backbone
    from sslbench.data.images import open_dataset
    from sslbench.errors import RunError, UserError
    from sslbench.reporting.records import load_records

__version__ = "0.1.0"
__all__ = [
    "RunError",
    "UserError",
    "evaluate",
    "features",
    "load_backbone",
    "load_records",
    "open_dataset",
    "pretrain",
]
_HOMES = {
    "RunError": "sslbench.errors",
    "UserError": "sslbench.errors",
    "evaluate": "sslbench.api",
    "features": "sslbench.api",
    "load_backbone": "sslbench.checkpoints.load",
    "load_records": "sslbench.reporting.records",
    "open_dataset": "sslbench.data.images",
    "pretrain": "sslbench.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
