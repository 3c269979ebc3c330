"""Tables as text: CSV for files, Markdown for TensorBoard."""

import re
from collections.abc import Sequence

from tlprune.storage.as_csv import as_csv

__all__ = ["Row", "csv_text", "markdown_text", "plain_text"]

Row = Sequence[str | int | float]
"""Cells of a row."""


def plain_text(text: str) -> str:
    r"""Makes one line of encodable text of a name, which may be any file name.

    Example:
        >>> plain_text("a\nb \udcff")
        'a b \\udcff'
    """
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def csv_text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Writes a table as CSV with a header.

    Args:
        columns: Names of the ``C`` columns.
        rows: Rows of ``C`` cells.

    Example:
        >>> print(csv_text(["class", "images"], [["cat, dog", 3]]), end="")
        class,images
        "cat, dog",3
    """
    return as_csv(columns, ([_plain(cell) for cell in row] for row in rows))


def markdown_text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    r"""Writes a table as Markdown, with numbers at the right. Nothing in a name is markup.

    Args:
        columns: Names of the ``C`` columns.
        rows: Rows of ``C`` cells.

    Example:
        >>> print(markdown_text(["class", "share"], [["cat | dog", 12.5]]))
        | class | share |
        |---|---:|
        | cat \| dog | 12.5 |
    """
    numbers = [bool(rows) and not isinstance(cell, str) for cell in (rows[0] if rows else columns)]
    lines = [
        columns,
        *([f"{cell:.6g}" if isinstance(cell, float) else str(_plain(cell)) for cell in row] for row in rows),
    ]
    table = ["| " + " | ".join(re.sub(r"([\\`*_\[\]|])", r"\\\1", cell) for cell in line) + " |" for line in lines]
    return "\n".join([table[0], "|" + "|".join("---:" if number else "---" for number in numbers) + "|", *table[1:]])


def _plain(cell: str | int | float) -> str | int | float:
    return plain_text(cell) if isinstance(cell, str) else cell
