"""Prints sheets as LaTeX tables for papers (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby
from string import ascii_lowercase

from sslbench.reporting.pages import (
    BOX,
    COLUMN,
    Page,
    group_lines,
    heading_lines,
    notes_width,
    pages,
    several_counts,
)
from sslbench.reporting.sheet import NUMBER, Entry, Head, Sheet
from sslbench.reporting.tex import LETTER, UNBROKEN, escape, foreign, width

BLANK = "–"
FLOATS = 12  # before a \clearpage; LaTeX holds 18 floats, and the paper needs some of them


def sheets_to_latex(sheets: Sequence[Sheet]) -> str:
    r"""Return floats to \input: `table` if it fits one of two columns, else `table*`."""
    floats = [page for sheet in sheets for page in pages(sheet)]
    lines = [
        r"% \usepackage{booktabs}",
        "% table* is as wide as both columns of a page, in one column it equals table.",
    ]
    if any(foreign(_all_text(sheet)) for sheet in sheets):
        lines.append("% Some names need XeLaTeX or LuaLaTeX and a font that has their letters.")
    labels = _unique([page.sheet.label for page in floats])
    printed = [_float(page, label) for page, label in zip(floats, labels, strict=True)]
    for index in range(FLOATS, len(printed), FLOATS):
        printed[index] = f"\\clearpage\n{printed[index]}"
    return "\n".join([*lines, *printed]) + "\n"


def _all_text(sheet: Sheet) -> str:
    entries = [entry.text for row in sheet.rows for entry in row]
    heads = [f"{head.group}{head.text}" for head in sheet.heads]
    sentences = [sheet.caption or sheet.title, *sheet.constants, *sheet.legend(), *sheet.notes]
    return "".join([*entries, *heads, *sentences])


def _unique(labels: Sequence[str]) -> list[str]:
    """Return `labels` with a number appended to repeated ones, so that no two are equal."""
    unique: dict[str, None] = {}
    for label in labels:
        numbered = (f"{label}-{number}" for number in count(2))
        name = label if label not in unique else next(n for n in numbered if n not in unique)
        unique[name] = None
    return list(unique)


def _float(page: Page, label: str) -> str:
    sheet = page.sheet
    name = "table" if page.width <= COLUMN else "table*"
    pairs = [_has_spread(head, index, sheet) for index, head in enumerate(sheet.heads)]
    columns = [
        "r@{}l" if p else "r" if h.kind == NUMBER else "l"
        for h, p in zip(sheet.heads, pairs, strict=True)
    ]
    rows = [" & ".join(_cells(page, row, pairs)) + r" \\" for row in sheet.rows]
    lines = [
        *([f"% data: {sheet.identity}"] if sheet.identity else []),
        rf"\begin{{{name}}}[tbp]",
        r"\centering",
        rf"\caption{{{_caption(page)}}}",
        rf"\label{{{label}}}\smallskip",
        rf"\{page.size}\setlength{{\tabcolsep}}{{.4em}}%",
        r"\sbox0{%",
        rf"\begin{{tabular}}{{@{{}}{''.join(columns)}@{{}}}}",
        r"\toprule",
        *_groups(sheet.heads, pairs),
        " & ".join(_head(h, p) for h, p in zip(sheet.heads, pairs, strict=True)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\usebox0",
        *_notes(page),
        rf"\end{{{name}}}",
    ]
    return "\n".join(lines) + "\n"


def _caption(page: Page) -> str:
    sheet = page.sheet
    text = sheet.caption or f"{sheet.title}."
    if page.continued:
        text = f"{text.removesuffix('.')} (continued)."
    elif sheet.constants and not sheet.caption:
        text = f"{text} All models: {'; '.join(sheet.constants)}."
    return escape(text, UNBROKEN)


def _notes(page: Page) -> list[str]:
    """Return the remarks and notes as one paragraph, as wide as the table."""
    sheet = page.sheet
    remarks = sheet.legend()
    if sheet.caption and sheet.constants:
        remarks.insert(0, f"All models: {'; '.join(sheet.constants)}.")
    texts = [escape(text, UNBROKEN) for text in remarks]
    texts += [f"{_marks((i,))}{escape(t, UNBROKEN)}" for i, t in enumerate(sheet.notes, 1)]
    if not texts:
        return []
    minimum = f"{notes_width(page):.4g}em"
    return [
        r"\par\smallskip",
        rf"\dimen0=\wd0 \ifdim\dimen0<{minimum}\relax \dimen0={minimum}\relax\fi",
        r"\begin{minipage}{\dimen0}\scriptsize\raggedright",
        *texts,
        r"\end{minipage}",
    ]


def _has_spread(head: Head, index: int, sheet: Sheet) -> bool:
    """Return whether means and spreads get separate columns, so that both align."""
    return head.kind == NUMBER and any(row[index].spread for row in sheet.rows)


def _groups(heads: Sequence[Head], pairs: Sequence[bool]) -> list[str]:
    """Return the row of group headings above the headings."""
    if not any(head.group for head in heads):
        return []
    cells, rules, start = [], [], 0
    for name, members in groupby(zip(heads, pairs, strict=True), key=lambda item: item[0].group):
        span = sum(2 if pair else 1 for _, pair in members)
        if name:
            text = _stacked(group_lines(name), "c")
            cells.append(rf"\multicolumn{{{span}}}{{c}}{{{text}}}")
            rules.append(rf"\cmidrule(lr){{{start + 1}-{start + span}}}")
        else:
            cells += [""] * span
        start += span
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _head(head: Head, pair: bool) -> str:
    side = "c" if head.kind == NUMBER else "l"
    text = _stacked(heading_lines(head.text), side, _marks(head.notes))
    return rf"\multicolumn{{{2 if pair else 1}}}{{c}}{{{text}}}" if side == "c" else text


def _stacked(lines: Sequence[str], side: str, marks: str = "") -> str:
    """Return lines below each other, the last one with its footnote marks."""
    text = r"\\".join(map(escape, lines)) + marks
    return (
        rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{text}\end{{tabular}}"
        if len(lines) > 1
        else text
    )


def _cells(page: Page, row: Sequence[Entry], pairs: Sequence[bool]) -> list[str]:
    several = several_counts(page.sheet)
    cells = []
    heads = page.sheet.heads
    for head, entry, wide, wraps, pair in zip(
        heads, row, page.widths, page.wrapped, pairs, strict=True
    ):
        letter = max(LETTER, width(entry.text, 1.0) / max(1, len(entry.text)))
        text = escape(entry.text, max(2, int(BOX * wide / letter)) if wraps else 0)
        if head.kind == NUMBER and entry.text.startswith("-"):
            text = f"$-${text[1:]}"  # a minus, not a hyphen
        text = rf"\textbf{{{text}}}" if entry.bold else text
        if wraps:
            inside = rf"\raggedright {text}{_marks(entry.notes)}\strut"
            cells.append(rf"\parbox[t]{{{BOX * wide:.4g}em}}{{{inside}}}")
        elif pair and entry.text == BLANK:
            cells.append(rf"\multicolumn{{2}}{{c}}{{{text}{_marks(entry.notes)}}}")
        elif pair:
            cells.append(f"{text} & {_spread(entry, several)}{_marks(entry.notes)}")
        else:
            cells.append(f"{text}{_marks(entry.notes)}")
    return cells


def _spread(entry: Entry, several: bool) -> str:
    """Return the spread as a subscript, with its number of seeds if `several` occur."""
    seeds = rf"\,({entry.n})" if several else ""
    return rf"$_{{\pm {entry.spread}{seeds}}}$" if entry.spread else ""


def _marks(notes: Sequence[int]) -> str:
    letters = ",".join(_letter(number) for number in notes)
    return rf"\textsuperscript{{{letters}}}" if letters else ""


def _letter(number: int) -> str:
    """Return 1 -> a, 26 -> z, 27 -> aa: a superscript digit would read as a power."""
    repeats, index = divmod(number - 1, len(ascii_lowercase))
    return ascii_lowercase[index] * (repeats + 1)
