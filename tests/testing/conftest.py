from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from sslbench import plugins
from tests.testing import broken_benchmarks, broken_methods


@pytest.fixture
def registered(monkeypatch) -> None:
    """Entry points for the classes of `broken_methods` and `broken_benchmarks`."""
    original = plugins.registered
    doubles = {plugins.METHODS: broken_methods, plugins.BENCHMARKS: broken_benchmarks}

    def more(group: str) -> dict[str, list[EntryPoint]]:
        entries, module = original(group), doubles.get(group)
        for name in module.NAMES if module else ():
            entries[name] = [EntryPoint(name, f"{module.__name__}:{name}", group)]
        return entries

    monkeypatch.setattr(plugins, "registered", more)
