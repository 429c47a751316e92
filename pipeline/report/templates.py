"""Pages from the templates beside this file, which escape all that they are given; `page.css` goes
into them as it is."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.common.text import count, listing, percent, printable, shorten
from pipeline.report.figures import Plot, optimizer_style, svg

HERE = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """The page that a template makes of values, and of what all of them use."""
    strict: dict[str, Any] = {"autoescape": True, "undefined": StrictUndefined, "finalize": shown}
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(HERE), **strict, **blocks)
    return environment.get_template(template).render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        color=lambda optimizer: optimizer_style(optimizer)[0],
        svg=_svg,
        **{helper.__name__: helper for helper in (count, listing, percent, shorten)},
        **values,
    )


def shown(value: Any) -> Any:
    """Text without control characters, a percent sign with its number; markup as it is."""
    return value if isinstance(value, Markup) else printable(str(value)).replace(" %", "\xa0%")


def _svg(plot: Plot, name: str) -> Markup:
    return Markup(svg(plot, name.replace("_", "-")))
