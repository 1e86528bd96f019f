"""Markdown shows names as they are and lets none of them do anything."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sslbench.reporting.columns import Conventions
from sslbench.reporting.markdown import escape
from sslbench.reporting.rendering import to_markdown
from sslbench.reporting.table import build
from sslbench.reporting.texts import clean
from sslbench.reporting.views import View
from sslbench.system.printing import printable

from .records import record

HOSTILE = [
    "[click](https://evil.example)",
    "![x](https://evil.example/pixel.png)",
    "<script>alert(1)</script>",
    "<https://evil.example>",
    "a|b",
    "line\nbreak\r\n| x |",
    "\x1b[31mred\x1b[0m",
    "`code`",
    "**bold** _it_ ~~gone~~",
    "&lt;b&gt; $x^2$",
    "https://evil.example",
    "www.evil.example",
    "jane@evil.example",
    "\u202egnp.exe",
    "back\\slash\\|",
]


def rows_of(text: str) -> list[list[str]]:
    return [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")
    ]


def test_the_table() -> None:
    results = [record("random-init", 20.0), record("pixels", 15.0, arch="")]
    results += [record("alpha", 50.0 + i, seed=i, recipe_digest="d") for i in range(3)]
    results += [record("alpha", 30.0, setting="1% labels", benchmark="few", recipe_digest="d")]
    lines = to_markdown(build(results, "all", {})).splitlines()
    assert lines[0] == "### shapes, test split (data f1)"
    assert lines[2] == "| method | few 1% labels top-1 | near k=20 top-1 |"
    assert "| alpha | 30.0<sup>[1]</sup> | 51.0 ± 1.0 (n=3) |" in lines
    assert "[1] 1 of this row's 3 seeds.  " in lines
    assert "All models: arch vit_tiny; pretraining data shapes; epochs 10; features cls.  " in lines


@pytest.mark.parametrize("name", HOSTILE)
def test_s3_no_name_does_anything(name: str) -> None:
    runs = [record(name, dataset=name), record("beta", dataset=name, label=name, setting=name)]
    text = to_markdown(build(runs, "all", {}))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", text)
    assert len({len(row) for row in rows_of(text)}) == 1
    assert not re.search(r"://|www\.|jane@", text)  # GitHub makes links of these
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = {c.type for t in tokens for c in t.children or ()}
    kinds = inline | {t.type for t in tokens}
    assert not kinds & {"link_open", "image", "html_block", "code_inline", "em_open", "s_open"}
    html = [c.content for t in tokens for c in t.children or () if c.type == "html_inline"]
    assert all(re.fullmatch(r"</?sup>", tag) for tag in html)


@given(st.text())
def test_s3_escaped_text_reads_as_it_was(name: str) -> None:
    shown = escape(name)
    (token,) = MarkdownIt("commonmark").parseInline(f"x{shown}x")
    assert {c.type for c in token.children or ()} <= {"text", "text_special"}
    assert "".join(c.content for c in token.children or ()) == f"x{clean(name)}x"


def test_s3_long_names_do_not_break_the_table() -> None:
    name = "n" * 100 + "x" * 100
    text = to_markdown(build([record(name), record("beta")], "all", {}))
    assert "nn…xx" in text
    assert max(len(cell) for row in rows_of(text) for cell in row) <= 80


def test_words_with_underscores_stay_readable() -> None:
    assert escape("semi_supervised AP^b_50, 100 %") == "semi_supervised AP^b_50, 100 %"


@pytest.mark.parametrize("name", ["__init__", "x __y__ z", "___a_b___", "m__x_", "a__b__c"])
def test_s3_doubled_underscores_are_no_emphasis(name: str) -> None:
    assert MarkdownIt().renderInline(escape(name)) == name


@pytest.mark.parametrize(
    "name", ["C #", "#", "##", "# x", "-", "- x", "+ x", "1. x", "2) x", "==="]
)
def test_no_line_begins_a_heading_list_or_rule(name: str) -> None:
    known = {"near": Conventions(headings={("k=20", "top-1"): name})}
    view = View(caption=name, notes=(name,))
    text = to_markdown(build([record("alpha")], view, known))
    tokens = MarkdownIt().enable("table").parse(text)
    kinds = [t.type for t in tokens if t.nesting == 1 and t.level == 0]
    assert kinds == ["heading_open", "table_open", "paragraph_open"]
    lines = [t.children for t in tokens if t.type == "inline" and t.children]
    texts = ["".join(t.content for t in line) for line in lines]
    assert texts[0] == name and f"{name} = near k=20 top-1." in texts[-1]
    assert texts[-1].endswith(name)


def test_bytes_that_are_no_utf8_are_shown_as_everywhere() -> None:
    odd = os.fsdecode(b"caf\xe9 \xff")
    assert clean(odd) == r"caf\xe9 \xff" == printable(odd)
