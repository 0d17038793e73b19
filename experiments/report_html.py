"""Elements of a page: text is escaped on its way in, tables scroll in a box of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

SHORT = 30  # characters of text that a cell does not break


class Html(str):
    """Markup. Every other string is text, which `tag` escapes."""


def tag(name: str, *inner: str, **attributes: object) -> Html:
    """<name attributes>inner</name>. An attribute that is None is left out, `class_` is `class`,
    and _ in a name is -.

    >>> tag("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    given = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items() if v is not None}
    written = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    if name in ("img", "path", "line"):
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*inner)}</{name}>")


def join(*parts: str) -> Html:
    return Html("".join(p if isinstance(p, Html) else escape(p, quote=False) for p in parts))


def lines(parts: Iterable[Html]) -> Html:
    """Elements, each on a line of the page's text."""
    return Html("\n".join(parts))


def code(text: str) -> Html:
    return tag("code", text)


def box(what: str, *inner: str, class_: str = "box") -> Html:
    """A box that scrolls sideways, by keyboard too; `what` names it."""
    return tag("div", *inner, class_=class_, tabindex=0, role="region", aria_label=what)


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: int,
    unsorted: Sequence[str] = (),
) -> Html:
    """A table whose columns sort, but for those named `unsorted`.

    words  the first columns, which are text; the others are numbers, to the right
    """

    def kind(i: int, text: str, limit: int = SHORT) -> str | None:
        number = "number" if i >= words and head[i] not in unsorted else ""
        long = "long" if not isinstance(text, Html) and len(text) > limit else ""
        return " ".join(filter(None, (number, long))) or None

    top = [
        tag(
            "th",
            each,
            scope="col",
            class_=kind(i, each, 24),
            data_sort=None if each in unsorted else "",
        )
        for i, each in enumerate(head)
    ]
    body = [
        tag("tr", *(tag("td", cell, class_=kind(i, cell)) for i, cell in enumerate(row)))
        for row in rows
    ]
    inner = [tag("thead", tag("tr", *top)), Html("\n"), tag("tbody", lines(body))]
    return box(caption, tag("table", tag("caption", caption), *inner))


def cells(values: Sequence[float | None], percent: bool = False) -> list[str]:
    """A column of numbers with as many digits each; "–" for what was not measured."""
    known = [abs(value) for value in values if value is not None and value == value]
    return _written(values, 1 if percent or max(known, default=0) >= 10 else 3)


def exact(values: Sequence[float | None]) -> list[str]:
    """Like `cells`, with the digits that numbers were given with, four at most."""
    known = [value for value in values if value is not None and value == value]
    digits = next((d for d in range(4) if all(round(v, d) == v for v in known)), 4)
    return _written(values, digits)


def _written(values: Sequence[float | None], digits: int) -> list[str]:
    return ["–" if v is None or v != v else f"{v:.{digits}f}" for v in values]
