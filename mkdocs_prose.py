"""Holds the prose of the pages to a word list and to sentences of a readable length; 'make docs' runs it.

    python mkdocs_prose.py [PAGE ...]

Prints ``FILE:LINE: what is wrong`` for each violation and exits with 1 if there is one. Rules are in mkdocs_words.txt.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").glob("*.md"))
LONGEST = 40

# read as a space: HTML comments, code, targets of links, pictures
_UNREAD = re.compile(r"<!--.*?-->|`[^`]*`|(?<=\])\([^)]*\)|<[^>]+>")
# what begins a paragraph of its own
_OPENS = re.compile(r"\s*([-*+] |\d+\. |#|\||>|!\[|:::|---|$)")
_SENTENCE_END = re.compile(r"\n\n|[.!?][)*\"]*\s+|[:;]\s+(?=[\"(*]*[A-Z])")


@cache
def rules() -> list[tuple[re.Pattern[str], str]]:
    """Returns what is not written, and what is written in its place."""
    lines = (ROOT / "mkdocs_words.txt").read_text().splitlines()
    pairs = [line.split(" -> ") for line in lines if line.strip() and not line.startswith("#")]
    return [(re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE), instead) for pattern, instead in pairs]


def problems(text: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the problem of each violation in a page."""
    for first, paragraph in _paragraphs(text):
        for pattern, instead in rules():
            for found in pattern.finditer(paragraph):
                line = first + paragraph[: found.start()].count("\n")
                yield line, f"'{' '.join(found[0].split())}': write '{instead}'"
        ends = (
            [] if paragraph.startswith("|") else [found.end() for found in _SENTENCE_END.finditer(paragraph + "\n\n")]
        )
        for start, end in pairwise([0, *ends]):
            words = re.findall(r"\w[\w'-]*", paragraph[start:end])
            if len(words) > LONGEST:
                line = first + paragraph[:start].count("\n")
                yield line, f"a sentence of {len(words)} words, {LONGEST} at most: {' '.join(words[:6])} ..."


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, items and rows of tables, each with the number of its first line; code is left out."""
    inside, first, lines = False, 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        if lines and (fence or inside or _OPENS.match(line)):
            yield first, _UNREAD.sub(lambda found: "X" + "\n" * found[0].count("\n"), "\n".join(lines))
            lines = []
        inside ^= fence
        if not (fence or inside) and line.strip():
            first = first if lines else number
            lines.append(line)


def main(pages: list[Path]) -> int:
    """Prints the violations of the pages and returns the exit status."""
    found = [f"{page}:{line}: {problem}\n" for page in pages for line, problem in problems(page.read_text())]
    sys.stdout.writelines(line.removeprefix(f"{ROOT}/") for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or PAGES))
