"""Fetching a file over HTTP, from a server that may answer anything or never end."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from pipeline.common.errors import UserError

LARGEST_DOWNLOAD = 8 * 1024**3  # bytes
TIMEOUT_S = 60.0
SLOWEST = 1024  # bytes per second, on average, once TIMEOUT_S have passed

_BLOCK = 1 << 20


def is_url(source: str) -> bool:
    """Whether reading the source needs the network."""
    return source.lower().startswith(("http://", "https://"))


def fetch(url: str, path: Path) -> None:
    """Write what is behind a http(s) URL to `path`.

    Redirections are followed to http and https only.

    Raises UserError: no answer, another status than 200, an end before the announced length, more
    than `LARGEST_DOWNLOAD`, less than `SLOWEST`.
    """
    try:
        # As a browser does with blanks and letters that a URL may not hold.
        request = urllib.request.Request(quote(url, safe="%/:?#[]@!$&'()*+,;=~"))
        opener = urllib.request.build_opener(_HttpOnly())
        with opener.open(request, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
            _copy(url, answer, file)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{url}: cannot be fetched: {_reason(error)}") from error


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not is_url(newurl):
            raise ValueError(f"it redirects to {newurl}, which is neither http:// nor https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy(url: str, answer: Any, file: IO[bytes]) -> None:
    started, count = time.monotonic(), 0
    # read1 gives what has come so far, so that a trickle is seen for what it is.
    while block := answer.read1(_BLOCK):
        count += len(block)
        if count > LARGEST_DOWNLOAD:
            raise UserError(
                f"{url}: a download must be at most {LARGEST_DOWNLOAD / 1e9:.1f} GB; "
                "fetch the file by other means and name its path"
            )
        passed = time.monotonic() - started
        if passed > TIMEOUT_S and count < SLOWEST * passed:
            raise UserError(f"{url}: only {count:,} bytes came in {passed:.0f} s; given up")
        file.write(block)
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and count < int(length):
        raise UserError(f"{url}: ends after {count:,} of {int(length):,} bytes; try again")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    text = " ".join(str(reason).split()) or type(error).__name__
    return f"{status}{text}"
