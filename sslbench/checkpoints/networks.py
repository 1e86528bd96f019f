"""Chooses the network of a checkpoint: by its place in the file, or by the start of its names.

A full checkpoint holds one dict per network ("teacher", "student"); other files hold two networks
in one flat dict ("teacher_backbone.", "student_backbone."). `?key=` chooses in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslbench.checkpoints import families
from sslbench.checkpoints.families.dinov2 import CHUNK
from sslbench.checkpoints.loaded import shortened
from sslbench.errors import UserError, nearest

# places of a network, the preferred ones first
NETWORKS = ("teacher", "student", "state_dict", "model", "model_state_dict", "module")
EMBEDDING = re.compile(rf"(.*?)(?:{families.EMBEDDING})")
HEAD = rf"head\.({families.HEAD})"
WRAPPER = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
FLAT = "_flat_param"  # how FSDP names flattened parameters


@dataclass(frozen=True)
class Division:
    """What belongs to one backbone among the names of a flat dict.

    root: the prefix of the backbone's names; head: matches the names of its projection head, with
    what follows "head." in group 1; others: the names of another network.
    """

    root: str
    head: re.Pattern[str]
    others: frozenset[str]


def select(
    container: Mapping[str, Any], key: str | None, preferred: str | None, path: Path
) -> tuple[str, dict[str, Any], str | None]:
    """The place of a network in a file, the dict there, and the part of `key` not used yet.

    The place is "" if the file itself is the dict; a key that is no place is for `divide`. Raises
    UserError for a key that is neither a place nor the start of names, and where only the user can
    choose a place.
    """
    places = _places(container)
    order = [k for k in (key, preferred, *NETWORKS) if k in places]
    place = order[0] if order else ""
    chosen = places.get(place, container)
    roots = _roots(chosen)
    if key and key not in places and not _matching(roots, key):
        known = [*places, *(root.rstrip(".") for root in roots if root)]
        hint = nearest(key, known) if known else "it holds one network alone; leave out ?key="
        raise UserError(f"{path} has no {key!r}: {hint}.")
    if not roots and places:
        raise UserError(
            f"{path} holds {shortened(list(map(str, container)))} and no network by a usual name; "
            f"choose one with '{path}?key={next(iter(places))}'."
        )
    if not roots:
        inner = (container[k] for k in NETWORKS if isinstance(container.get(k), Mapping))
        raise _no_backbone(str(path), next(inner, container))
    if strange := [k for k in chosen if not isinstance(k, str)]:
        raise UserError(f"{path} has {strange[0]!r} as a name; save a plain state dict instead.")
    unused = None if key in places else key
    return place, dict(chosen), unused


def divide(names: Iterable[str], source: str, wanted: str | None) -> Division:
    """What belongs to the wanted backbone of a flat dict.

    wanted: the start of its names; unset, the teacher where there are several. A head counts only
    beside the chosen backbone.
    Raises UserError if there is no backbone, or several to choose from.
    """
    names = list(names)
    roots = _roots(names)
    if not roots:
        raise _no_backbone(source, names)
    root = _chosen(roots, source, wanted)
    if len(roots) == 1:
        return Division(root, re.compile(rf"(?:.*\.)?{HEAD}"), frozenset())
    stems = {r: re.sub(r"[^._]*\.$", "", r) for r in roots}  # "teacher_backbone." -> "teacher_"
    if len(set(stems.values())) < len(roots):
        stems = {r: r for r in roots}

    def owner(name: str) -> str:
        """Of the backbones whose stem starts `name`, the one with the longest."""
        mine = [r for r in roots if name.startswith(stems[r])]
        return max(mine, key=lambda r: len(stems[r]), default=root)

    others = frozenset(name for name in names if owner(name) != root)
    return Division(root, re.compile(re.escape(stems[root]) + HEAD), others)


def has_network(container: Mapping[Any, Any]) -> bool:
    """Whether a file holds a backbone that `select` could choose."""
    return bool(_roots(container) or _places(container))


def _places(container: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """The dicts inside that hold a backbone, by their place: "teacher", "net.backbone"."""
    inner = {str(k): v for k, v in container.items() if isinstance(v, Mapping)}
    deeper = {
        f"{k}.{name}": v
        for k, one in inner.items()
        for name, v in one.items()
        if isinstance(v, Mapping)
    }
    return {k: v for k, v in (inner | deeper).items() if _roots(v)}


def _roots(names: Iterable[Any]) -> list[str]:
    """The prefixes of the backbones' names, e.g. ["backbone."]."""
    matches = (EMBEDDING.fullmatch(plain(str(name))) for name in names)
    return sorted({match.group(1) for match in matches if match})


def _matching(roots: Sequence[str], wanted: str) -> list[str]:
    """The root called `wanted`, else those that start with it as a word."""
    exact = [root for root in roots if root.rstrip(".") == wanted]
    return exact or [root for root in roots if root.startswith((f"{wanted}.", f"{wanted}_"))]


def _chosen(roots: Sequence[str], source: str, wanted: str | None) -> str:
    if len(roots) > 1:
        roots = _matching(roots, wanted or "teacher") or roots
    if len(roots) > 1:
        some = next(root for root in roots if root)
        raise UserError(
            f"{source} holds {len(roots)} backbones ({', '.join(roots)}); choose one with "
            f"'{source}?key={some.rstrip('.')}'."
        )
    return roots[0]


def _no_backbone(source: str, names: Iterable[Any]) -> UserError:
    names = [str(name) for name in names]
    lacks = "is there, for it is empty"
    if names:
        lacks = f"by a known name is among its {len(names)} names ({shortened(names)})"
    return UserError(f"{source} holds no ViT, BEiT or Swin: no patch embedding {lacks}.")


def plain(name: str) -> str:
    """A name without training wrappers: "blocks.3.x" of "module.blocks.0.3.x"."""
    return CHUNK.sub(r"\1\2", WRAPPER.sub("", name))


def plain_names(names: Iterable[str], source: str) -> dict[str, str]:
    """Plain name -> the name in the file.

    Raises UserError for flattened parameters and where two names have the same plain name.
    """
    names_by_plain: dict[str, str] = {}
    for name in names:
        if name.rpartition(".")[2].startswith(FLAT):
            raise UserError(
                f"{source} holds {name}, parameters that FSDP flattened for one process; save a "
                "full state dict instead."
            )
        if (other := names_by_plain.setdefault(plain(name), name)) != name:
            raise UserError(
                f"{source} holds both {other} and {name}, one parameter under two names; save one."
            )
    return names_by_plain
