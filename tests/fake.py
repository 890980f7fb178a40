"""A registry in this process: a small honest one, and a script of deviations from that."""

from __future__ import annotations

import hashlib
import json
import re
import select
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
IMAGE = {"schemaVersion": 2, "config": CONFIG, "layers": []}


class Seen(NamedTuple):
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Fake(ThreadingHTTPServer):
    """The server; ``blobs`` and ``manifests`` are what it has, ``seen`` what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, certificate: Path | None = None, clients: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if clients is not None:
                context.load_verify_locations(clients)
                context.verify_mode = ssl.CERT_REQUIRED
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.given_up: list[str] = []
        self.seen: list[Seen] = []
        self.script: list[tuple[str, Callable[[Handler], None], bool]] = []
        self.guard: Callable[[Handler], bool] = lambda _: True
        self.over = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that hang up: they are meant to."""

    def add(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def add_manifest(self, tag: str, document: dict | bytes, kind: str = OCI_MANIFEST) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        for name in (tag, digest_of(data)):
            self.manifests[name] = (kind, data)
        return digest_of(data)

    def add_layout(self, made: Mapping[str, bytes], entry: Mapping[str, object], tag: str = "1") -> str:
        """Have all that is in an OCI layout, and a tag for one entry of it; return that one's digest."""
        for name, data in made.items():
            if name.startswith("blobs/"):
                self.add(data)
                with suppress(ValueError):
                    said = json.loads(data)
                    if isinstance(said, dict) and "schemaVersion" in said:
                        self.add_manifest(digest_of(data), data, said["mediaType"])
        digest = str(entry["digest"])
        self.add_manifest(tag, self.blobs[digest], str(entry["mediaType"]))
        return digest

    def once(self, pattern: str, action: Callable[[Handler], None]) -> None:
        """Let the next request that matches ("GET /v2/.*") be answered by an action."""
        self.script.append((pattern, action, False))

    def always(self, pattern: str, action: Callable[[Handler], None]) -> None:
        self.script.append((pattern, action, True))

    def scripted(self, line: str) -> Callable[[Handler], None] | None:
        for number, (pattern, action, stays) in enumerate(self.script):
            if re.fullmatch(pattern, line):
                if not stays:
                    del self.script[number]
                return action
        return None

    def requests(self, pattern: str) -> list[Seen]:
        return [each for each in self.seen if re.fullmatch(pattern, f"{each.method} {each.path}")]


class Handler(BaseHTTPRequestHandler):
    """One connection to it."""

    server: Fake
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.body = self.rfile.read(length)
        self.server.seen.append(Seen(self.command, self.path, self.titled(), self.body))
        action = self.server.scripted(f"{self.command} {self.path}")
        if action is not None:
            action(self)
        elif self.server.guard(self):
            self.honest()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815  http.server's names

    def titled(self) -> dict[str, str]:
        return {key.title(): value for key, value in self.headers.items()}

    def do_CONNECT(self) -> None:
        """Be a proxy: pass bytes on, both ways, until one side has no more."""
        self.server.seen.append(Seen(self.command, self.path, self.titled(), b""))
        action = self.server.scripted(f"{self.command} {self.path}")
        if action is not None:
            action(self)
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            here, sides = self.connection, {self.connection: there, there: self.connection}
            while here:
                for side in select.select(list(sides), [], [], 0.05)[0]:
                    data = side.recv(65536)
                    sides[side].sendall(data)
                    here = here if data else None
                if self.server.over.is_set():
                    break
        self.close_connection = True

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        for key, value in ({"Content-Length": len(body)} | named).items():
            if value is not None:
                self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status: int, code: str = "", message: str = "", **headers: object) -> None:
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def honest(self) -> None:
        path = urlsplit(self.path).path
        for pattern, part in _PARTS:
            match = re.fullmatch(pattern, path)
            if match:
                part(self, *match.groups())
                return
        self.fail(404, "NAME_UNKNOWN", "no such thing")

    def give_root(self) -> None:
        self.answer(200, b"{}", Docker_Distribution_API_Version="registry/2.0")

    def give_blob(self, digest: str) -> None:
        data = self.server.blobs.get(digest)
        if data is None:
            self.fail(404, "BLOB_UNKNOWN", "blob unknown")
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match:
            first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            self.answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")
        else:
            self.answer(200, data)

    def manifest(self, name: str) -> None:
        if self.command == "PUT":
            kind = self.headers["Content-Type"]
            self.server.add_manifest(name, self.body, kind)
            self.answer(201, Docker_Content_Digest=digest_of(self.body))
        elif self.command == "DELETE":
            self.answer(202 if self.server.manifests.pop(name, None) else 404)
        elif name in self.server.manifests:
            kind, data = self.server.manifests[name]
            self.answer(200, data, Content_Type=kind, Docker_Content_Digest=digest_of(data))
        else:
            self.fail(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def begin_upload(self, repository: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if query.get("mount", [""])[0] in self.server.blobs:
            self.answer(201)
            return
        name = str(len(self.server.uploads))
        self.server.uploads[name] = b""
        self.answer(202, Location=f"/v2/{repository}/blobs/uploads/{name}?state=a%20b", Range="0-0")

    def upload(self, name: str) -> None:
        if name not in self.server.uploads:
            self.fail(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
            return
        query = parse_qs(urlsplit(self.path).query)
        assert query["state"] == ["a b"], "the client lost what the server wants back"
        if self.command == "DELETE":
            self.server.uploads[name] = b""
            self.server.given_up.append(name)
            self.answer(204)
            return
        if self.command != "GET":
            self.server.uploads[name] += self.body
        data = self.server.uploads[name]
        if self.command != "PUT":
            location = f"../uploads/{name}?state=a%20b"
            self.answer(202 if self.command == "PATCH" else 204, Location=location, Range=f"0-{max(0, len(data) - 1)}")
        elif digest_of(data) == query["digest"][0]:
            self.server.add(data)
            self.answer(201, Docker_Content_Digest=digest_of(data))
        else:
            self.fail(400, "DIGEST_INVALID", "digest invalid")


_PARTS = (
    (r"/v2/", Handler.give_root),
    (r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", Handler.give_blob),
    (r"/v2/.+/manifests/([^/]+)", Handler.manifest),
    (r"/v2/(.+)/blobs/uploads/", Handler.begin_upload),
    (r"/v2/.+/blobs/uploads/([^/]+)", Handler.upload),
)


@contextmanager
def running(fake: Fake) -> Iterator[Fake]:
    """Serve for the length of a block."""
    thread = threading.Thread(target=fake.serve_forever, args=(0.02,), name="fake-registry")
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        fake.shutdown()
        thread.join()
        fake.server_close()
