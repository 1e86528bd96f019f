"""Narrow files in the layouts of the papers' releases, to start the published fine-tunings from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.checkpoints.layouts import beit, fresh, head, prefixed, vit
from tests.configs.published_finetunings import Row

# (width, depth, heads, std of fresh weights) under the names of the published sizes
NARROW = {
    f"{family}_{size}": shape
    for family in ("vit", "beit")
    for size, shape in (
        ("small", (16, 2, 2, 0.1)),
        ("base", (24, 2, 3, 0.1)),
        ("large", (32, 3, 4, 0.1)),
    )
}
NAMES = {"ViT-S/16": "small", "ViT-B/16": "base", "ViT-L/16": "large"}
MARK = {"DINO": {"use_bn_in_head": False}, "iBOT": {"pred_ratio": 0.3}}
CODES, LABELS = 19, 7  # of BEiT's tokenizer; classes of the stage before


def size_of(row: Row) -> tuple[int, int, int]:
    """Width, depth and heads."""
    width, depth, heads, _ = NARROW[f"vit_{NAMES[row.arch]}"]
    return width, depth, heads


def write_source(path: Path, name: str, row: Row) -> tuple[str, dict[str, Tensor]]:
    """The source that a config starts from, and the tensors of its network as in the file."""
    if row.method == "Supervised" and not name.endswith("384"):
        return f"random-init:vit_{NAMES[row.arch]}/16@224?seed=1", {}
    content, network = {
        "Supervised": deits,
        "BEiT": beits,
        "DINO": dinos_or_ibots,
        "iBOT": dinos_or_ibots,
    }[row.method](name, row)
    torch.save(content, path)
    return str(path), network


def deits(name: str, row: Row) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """deit/main.py:399-407: a network with its classifier."""
    width, depth, _ = size_of(row)
    network = vit(width, depth) | classifier(width)
    return {"model": network, "epoch": 299}, network


def beits(name: str, row: Row) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Self-supervised with a classifier of codes, or after labels with `fc_norm` and `head`."""
    width, depth, heads = size_of(row)
    after_labels = "second" in name or name.endswith("384")
    positions = "relative" if after_labels else "shared relative"
    if name.startswith("in1k"):
        positions = "absolute"
    scale = positions != "absolute"
    network = beit(width, depth, heads, 14, positions, scale, norm=not after_labels)
    if after_labels:
        del network["mask_token"]
        norm = {f"fc_norm.{part}": (width,) for part in ("weight", "bias")}
        network |= classifier(width) | fresh(norm, 3)
    else:
        network |= fresh({"lm_head.weight": (CODES, width), "lm_head.bias": (CODES,)}, 3)
    return {"model": network}, network


def dinos_or_ibots(name: str, row: Row) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A full checkpoint, or the teacher's backbone alone.

    DINO's backbones are flat files, as that of its ViT-S here, iBOT's lie below "state_dict".
    """
    width, depth, _ = size_of(row)
    student, teacher = ({k: v + shift for k, v in vit(width, depth).items()} for shift in (0.1, 0))
    if row.method == "DINO" and row.arch == "ViT-S/16":
        return teacher, teacher
    if row.arch == "ViT-L/16":
        return {"state_dict": teacher}, teacher
    second = "shared" if row.method == "iBOT" else None
    if row.method == "iBOT":
        student["masked_embed"] = torch.zeros(1, width)
    projection = prefixed(head(width, second=second), "head.")
    networks = [prefixed(n, "backbone.") | projection for n in (student, teacher)]
    content = {
        "student": prefixed(networks[0], "module."),
        "teacher": networks[1],
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small", local_crops_number=1, **MARK[row.method]),
        f"{row.method.lower()}_loss": {"center": torch.zeros(1, 11)},
    }
    return content, teacher | projection


def classifier(width: int) -> dict[str, Tensor]:
    return fresh({"head.weight": (LABELS, width), "head.bias": (LABELS,)}, 4)
