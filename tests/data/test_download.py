"""A real server that answers what no server should."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from pipeline.data import sources

CONTENT = b"a,y\n1,2\n"


PLACES = {
    "here": "/t.csv",
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1:1/t.csv",
    "data": "data:text/csv,a",
    "blank": "http://a b/",
}


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers by the path; below /to/ it redirects to one of PLACES."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", PLACES[path.removeprefix("/to/")])
            self.end_headers()
        elif path == "/garbage":
            self.wfile.write(b"\x00\x1b[31m\r\n\r\n")
        elif path == "/headers":
            self.send_response(200)
            for number in range(300):
                self.send_header(f"X-{number}", "x")
            self.end_headers()
        elif path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.mark.parametrize("path", ["/t.csv", "/a table é.csv?x=1&y=2", "/a%20b", "/to/here"])
def test_what_is_there_is_fetched(server: str, path: str, tmp_path: Path) -> None:
    sources.fetch(server + path, tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/to/file", "cannot be fetched: No connection adapters were found for 'file:"),
        ("/to/ftp", "cannot be fetched: No connection adapters were found for 'ftp:"),
        ("/to/data", "cannot be fetched: No connection adapters were found for 'data:"),
        ("/to/blank", "cannot be fetched"),
        ("/garbage", "cannot be fetched"),
        ("/headers", "more than 100 headers"),
        ("/short", "8 bytes read, 992 more expected"),
    ],
)
def test_what_a_server_may_not_do(server: str, path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        sources.fetch(server + path, tmp_path / "t")


@pytest.mark.parametrize(
    "url",
    ["http://local\nhost/t.csv", "http://é..x/t.csv", "http://localhost:99999/t.csv", "http:///x"],
)
def test_urls_that_lead_nowhere(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched"):
        sources.fetch(url, tmp_path / "t")
