"""Connections to registries: one request, one answer.

Hides urllib3, TLS contexts and proxies. Invariant: an answer's body is never decoded, and never read beyond a limit
that the caller gives; a server that sends headers, trailers or interim answers for ever, or next to nothing for a long
time, is given up on; an answer that is closed leaves no connection behind that is half read.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pylxc.errors import IntegrityError, RegistryError
from pylxc.registry.problems import Broken, clean
from pylxc.registry.proxies import proxy_of
from pylxc.registry.sites import host_and_port, shown
from pylxc.registry.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pylxc.registry.settings import HostSettings, Settings
    from pylxc.registry.stopping import Stop

_CHUNK = 256 * 1024
_SMALL = 64 * 1024  # what is read of an answer that nobody wants, for its connection to be used again
_INTERIM = 8  # answers like "100 Continue" before the one that counts
_TRAILERS = 100
_DIGITS = 18  # of a number of bytes; more are cut off, it is far beyond any limit anyway
_PLAIN = frozenset({"", "identity", "none", "aws-chunked"})  # the last of how it came into an object store
_ABSENT = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})

# Who waits on the sockets that this thread uses: urllib3 passes nothing of ours on to its connections.
_thread = threading.local()


class _Response(http.client.HTTPResponse):
    """http.client's, without its two loops that a server can keep going for ever."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > _INTERIM:
            raise http.client.HTTPException("too many interim answers")
        return super()._read_status()  # type: ignore[misc,no-any-return]

    def _read_and_discard_trailer(self) -> None:
        for _ in range(_TRAILERS):
            line = self.fp.readline(_SMALL)
            if not line.strip():
                return
        raise http.client.HTTPException("too many trailers")


class _Watched:
    """A connection that can be woken up by the thread's stop."""

    sock: Any
    is_verified: bool
    response_class = _Response
    is_anybody_good = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if self.is_anybody_good:  # the user said so: without a warning at each request
            self.is_verified = True
        self._watch()

    def request(self, *words: Any, **more: Any) -> None:
        self._watch()
        super().request(*words, **more)  # type: ignore[misc]

    def getresponse(self) -> Any:
        self._watch()
        return super().getresponse()  # type: ignore[misc]

    def _watch(self) -> None:
        stop = getattr(_thread, "stop", None)
        if stop is not None and self.sock is not None:
            _thread.sockets.add(self.sock)
            stop.watch(self.sock)


class _Plain(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _Secure(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


class _Unverified(_Secure):
    is_anybody_good = True


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


class _UnverifiedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Unverified


class Answer:
    """What a server answers: ``status``, ``url`` (that was asked), headers; its body is read once, then it is closed.

    ``is_home``: whether the registry itself answered, and not another host that it sent us to.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, settings: Settings) -> None:
        self.status = response.status
        self.url = url
        self.is_home = True
        self.release: Callable[[], None] = lambda: None
        self._response = response
        self._settings = settings
        self._is_read = response.length_remaining == 0

    def header(self, name: str) -> str:
        """Return a header's value, "" where there is none."""
        return self._response.headers.get(name) or ""

    def headers(self, name: str) -> list[str]:
        """Return the values of a header that may be there several times."""
        return list(self._response.headers.getlist(name))

    @property
    def length(self) -> int | None:
        """How many bytes the server says the body has; None where it does not say."""
        text = self.header("Content-Length")
        is_said = text.isascii() and text.isdigit() and not self.header("Transfer-Encoding")
        return int(text[:_DIGITS]) if is_said else None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, if it is as it was asked for. Raises RegistryError (encoded), and as ``raw``."""
        encoding = self.header("Content-Encoding").strip().lower()
        if encoding not in _PLAIN:
            raise RegistryError(f"{shown(self.url)} sends {clean(encoding)!r} encoded bodies: refused", code="ENCODING")
        yield from self.raw()

    def raw(self) -> Iterator[bytes]:
        """Yield the body as it comes, for those who know its digest: whatever it is said to be encoded with.

        Raises Broken where it stops too early, or next to nothing comes.
        """
        pace = _Pace(self._settings)
        while True:
            try:
                data = self._response.read1(_CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
                raise _broken(error, self.url) from error
            if not data:
                self._is_read = True
                return
            self._is_read = self._response.length_remaining == 0
            pace.take(len(data))
            yield data

    def body(self, limit: int, what: str) -> bytes:
        """Return the whole body, and close the answer. Raises IntegrityError where it is longer than the limit."""
        found = bytearray()
        with closing(self):
            if (self.length or 0) > limit:
                raise IntegrityError(what, f"{limit} bytes at most", f"{self.length} bytes")
            for data in self.chunks():
                found += data
                if len(found) > limit:
                    raise IntegrityError(what, f"{limit} bytes at most", "more")
        return bytes(found)

    def start_of_body(self) -> bytes:
        """Return the first part of a body that only explains something, and close the answer."""
        found = bytearray()
        with closing(self), suppress(Broken, RegistryError):  # the status has said what counts
            for data in self.chunks():
                found += data
                if len(found) >= _SMALL:
                    break
        return bytes(found[:_SMALL])

    def close(self) -> None:
        """Give the connection back where all of the body was read; close it otherwise."""
        if self._is_read:
            self._response.drain_conn()  # a body of no bytes counts as unread as long as nobody looks
            self._response.release_conn()
        else:
            self._response.close()
        self.release()


class _Pace:
    """Notices that next to nothing comes: each read alone would be in time."""

    def __init__(self, settings: Settings) -> None:
        self._period = settings.timeout
        self._least = settings.slowest * settings.timeout
        self._begin = time.monotonic()
        self._bytes = 0

    def take(self, count: int) -> None:
        self._bytes += count
        now = time.monotonic()
        if now - self._begin >= self._period:
            if self._bytes < self._least:
                raise Broken(f"it sent {self._bytes} bytes in {now - self._begin:.0f} s")
            self._begin, self._bytes = now, 0


class Connections:
    """All connections of one client; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}

    def send(  # noqa: PLR0913  the parts of a request
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        *,
        is_home: bool = True,
        stop: Stop | None = None,
    ) -> Answer:
        """Send one request, and return the answer once its headers are there. Raises Broken, and Stopped."""
        if stop is not None:
            stop.check()
        _thread.stop, _thread.sockets = stop, set()
        used: set[socket.socket] = _thread.sockets
        response = None
        try:
            manager = self._manager(url)
            # No retries and no redirects of urllib3: they know nothing of credentials, digests and resumed bodies.
            response = manager.urlopen(
                method, url, headers=headers, body=body, redirect=False, retries=False, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            if stop is not None and stop.is_set():
                raise Stopped from error
            raise _broken(error, url) from error
        finally:
            _thread.stop = None
            if stop is not None and response is None:
                stop.forget(used)
        answer = Answer(response, url, self._settings)
        answer.is_home = is_home
        if stop is not None:
            answer.release = lambda: stop.forget(used)
        return answer

    def close(self) -> None:
        """Close the connections that nothing is read from."""
        with self._lock:
            managers, self._managers = self._managers, {}
        for manager in managers.values():
            manager.clear()

    def _manager(self, url: str) -> urllib3.PoolManager:
        host, scheme = host_and_port(url), url.partition(":")[0]
        with self._lock:
            if (scheme, host) not in self._managers:
                self._managers[scheme, host] = self._new_manager(scheme, host)
            return self._managers[scheme, host]

    def _new_manager(self, scheme: str, host: str) -> urllib3.PoolManager:
        settings, said = self._settings, self._settings.host(host)
        is_unverified = scheme == "https" and self._settings.is_insecure(host) and said.ca is None
        proxy = proxy_of(settings, said, scheme, host)
        more: dict[str, Any] = {}
        if scheme == "https":
            more["ssl_context"] = _trust(said, host, is_unverified=is_unverified)
        more |= {
            "num_pools": 2,
            "maxsize": 2 * max(settings.streams, settings.downloads),
            "blocksize": _CHUNK,
            "timeout": urllib3.Timeout(connect=settings.connect_timeout, read=settings.timeout),
        }
        try:
            manager = _proxied(proxy, more) if proxy else urllib3.PoolManager(**more)
        except (urllib3.exceptions.HTTPError, ValueError):  # not named as the cause: it quotes the URL
            reason = f"the proxy for {host} is no http:// or https:// URL, and others are not supported"
            remedy = f"check {scheme.upper()}_PROXY, and proxies in docker's daemon.json and config.json"
            raise RegistryError(f"{reason}: {remedy}", code="PROXY") from None
        secure = _UnverifiedPool if is_unverified else _SecurePool
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": secure}
        return manager


def _trust(said: HostSettings, host: str, *, is_unverified: bool) -> ssl.SSLContext:
    """Return whom to believe to be this registry, and who we are to it."""
    context = ssl.create_default_context()
    try:
        if said.ca is not None:
            path = Path(said.ca)
            for file in sorted(path.glob("*.crt")) if path.is_dir() else [path]:
                context.load_verify_locations(cafile=file)
        if said.client_certificate is not None:
            context.load_cert_chain(said.client_certificate, said.client_key)
    except (OSError, ssl.SSLError) as error:  # SSLError is an OSError; both are told in the same words
        reason = f"the certificates given for {host} cannot be read: {error.strerror or 'not PEM'}"
        raise RegistryError(reason, code="TLS") from error
    if is_unverified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxied(proxy: str, more: dict[str, Any]) -> urllib3.ProxyManager:
    """Return the connections through a proxy, which is told the name and the password in its URL."""
    url = urllib3.util.parse_url(proxy)
    headers = urllib3.make_headers(proxy_basic_auth=unquote(url.auth)) if url.auth else None
    return urllib3.ProxyManager(url._replace(auth=None).url, proxy_headers=headers, **more)


def _broken(error: Exception, url: str) -> Broken:
    """Return what happened to a connection, in words that have neither URLs nor credentials in them."""
    cause = _cause(error)
    is_final = isinstance(cause, ssl.SSLCertVerificationError)
    is_absent = isinstance(error, (urllib3.exceptions.ProxyError, urllib3.exceptions.ConnectTimeoutError))
    if isinstance(error, urllib3.exceptions.ProxyError):
        reason = "the proxy for it failed: check HTTPS_PROXY and NO_PROXY"
    elif isinstance(error, urllib3.exceptions.LocationParseError):
        is_final, reason = True, "its name is none that a host can have: check it"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        remedy = f"put its authority into /etc/docker/certs.d/{host_and_port(url)}/ca.crt, or set it as insecure"
        reason = f"its certificate is not trusted ({cause.verify_message}): {remedy}"
    elif isinstance(cause, ssl.SSLError):
        is_absent, reason = True, f"TLS failed ({cause.reason})"
    elif isinstance(cause, socket.gaierror):
        is_absent, is_final = True, cause.errno != socket.EAI_AGAIN
        reason = "its name cannot be resolved: check it, and the network"
    elif isinstance(cause, (urllib3.exceptions.TimeoutError, TimeoutError)):
        reason = "it did not answer in time"
    elif isinstance(cause, (http.client.RemoteDisconnected, BrokenPipeError)):
        reason = "the connection was closed"
    elif isinstance(cause, OSError) and cause.strerror:
        is_absent, reason = is_absent or cause.errno in _ABSENT, cause.strerror.lower()
    else:
        reason = "the connection ended in the middle of an answer"
    return Broken(f"{shown(url)}: {reason}", may_pass=not is_final, is_absent=is_absent)


def _cause(error: BaseException) -> BaseException:
    """Return the error of the operating system, or of TLS, in what urllib3 raised; itself where there is none."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, OSError) and not isinstance(each, urllib3.exceptions.HTTPError):
            return each
        inner = next((word for word in each.args if isinstance(word, BaseException)), None)
        each = inner or each.__cause__ or each.__context__
    return error
