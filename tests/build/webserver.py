"""A web server on loopback: files with validators, redirects, failures, and git repositories by git's own CGI program.

Used in tests only; it answers to what a test put there, and keeps what it was asked.
"""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path


@attrs.define
class Page:
    """What the server gives for a path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = attrs.Factory(dict)
    truncated: bool = False


class Web:
    """The server. ``pages`` by path; ``asked`` are the requests: (path, headers); ``repositories`` is a directory."""

    def __init__(self) -> None:
        self.pages: dict[str, Page | list[Page]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.repositories: Path | None = None
        web = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                web.answer(self)

            do_POST = do_GET  # noqa: N815  http.server's name

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.other = f"http://localhost:{self._server.server_port}"  # another origin

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, path: str, body: bytes | str = b"", **more: object) -> str:
        """Put a page at a path; returns its URL."""
        self.pages[path] = Page(body.encode() if isinstance(body, str) else body, **more)
        return f"{self.url}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.path, dict(handler.headers)))
        if self.repositories is not None and ".git/" in handler.path:
            _git(handler, self.repositories)
            return
        page = self.pages.get(handler.path.partition("?")[0], Page(b"nothing here", 404))
        if isinstance(page, list):
            page = page.pop(0) if len(page) > 1 else page[0]
        etag = page.headers.get("ETag")
        if etag is not None and handler.headers.get("If-None-Match") == etag:
            page = Page(b"", 304, page.headers)
        handler.send_response(page.status)
        for name, value in page.headers.items():
            handler.send_header(name, value)
        if page.status != 304:
            handler.send_header("Content-Length", str(len(page.body) + 10 * page.truncated))
        handler.end_headers()
        handler.wfile.write(page.body)
        handler.close_connection = handler.close_connection or page.truncated


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


def _git(handler: BaseHTTPRequestHandler, top: Path) -> None:
    """Carry out one request with git-http-backend(1)."""
    path, _, query = handler.path.partition("?")
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(top),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run(
        ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True, timeout=60
    )
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    handler.send_response(int(headers.pop("Status", "200").split()[0]))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    handler.wfile.write(answer)
