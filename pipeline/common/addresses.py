"""Addresses for people and for the store: what they are of, without the secrets that they hold."""

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit

HIDDEN = "***"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://?")
_CLOSING = "\"'`)]}>,.;:|"  # what ends a sentence's address, and is none of it
_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
_FILES = ("sqlite", "file")  # whose `#` belongs to the path
_REMOTE = (*_DATABASES, "http", "https", "s3", "gs", "ftp")  # known where a path lost a slash, too
_PAGE = re.compile(  # of MLflow, which holds no secret
    r"#/experiments/\d+/runs(/[0-9a-f]{32})?"
    r"(\?viewStateShareKey=(trials|rates|final)(&compareRunsMode=CHART)?)?(?![^\s)\"'])"
)
_SHORTEST = 4  # characters of a secret that is looked for by itself: others are words, too


def masked(text: str, *known: str) -> str:
    """Text whose addresses hold no secrets: userinfo, values of queries and fragments are hidden.

    known: addresses that the text may cite whole or in parts, whatever signs are in them."""
    for address in known:
        text = text.replace(address, mask_address(address)) if address else text
        for secret in sorted(_secrets(address), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
    if ":/" not in text and "?" not in text:
        return text
    return re.sub(r"\S+", lambda word: _mask_word(word.group()), text)


def _mask_word(word: str) -> str:
    """A word with an address in it, in brackets or quotes or after a key; or any other word."""
    if page := _PAGE.search(word):
        before, after = word[: page.start()], word[page.end() :]
        return f"{_mask_word(before)}{page.group()}{_mask_word(after)}"
    if (scheme := _SCHEME.search(word)) is None:
        path, mark, query = word.partition("?")
        return f"{path}?{_mask_query(query)}" if mark and "=" in query else word
    address = word[scheme.start() :].rstrip(_CLOSING)
    end = scheme.start() + len(address)
    return word[: scheme.start()] + mask_address(address) + word[end:]


def mask_address(address: str) -> str:
    """One address, from its scheme on, without its secrets.

    Signs that should have been encoded in a password end it early for every parser: where that may
    be, all goes up to the last `@`."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        name, mark, rest = address.partition(":/")
        if not mark or name.partition("+")[0].lower() not in _REMOTE:
            return address
        return mask_address(f"{name}://{rest}")
    parts = _split(address)
    if parts is None:
        return f"{scheme}://{HIDDEN}"
    if _is_cut(parts):
        rest = rest.rpartition("@")[2]
        if "=" in rest.partition("?")[0]:
            return f"{scheme}://{HIDDEN}"
        return mask_address(f"{scheme}://{HIDDEN}@{rest}")
    userinfo, at, host = parts.netloc.rpartition("@")
    text = f"{scheme}://{HIDDEN if userinfo else ''}{at}{host}{parts.path}"
    text += f"?{_mask_query(parts.query)}" if parts.query else ""
    return text + (f"#{HIDDEN}" if parts.fragment else "")


def has_userinfo(address: str) -> bool:
    """Whether a name or a password stands before the host."""
    return f"://{HIDDEN}" in mask_address(address)


def _split(address: str) -> SplitResult | None:
    scheme = address.partition(":")[0].partition("+")[0].lower()
    try:
        return urlsplit(address, allow_fragments=scheme not in _FILES)
    except ValueError:
        return None


def _is_cut(parts: SplitResult) -> bool:
    """Whether the userinfo seems to go on behind what was taken for the host."""
    behind = parts.path + parts.query + parts.fragment
    if not parts.netloc or "@" not in behind:
        return False
    try:
        _ = parts.port
    except ValueError:
        return True
    host = parts.hostname or ""
    is_host = "." in host or ":" in host or host == "localhost"
    if "@" in parts.path or "@" in parts.fragment:
        of_database = parts.scheme.partition("+")[0] in _DATABASES
        return of_database or "@" in parts.netloc or not is_host
    return False


def _mask_query(query: str) -> str:
    """Every value is hidden, and what has no name."""
    pieces = (piece.partition("=") for piece in re.split("[&;]", query))
    return "&".join(f"{name}={HIDDEN}" if mark else HIDDEN for name, mark, _ in pieces)


def _secrets(address: str) -> Iterator[str]:
    """What of an address nobody shall see, whole and in pieces, as it stands and decoded."""
    _, mark, rest = address.partition("://")
    parts = _split(address)
    if not mark or parts is None:
        return
    before, at, _ = (rest if _is_cut(parts) else parts.netloc).rpartition("@")
    name, colon, password = before.partition(":")
    whole = [before, password if colon else name] if at else []
    queries = re.split("[&;]", f"{parts.query}&{parts.fragment}")
    whole += [query.partition("=")[2] or query for query in queries]
    for text in {*whole, *map(unquote, whole)}:
        for secret in (text, *re.split(r"[^\w.~-]+", text)):  # libraries cite what they cut out
            if len(secret) >= _SHORTEST and not (colon and secret == name):
                yield secret
