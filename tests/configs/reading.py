"""Configs of mmdet and mmseg, and how they differ from a table of values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mmengine.config import Config

from sslbench.benchmarks.dense import install
from sslbench.recipes.load import benchmark_configs


@cache
def load(benchmark: str, name: str) -> Config:
    """The config as mm's own tools read it; whoever changes it takes a copy."""
    install()
    return Config.fromfile(benchmark_configs(benchmark)[name])


def pick(config: Any, path: str) -> Any:
    """The value at a dotted path ("model.roi_head.bbox_head.0.type"); "absent" if there is none."""
    value = config
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list | tuple) else value[key]
        except (KeyError, IndexError, TypeError):
            return "absent"
    return value


def differences(config: Config, expected: Mapping[str, Any]) -> dict[str, Any]:
    """{path: value found} of everything that is not as expected; sequences compare as lists."""
    return {
        path: found
        for path, value in expected.items()
        if _plain(found := pick(config, path)) != _plain(value)
    }


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
