"""The pages keep to the word list and to sentences that can be read, and the navigation is short."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "mkdocs_prose.py"


def check(*pages):
    return subprocess.run([sys.executable, SCRIPT, *pages], capture_output=True, text=True, check=False)


def lines_of(tmp_path, text):
    """What is said of a page, without its path."""
    page = tmp_path / "page.md"
    page.write_text(text)
    ran = check(page)
    assert ran.returncode == (1 if ran.stdout else 0), ran.stderr
    return [line.removeprefix(f"{page}:") for line in ran.stdout.splitlines()]


def test_every_page_passes():
    ran = check()
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout


def test_a_word_of_the_list_is_named_with_its_line_and_the_word_in_its_place(tmp_path):
    text = "# Page\n\nA first line,\nand the embedded\nsource.\n\n- `ballots` in code\n- ballots\n\n| a | anew |\n"
    assert lines_of(tmp_path, text) == [
        "4: 'embedded source': write 'built-in'",
        "8: 'ballots': write 'votes'",
        "10: 'anew': write 'again; new'",
    ]
    assert lines_of(tmp_path, "It votes\nANEW.") == ["2: 'ANEW': write 'again; new'"]


@pytest.mark.parametrize(
    "unread", ["```sh\nanew\n```", "<!-- anew -->", "[a page](anew.md)", "`anew`", "  ```yaml\n  anew: 1\n  ```"]
)
def test_code_comments_and_targets_of_links_are_not_read(tmp_path, unread):
    assert lines_of(tmp_path, f"Before.\n\n{unread}\n\nAfter.\n") == []
    assert lines_of(tmp_path, f"Before.\n\n{unread}\n\nAnew.\n") != []


def test_a_sentence_has_at_most_40_words(tmp_path):
    words = [f"w{number}" for number in range(1, 41)]
    assert lines_of(tmp_path, f"Short one. {' '.join(words)}.\nNext one.") == []
    assert lines_of(tmp_path, f"- {' '.join(words[:20])}\n  {' '.join(words[20:])}\n- {' '.join(words)}") == []
    [line] = lines_of(tmp_path, f"Short one.\n{' '.join(words)}\none. Next.")
    assert line.startswith("2: a sentence of 41 words, 40 at most: w1 w2")
    assert lines_of(tmp_path, f"| {' '.join(words)} more |") == []  # a cell is no sentence


def pages(entries):
    for entry in entries:
        for value in entry.values():
            yield from pages(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page_once_and_at_most_25():
    text = (ROOT / "mkdocs.yml").read_text()
    navigation = yaml.safe_load(text)["nav"]
    assert [group for entry in navigation for group in entry] == [
        "Home",
        "Tutorial",
        "How-to",
        "Explanation",
        "Reference",
    ]
    named = list(pages(navigation))
    assert len(named) <= 25
    assert sorted(named) == sorted(["index.md", *(path.name for path in (ROOT / "docs").glob("*.md"))])
