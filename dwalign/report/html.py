"""HTML as a tree: text stays text, whatever characters it holds, for nothing is ever pasted into markup."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from dwalign.report.style import STYLE

Element = ElementTree.Element
# a browser loads and runs nothing for a page, whatever came into it
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# characters that XML cannot hold
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# longer cells are sentences, which may be broken
SENTENCE = 28


def element(tag: str, /, *children: "Element | str | None", **attributes: str) -> Element:
    """An element with children in order, of which None are left out; `class_="lead"` is the attribute `class`.

    >>> ElementTree.tostring(element("p", "1 < 2", element("b", "&"), class_="lead"), "unicode", method="html")
    '<p class="lead">1 &lt; 2<b>&amp;</b></p>'
    """
    made = Element(tag, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})
    last = None
    for child in children:
        if isinstance(child, str):
            if last is None:
                made.text = (made.text or "") + child
            else:
                last.tail = (last.tail or "") + child
        elif child is not None:
            made.append(child)
            last = child
    return made


def table(rows: Sequence[Sequence[Any]], caption: str | None = None) -> Element:
    """Cells are text or elements, those of the first row and column headers; wider than the window it scrolls alone."""
    head, *body = rows
    first = element("tr", *(element("th", cell, scope="col") for cell in head))
    lines = (
        element("tr", element("th", line[0], scope="row", **_breaks(line[0])), *(_cell(cell) for cell in line[1:]))
        for line in body
    )
    made = element("table", element("thead", first), element("tbody", *lines))
    above = None if caption is None else element("figcaption", caption)
    # not its own caption, which would scroll away with it
    return element("figure", above, _scrolling(made, caption or ", ".join(map(str, head))))


def figure(draw: Callable[[io.BytesIO], None], alt: str, caption: str | None = None) -> Element:
    """What `draw` draws into a stream as SVG, part of the page; `alt` says what it shows to those who do not see it."""
    stream = io.BytesIO()
    draw(stream)
    drawing = ElementTree.fromstring(CONTROLS.sub("", stream.getvalue().decode()))
    for part in drawing.iter():
        # a page knows the names of SVG without their namespaces
        part.tag = part.tag.rpartition("}")[2]
        for key in [key for key in part.attrib if "}" in key]:
            part.set(key.rpartition("}")[2], part.attrib.pop(key))
    points = float(drawing.get("width", "0pt").removesuffix("pt"))
    # smaller than two thirds its letters are hard to read, so that it scrolls instead
    drawing.set("style", f"width: {points * 4 / 3:.0f}px; min-width: {points * 8 / 9:.0f}px")
    for size in ("width", "height"):
        drawing.attrib.pop(size, None)
    drawing.set("role", "img")
    drawing.set("aria-label", alt)
    under = None if caption is None else element("figcaption", caption)
    return element("figure", _scrolling(drawing, alt), under)


def section(heading: str, *children: Element | str | None) -> Element:
    """A part of a page under its heading."""
    return element("section", element("h2", heading), *children)


def document(title: str, *children: Element) -> str:
    """A whole page, with style and figures in it."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", STYLE),
    )
    made = element("html", head, element("body", element("main", *children)), lang="en")
    for number, drawing in enumerate(made.iter("svg"), 1):
        _own_ids(drawing, f"figure{number}")
    return "<!doctype html>\n" + ElementTree.tostring(made, "unicode", method="html") + "\n"


def _own_ids(drawing: Element, prefix: str) -> None:
    """Names that no other drawing of the page has, and references to them."""
    for part in drawing.iter():
        for key, value in part.items():
            if key == "id":
                part.set(key, f"{prefix}-{value}")
            elif key == "href" or "url(#" in value:
                part.set(key, re.sub(r"(^|url\()#", rf"\g<1>#{prefix}-", value))


def _scrolling(wide: Element, label: str) -> Element:
    # keys scroll only what they can reach
    return element("div", wide, class_="wide", tabindex="0", role="region", aria_label=label)


def _cell(cell: str | Element) -> Element:
    return element("td", cell, **_breaks(cell))


def _breaks(cell: str | Element) -> dict[str, str]:
    return {"class": "sentence"} if isinstance(cell, str) and len(cell) > SENTENCE else {}
