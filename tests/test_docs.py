"""The documents keep up with the code: every trap answered, every test and file named exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FIDELITY = (ROOT / "docs" / "fidelity.md").read_text()
ROWS = dict(re.findall(r"^\| ([TDHS]\d+) \|(.*)\|$", FIDELITY, re.M))


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)


@pytest.mark.parametrize(("letter", "last"), [("T", 46), ("D", 25)])
def test_every_trap_and_disagreement_is_answered_once(letter, last):
    rows = re.findall(rf"^\| ({letter}\d+) \|", FIDELITY, re.M)
    assert sorted(rows, key=lambda r: int(r[1:])) == [f"{letter}{i}" for i in range(1, last + 1)]


def test_every_trap_names_a_test_or_says_why_none():
    silent = [k for k, row in ROWS.items() if not named_tests(row) and "not here" not in row]
    assert [k for k in silent if k.startswith("T")] == []


@pytest.mark.parametrize("trap", sorted(ROWS))
def test_the_tests_it_names_exist(trap):
    for file, name in named_tests(ROWS[trap]):
        assert (ROOT / file).is_file(), file
        assert not name or f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"
