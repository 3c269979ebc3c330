"""A matplotlib figure as inline SVG that takes the page's colours, light or dark."""

import re
from html import escape
from io import StringIO

import matplotlib
from matplotlib.figure import Figure

__all__ = ["inline_svg"]

_ROLES = {"#000000": "currentColor", "#ffffff": "var(--paper)", "#b0b0b0": "var(--rule)", "#cccccc": "var(--rule)"}


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Draws a figure for use inside a page.

    Black becomes the page's text colour and white its paper; other colours become variables such as ``--c0072b2``,
    which a style sheet may set, with themselves as the fallback. Nothing outside the page is referred to, and the same
    figure gives the same text.

    Args:
        figure: What is drawn.
        name: Unlike that of any other figure on the page: ids begin with it. Letters, digits and hyphens.
        label: What a screen reader says.

    Returns:
        An ``svg`` element. Every text in it is escaped.
    """
    text = StringIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: _page_colour(found[0]), drawn)
    head, rest = drawn.split(">", 1)
    [box] = re.findall(r'viewBox="[^"]*"', head)
    opening = f'<svg class="drawn" {box} role="img" aria-label="{escape(label)}"'
    return f"{opening}>{rest}"


def _page_colour(colour: str) -> str:
    return _ROLES.get(colour, f"var(--c{colour[1:]}, {colour})")
