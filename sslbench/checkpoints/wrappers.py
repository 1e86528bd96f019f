"""Plain names of tensors: without what training wrappers put into them, anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sslbench.errors import UserError

WRAPPER = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# DINOv2 trains its blocks in chunks; the second number counts through all of them
# (dinov2/models/vision_transformer.py:159-171)
CHUNK = re.compile(r"((?:^|\.)blocks\.)\d+\.(\d+\.)")
FLAT = "_flat_param"


def plain(name: str) -> str:
    """ "module.blocks.0.3.norm1.weight" as "blocks.3.norm1.weight"."""
    return CHUNK.sub(r"\1\2", WRAPPER.sub("", name))


def plain_names(names: Iterable[str], source: str) -> dict[str, str]:
    """Plain name -> the name in the file.

    Raises UserError where two names are one without their wrappers, and for flattened parameters.
    """
    found: dict[str, str] = {}
    for name in names:
        if name.rpartition(".")[2].startswith(FLAT):
            raise UserError(
                f"{source} holds {name}, parameters that FSDP flattened for one process; save a "
                "full state dict instead."
            )
        if (other := found.setdefault(plain(name), name)) != name:
            raise UserError(
                f"{source} holds both {other} and {name}, one parameter under two names; save one."
            )
    return found
