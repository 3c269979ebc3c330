"""Tables as text: LaTeX for papers, Markdown for issues."""

import re
from collections.abc import Iterable, Sequence

from tlprune.experiments.page.tables import Cell, Number, Table

__all__ = ["latex_tables", "latex_text", "markdown_tables", "markdown_text"]

_ESCAPED = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%"}
_ESCAPED |= {
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the beginning of a row, this and a star would belong to the command before it
    "*": "{*}",
}

_LINKED = re.compile(r"#(?=\d)|@(?=\w)|:(?=//|[\w+-]+:)|\bwww(?=\.)|\bGH(?=-\d)", re.IGNORECASE)
"""What a link or a picture begins with on GitHub and GitLab: issues, people, addresses, emoji."""


def latex_tables(tables: Sequence[Table]) -> str:
    """Writes tables for the package booktabs."""
    return "% needs \\usepackage{booktabs}\n\n" + "\n".join(map(_latex, tables))


def markdown_tables(tables: Sequence[Table]) -> str:
    """Writes tables as GitHub and most other sites read them, each under its caption."""
    return "\n".join(map(_markdown, tables))


def latex_text(text: str) -> str:
    """A name as LaTeX prints it: nothing in it is a command, and it stays on one line."""
    plain = "".join(_ESCAPED.get(letter, letter) for letter in _on_one_line(text))
    return re.sub("-(?=-)", "-{}", plain)  # two hyphens are a dash


def markdown_text(text: str) -> str:
    """A name as Markdown shows it: nothing in it is markup, and it stays on one line and in its cell.

    Sites make links of ``#1``, ``@name`` and addresses, and pictures of ``:name:``, after escapes are gone; an empty
    comment inside, which nobody sees, keeps them from it.
    """
    cut = _LINKED.sub(lambda found: found[0] + "\0", _on_one_line(text))
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", cut).replace("\0", "<!-- -->")


def _on_one_line(text: str) -> str:
    plain = text.encode(errors="backslashreplace").decode()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())


def _latex(table: Table) -> str:
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.caption)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(latex_text, table.headings))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(map(_latex_cell, row))} \\\\" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(map(_latex_cell, cell))
    if isinstance(cell, Number):
        return "$" + cell.replace(" ± ", r" \pm ").replace(" [", r"\,[").replace(" %", r"\,\%") + "$"
    return "--" if cell == "-" else latex_text(cell)


def _markdown(table: Table) -> str:
    lines = [
        markdown_text(table.caption),
        "",
        _line(map(markdown_text, table.headings)),
        _line(["---", *["---:"] * (len(table.headings) - 1)]),
        *(_line(map(_markdown_cell, row)) for row in table.rows),
        "",
    ]
    return "\n".join(lines)


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(map(_markdown_cell, cell))
    return cell if isinstance(cell, Number) else markdown_text(cell)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
