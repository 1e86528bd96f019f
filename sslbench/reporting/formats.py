"""Prints a Table as Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby, zip_longest

from sslbench.reporting.table import Cell, Header, RowKey, Section, Table

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # `\\` and a line that begins with [ or * would be one command
    "*": "{*}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}

INDEXED = re.compile(r"\^([A-Za-z0-9])(?:_([A-Za-z0-9]+))?")  # AP^b, AP^m_75


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown, one heading and one table a section."""
    return "\n".join(_markdown_section(s) for s in table.sections)


def to_latex(table: Table) -> str:
    r"""`table` environments to \input into a paper that uses booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex_section(s) for s in table.sections)


def to_csv(table: Table) -> str:
    """One line a cell, for programs: unrounded mean and std, n seeds (0 where none), footnotes."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    column = ("benchmark", "setting", "metric", "mean", "std", "n", "best", "notes")
    writer.writerow(("dataset", "split", "fingerprint", *RowKey._fields, *column))
    for s in table.sections:
        for row in s.rows:
            for (key, header), cell in zip(s.columns, row.cells, strict=True):
                notes = " ".join(s.notes[i - 1] for i in (*header.notes, *cell.notes))
                value = (cell.mean, cell.std, cell.n, int(cell.bold), notes)
                source = s.source(key.benchmark)
                where = (source.dataset, s.split, source.fingerprint)
                writer.writerow((*where, *row.key, *key, *value))
    return file.getvalue()


def _markdown_section(s: Section) -> str:
    head = [_markdown(h, h.text) for h in s.labels]
    head += [_markdown(h, f"{h.group} {h.text}") for _, h in s.columns]
    align = ["---"] * len(s.labels) + ["---:"] * len(s.columns)
    body = [
        [*map(escape_markdown, row.labels), *(_markdown(c, c.text) for c in row.cells)]
        for row in s.rows
    ]
    lines = [f"### {escape_markdown(_title(s))}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, align, *body)]
    lines += ["", *(f"{escape_markdown(r)}  " for r in s.remarks)]
    lines += [f"[{i}] {escape_markdown(note)}  " for i, note in enumerate(s.notes, start=1)]
    return "\n".join(lines) + "\n"


def _markdown(item: Header | Cell, text: str) -> str:
    text = escape_markdown(text)
    text = f"**{text}**" if isinstance(item, Cell) and item.bold else text
    return text + "".join(f"<sup>[{i}]</sup>" for i in item.notes)


def escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", " ".join(text.split()))


def _latex_section(s: Section) -> str:
    groups = [(name, len(list(g))) for name, g in groupby(s.columns, key=lambda c: c[1].group)]
    top, rules, at = ["" for _ in s.labels], [], len(s.labels)
    for name, width in groups:
        top.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{at + 1}-{at + width}}}")
        at += width
    head = [_latex(h) for h in (*s.labels, *(h for _, h in s.columns))]
    body = [[*map(escape_latex, row.labels), *map(_latex, row.cells)] for row in s.rows]
    remarks = [escape_latex(r) for r in s.remarks]
    remarks += [rf"\textsuperscript{{[{i}]}} {escape_latex(t)}" for i, t in enumerate(s.notes, 1)]
    inside = [
        " & ".join(top) + r" \\",
        " ".join(rules),
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
    ]
    columns = "l" * len(s.labels) + "r" * len(s.columns)
    return latex_table(escape_latex(_title(s)), columns, inside, remarks)


def latex_table(caption: str, columns: str, inside: Iterable[str], remarks: Iterable[str]) -> str:
    """A booktabs table around lines of LaTeX; all text is escaped already."""
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *inside,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize\raggedright",
        *(rf"{text}\par" for text in remarks),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex(item: Header | Cell) -> str:
    text = escape_latex(item.text)
    text = rf"\textbf{{{text}}}" if isinstance(item, Cell) and item.bold else text
    return text + "".join(rf"\textsuperscript{{[{i}]}}" for i in item.notes)


def escape_latex(text: str) -> str:
    """ASCII that compiles under any engine; AP^b and AP^b_50 keep their indices."""
    parts = INDEXED.split(" ".join(text.split()))  # plain, ^, _, plain, ^, _, plain, ...
    plain = ["".join(map(_latex_character, part)) for part in parts[::3]]
    indices = [
        f"$^{{{above}}}_{{{below}}}$" if below else f"$^{{{above}}}$"
        for above, below in zip(parts[1::3], parts[2::3], strict=True)
    ]
    return "".join(a + b for a, b in zip_longest(plain, indices, fillvalue=""))


def _latex_character(c: str) -> str:
    if c in LATEX_SPECIAL:
        return LATEX_SPECIAL[c]
    plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
    return plain if plain.isalnum() or (plain == c and c.isprintable()) else "?"


def _title(s: Section) -> str:
    names = " + ".join(source.dataset for source in s.sources)
    prints = " + ".join(source.fingerprint[:12] for source in s.sources)
    return f"{names}, {s.split} split (data {prints})"
