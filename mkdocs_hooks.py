"""What 'make docs' adds to the pages in docs/, so that each of them also reads well as a plain file in the repository.

Files beside docs/ that pages link to become part of the site, README.md its first page; help texts come from commands.
In the end no page may ask another host for anything.
"""

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
PAGES = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINKED = (
    "configs/**/*.yaml",
    "benchmarks/results/*.json",
    "notebooks/*.ipynb",
    "examples/**/*.py",
    "LICENSE",
    "CITATION.cff",
)
# as wide as it fits into a page
_COLUMNS = "92"
_ASKED = re.compile(r"<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies beside docs/."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for pattern in LINKED:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Turns links between files of the repository into links between pages, and fills in help texts."""
    if page.file.src_uri in ("index.md", *PAGES):
        markdown = re.sub(r"(\]\()docs/", r"\1", markdown)
    else:
        markdown = re.sub(r"(\]\()\.\./README\.md", r"\1index.md", markdown)
        markdown = re.sub(r"(\]\()\.\./", r"\1", markdown)
    titles = _titles(config.nav or [])
    markdown = re.sub(r"\[(?:docs/)?([\w-]+\.md)\]\(", lambda link: f"[{titles.get(link[1], link[1])}](", markdown)
    markdown = re.sub(r"<!-- every selector -->", lambda _: _selectors(), markdown)
    return re.sub(r"<!-- help of every command -->", lambda _: _help_texts(), markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses pages that would ask another host for something."""
    for page in Path(config.site_dir).rglob("*.html"):
        if found := _ASKED.findall(page.read_text()):
            raise PluginError(f"{page} asks {found[0]}")


def _titles(nav: list[Any]) -> dict[str, str]:
    """What the menu calls each page: a file's name is for those who read the pages as files."""
    found: dict[str, str] = {}
    for entry in nav:
        for title, value in entry.items():
            found |= _titles(value) if isinstance(value, list) else {value: title}
    return found


def _selectors() -> str:
    from tlprune.selection import registry

    classes = [getattr(registry, name) for name in registry.selector_names()]
    return "\n\n".join(f"::: {kind.__module__}.{kind.__name__}" for kind in classes)


def _help_texts() -> str:
    from tlprune.cli import _COMMANDS, main

    os.environ["COLUMNS"] = _COLUMNS
    parts = []
    for name, (_, what) in _COMMANDS.items():
        parts.append(f"## tlprune {name}\n\n{what[0].upper()}{what[1:]}.\n")
        if name in ("validate", "test", "predict"):
            parts.append("Takes what `tlprune fit` takes, and needs `--ckpt_path`.\n")
            continue
        said = io.StringIO()
        with redirect_stdout(said):
            main([name, "--help"])
        parts.append(f"```text\n{said.getvalue().strip()}\n```\n")
    return "\n".join(parts)
