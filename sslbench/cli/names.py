"""Names that the command line completes and checks; finding them imports no method."""

from __future__ import annotations

from collections.abc import Callable

from sslbench import plugins
from sslbench.errors import UserError


def methods() -> list[str]:
    """Installed methods."""
    return list(plugins.available(plugins.METHODS))


def tokenizers() -> list[str]:
    """Installed tokenizers."""
    return list(plugins.available(plugins.TOKENIZERS))


def benchmarks() -> list[str]:
    """Installed benchmarks."""
    return list(plugins.available(plugins.BENCHMARKS))


def recipes() -> list[str]:
    """Installed recipes, without the configs of benchmarks."""
    return [name for name in all_configs() if name.partition("/")[0] not in benchmarks()]


def benchmark_configs() -> list[str]:
    """Installed configs of benchmarks, by the names that `evaluate --config` takes."""
    parts = [name.partition("/") for name in all_configs()]
    return [rest for folder, _, rest in parts if folder in benchmarks()]


def all_configs() -> list[str]:
    """Installed configs of every kind."""
    from sslbench.recipes import discovery

    return list(discovery.all_configs())


def layouts() -> list[str]:
    """Layouts of tables."""
    from sslbench.reporting.views import layouts

    return list(layouts())


def suites() -> list[str]:
    """Suites of the benchmarks that can be loaded."""
    names = set[str]()
    for name in benchmarks():
        try:
            names.update(plugins.load(plugins.BENCHMARKS, name).suites)
        except UserError:  # `list` and `doctor` name a broken one
            continue
    return sorted(names)


def completing(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """typer's `autocompletion` for an option that takes one of `names`."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete
