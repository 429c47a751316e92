"""HTML whose text is escaped unless it says otherwise."""

import html
from collections.abc import Sequence

from pipeline.common import text as formats


class Safe(str):
    """HTML that is already escaped."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Safe:
    """An HTML element. Children are text and escaped, unless `Safe`; so are attribute values.

    A trailing underscore of an attribute's name is dropped and others become hyphens.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    return Safe(f"<{name}{written}>{join(children)}</{name}>")


def _text(text: str) -> str:
    # A percent sign stays with its number.
    return html.escape(formats.printable(text)).replace(" %", "&nbsp;%")


def join(children: Sequence[str]) -> Safe:
    return Safe("".join(child if isinstance(child, Safe) else _text(child) for child in children))
