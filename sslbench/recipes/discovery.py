"""Finds the configs of all installed packages, and names that more than one package claims."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from sslbench import plugins
from sslbench.errors import UserError


@dataclass(frozen=True)
class Found:
    """A config's file and the entry point of its package."""

    path: Path
    entry: EntryPoint


def all_configs() -> dict[str, Path]:
    """name ("shapes/dino") -> file of every config, the first where several packages have one.

    Files and folders whose names start with an underscore are bases, no configs.
    """
    return {name: found[0].path for name, found in _sources().items()}


def check_unclaimed(name: str) -> None:
    """Raises UserError where two packages claim the config `name`."""
    if fault := config_faults().get(name):
        raise UserError(fault)


def config_faults() -> dict[str, str]:
    """What is wrong -> the sentence: a config's name, or "configs of PACKAGE" for all of them."""
    faults = {f"configs of {plugins.package_of(e)}": said for e, said in _folders()[1].items()}
    benchmarks = plugins.registered(plugins.BENCHMARKS)
    for name, found in _sources().items():
        folder = name.partition("/")[0] if "/" in name else ""
        owners = benchmarks.get(folder, [])
        strangers = [
            f.entry
            for f in found
            if owners and plugins.package_of(f.entry) not in map(plugins.package_of, owners)
        ]
        if len(found) > 1:
            faults[name] = (
                f"the config {name!r} exists more than once, in "
                f"{plugins.claimed_by(f.entry for f in found)}: uninstall one of these packages or "
                "rename the file there."
            )
        elif strangers:
            faults[name] = (
                f"the config folder {folder!r} of {plugins.claimed_by(strangers)} is called like "
                f"the benchmark {folder!r} of {plugins.claimed_by(owners)}: rename one of them."
            )
    return faults


def _sources() -> dict[str, list[Found]]:
    """name -> the different files called so, in the order in which Python finds the packages."""
    sources: dict[str, list[Found]] = {}
    for folder, entry in _folders()[0]:
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder)
            if any(part.startswith("_") for part in relative.parts):
                continue
            same = sources.setdefault(relative.with_suffix("").as_posix(), [])
            if not same or path.resolve() not in [other.path.resolve() for other in same]:
                same.append(Found(path, entry))
    return sources


def _folders() -> tuple[list[tuple[Path, EntryPoint]], dict[EntryPoint, str]]:
    """The folders in the entry-point group `sslbench.configs`, and why others are not there."""
    folders, faults = [], {}
    for entries in plugins.registered(plugins.CONFIGS).values():
        for entry in entries:
            try:
                spec = find_spec(entry.value)
            except Exception as error:  # imports the parents, which are other people's code
                faults[entry] = (
                    f"the configs of {plugins.claimed_by([entry])} cannot be found, "
                    f"{type(error).__name__}: {error}; repair or uninstall its package."
                )
                continue
            places = spec.submodule_search_locations if spec else None
            folders += [(Path(place), entry) for place in places or ()]
    return folders, faults
