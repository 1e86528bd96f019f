"""Tells files of weights by their names, and files that cannot hold any by their first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

SAFETENSORS = ".safetensors"
PICKLED = (".pth", ".pt", ".bin", ".pkl", ".ckpt", ".pth.tar")
SUFFIXES = (*PICKLED, SAFETENSORS)
# in folders of Hugging Face: one file, or an index and its shards
INDEX = ".index.json"
MAIN = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin")
             for end in ("", INDEX))  # fmt: skip
ZIP, PICKLE = b"PK", b"\x80"  # how files of torch.save start, the legacy ones with the latter
PAGE = (b"<!", b"<html", b"<head", b"<?xml", b"<error")
WGET = re.compile(
    rb"(--\d{4}-\d\d-\d\d|will not apply hsts|url transformed to https|warning:|saving to:"
    rb"|resolving )"
)


def suffix(path: Path) -> str:
    """Which of `SUFFIXES` a file has, in any case of letters; "" if none."""
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), "")


def stem(path: Path) -> str:
    """The name of a file without its ending: "x" of "x.pth.tar"."""
    ending = suffix(path)
    return path.name[: -len(ending)] if ending else path.stem


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors by its name; all others are pickled."""
    return suffix(path) == SAFETENSORS


def main_file(folder: Path) -> Path | None:
    """The file of weights, or the index of its shards, in a folder; None if there is none."""
    return next((path for name in MAIN if (path := folder / name).is_file()), None)


def is_index(path: Path) -> bool:
    """Whether a file is an index of shards by its name."""
    return path.name.endswith(INDEX)


def not_weights(path: Path) -> str | None:
    """What a file is that cannot hold weights, with the remedy; None if it may hold some."""
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    pickled = not is_safetensors(path)
    if not start and pickled:
        return "is empty; download it again"
    if text.startswith(PAGE):
        return "is a web page, not weights: the link is dead or asks to log in; download it anew"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves; run `git lfs pull` where it lies"
    if WGET.match(text):
        return "is a log of wget, not weights; download it again with `wget -O FILE URL`"
    if start.startswith(b"\x1f\x8b"):
        return "is compressed; unpack it with gunzip first"
    if start.startswith(ZIP) and not zipfile.is_zipfile(path):
        return f"ends after {path.stat().st_size:,} bytes, in its middle; download it again"
    if pickled and not start.startswith((ZIP, PICKLE)):
        kind = "a text" if all(9 <= b < 127 for b in start) else "of another kind"
        return f"is no file of torch.save but {kind}; give the .pth file itself"
    return None
