"""Tables as CSV, as every file of tlprune has them."""

import csv
import io
from collections.abc import Iterable, Sequence

__all__ = ["as_csv"]


def as_csv(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Writes a table as CSV, its names of columns first.

    Example:
        >>> as_csv(["class", "images"], [["cat, dog", 3]])
        'class,images\n"cat, dog",3\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
