"""The parts that the page's sections are made of: cards, tables, lists, code and figures."""

from collections.abc import Sequence

from pipeline.report import figures as plots
from pipeline.report.markup import Safe, element, join


def card(name: str, value: str, note: str, optimizer: str | None = None) -> Safe:
    """A figure that is read first, with what it is."""
    return element(
        "div",
        element("dt", name),
        element("dd", swatch(optimizer) if optimizer else Safe(""), value),
        element("dd", note, class_="note") if note else Safe(""),
    )


def swatch(optimizer: str) -> Safe:
    """A dot in the optimizer's colour."""
    color, _ = plots.optimizer_style(optimizer)
    return element("i", class_="swatch", style=f"background:var({plots.css_name(color)})")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], optimizers: int = 0) -> Safe:
    """A table whose first column names the rows; it scrolls sideways where it is too wide.

    Args:
        optimizers: how many of the first columns name optimizers, and get their colours.
    """
    lines = []
    for row in rows:
        cells = []
        for place, text in enumerate(row):
            mark = swatch(text) if place < optimizers else Safe("")
            if place < max(optimizers, 1):
                cells.append(element("th", mark, text, scope="row"))
            else:
                cells.append(element("td", text, class_="number"))
        lines.append(element("tr", *cells))
    names = [
        element("th", name, scope="col", class_="start" if place < max(optimizers, 1) else "end")
        for place, name in enumerate(head)
    ]
    whole = element("table", element("thead", element("tr", *names)), element("tbody", *lines))
    return element("div", whole, class_="scroll", tabindex="0")


def note(text: str) -> Safe:
    """What is to be known about the figures or the table above."""
    return element("p", text, class_="note")


def details(summary: str, *children: str) -> Safe:
    """What is shown on request."""
    return element("details", element("summary", summary), *children)


def code(text: str) -> Safe:
    """Code to copy, its lines kept."""
    lines = Safe("\n".join(join([line]) for line in text.split("\n")))
    return element("pre", element("code", lines), tabindex="0")


def facts(items: Sequence[tuple[str, str]], class_: str = "") -> Safe:
    """Names and what they stand for."""
    children = [
        part for name, value in items for part in (element("dt", name), element("dd", value))
    ]
    return element("dl", *children, class_=f"facts {class_}".strip())


def figures(drawn: Sequence[tuple[str, plots.Plot]]) -> Safe:
    """Figures side by side where there is room; each with its heading as text."""
    return element("div", *[_figure(plot, name) for name, plot in drawn], class_="figures")


def figure_columns(*columns: Sequence[tuple[str, plots.Plot]]) -> Safe:
    """Columns of figures side by side where there is room, for figures of unequal heights."""
    parts = [
        element("div", *[_figure(plot, name) for name, plot in column], class_="column")
        for column in columns
        if column
    ]
    return element("div", *parts, class_="figures")


def _figure(plot: plots.Plot, name: str) -> Safe:
    drawing = Safe(plots.svg(plot, name.replace("_", "-")))
    caption = element(
        "figcaption", element("strong", plot.title), " ", element("span", plot.subtitle)
    )
    return element(
        "figure", caption, drawing, class_="wide" if plot.get_figwidth() > 6 else "narrow"
    )
