from xml.etree import ElementTree

from matplotlib.figure import Figure

from tlprune.experiments.page.svg import inline_svg


def drawn(name="a", text="plain", label="what it is"):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], color="#0072b2", marker="o")
    axes.plot([1, 0], color="#000000")
    axes.set_title(text)
    return inline_svg(figure, name, label)


def test_colours_are_the_page_s():
    found = drawn()
    assert "stroke: var(--c0072b2, #0072b2)" in found
    assert "currentColor" in found
    assert "#000000" not in found


def test_nothing_is_referred_to_outside():
    found = drawn()
    assert "<metadata" not in found
    assert "<style" not in found
    assert [part for part in found.split('href="')[1:] if not part.startswith("#a-")] == []


def test_the_same_figure_is_the_same_text_and_two_share_no_id():
    assert drawn() == drawn()
    ids = [{part.partition('"')[0] for part in drawn(name).split(' id="')[1:]} for name in "ab"]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_texts_are_escaped():
    found = drawn(text="<script>alert(1)</script>", label='" onload="x')
    assert "<script" not in found
    root = ElementTree.fromstring(found.replace("xlink:href", "href"))  # noqa: S314  ours
    assert root.get("aria-label") == '" onload="x'
    assert root.get("onload") is None
