"""Serves the pages of this folder on loopback, and `GET /api/graph` of a Thunderline server beside them.

Needs nothing but Python. For looking at a graph, not for others to reach.
"""

from __future__ import annotations

import argparse
import contextlib
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

HERE: Final = Path(__file__).parent
GRAPH: Final = "/api/graph"
MODULES: Final = "/node_modules/"
TIMEOUT_S: Final = 30.0


class Pages(SimpleHTTPRequestHandler):
    """Files of the folder, of the npm packages, and the graph."""

    def __init__(self, *args: Any, server_url: str, token: str | None, modules: Path) -> None:
        self.server_url = server_url
        self.token = token
        self.modules = modules
        super().__init__(*args, directory=str(HERE))

    def do_GET(self) -> None:
        """Answer a file, or what the server answers."""
        if urlsplit(self.path).path == GRAPH:
            self._pass_on()
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        """The file that a path names, packages among them."""
        file = Path(super().translate_path(path))
        inner = HERE / MODULES.strip("/")
        return str(self.modules / file.relative_to(inner)) if file.is_relative_to(inner) else str(file)

    def _pass_on(self) -> None:
        headers = {"Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.server_url + self.path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as refusal:
            self._answer(refusal.code, refusal.headers["Content-Type"], refusal.read())
        except OSError as error:
            text = f"{self.server_url} does not answer ({error}): start it, or name another by --server"
            self._answer(502, "text/plain; charset=utf-8", text.encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the Thunderline server: http://127.0.0.1:4040")
    parser.add_argument(
        "--token-file", type=Path, help="a file with a token of scope `read`, where the server asks for one"
    )
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--modules", type=Path, default=HERE / "node_modules", help="where npm put the libraries")
    options = parser.parse_args()
    token = None if options.token_file is None else options.token_file.read_text(encoding="utf-8").strip()
    pages = partial(Pages, server_url=options.server.rstrip("/"), token=token, modules=options.modules.resolve())
    with ThreadingHTTPServer(("127.0.0.1", options.port), pages) as server:
        print(f"The graph is at http://127.0.0.1:{server.server_address[1]}/2d.html and /3d.html", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
