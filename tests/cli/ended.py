"""What a command printed and what it left behind."""

from __future__ import annotations

import re
from pathlib import Path


def assert_one_sentence(ended, pattern: str, code: int = 2) -> None:
    assert ended.code == code, ended.err
    assert re.fullmatch(r"error: [^\n]+\.\n", ended.err), ended.err
    assert re.search(pattern, ended.err), ended.err


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in files(folder)}
