"""HTTP connections that end at a deadline and go only where they may.

A time-out of single reads never ends a server that sends one byte a second, and the headers are
read inside the library: so a watch shuts the sockets down when its time is over. And an answer can
lead on to machines that the outside cannot reach: every address is checked when it is connected to,
after names are resolved, so that no redirect, no name and no spelling of a number gets around it.
"""

import http.client
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pipeline_src.errors import MediaError

Addresses = Literal["public", "listed", "private", "any"]
Reach = Literal["public", "private", "forbidden"]
# Where clouds tell a machine its credentials, beside the link-local ranges.
METADATA = {
    ipaddress.ip_address(address)
    for address in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
}
NAMED: dict[str, Reach] = {
    "localhost": "private",
    "metadata": "forbidden",
    "metadata.google.internal": "forbidden",
    "instance-data": "forbidden",
    "instance-data.ec2.internal": "forbidden",
}
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 inside IPv6, RFC 6052
_HERE = threading.local()


def reach_of(address: str) -> Reach:
    """Tell who can reach an IP address; inside IPv6 the IPv4 address counts."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    if ip in METADATA or ip.is_link_local or ip.is_multicast:
        return "forbidden"
    return "public" if ip.is_global else "private"


def _reach_of_number(host: str) -> Reach | None:
    try:
        return reach_of(host)
    except ValueError:
        return None  # a name


class Watch:
    """What one attempt may take and where it may go.

    Args:
        seconds: after so long every connection made under it is shut down.
        addresses: public; or private ones too, where the first one asked is one (listed) or
            always (private); or any, link-local and metadata addresses included.
    """

    def __init__(self, seconds: float, addresses: Addresses) -> None:
        self.seconds = seconds
        self._addresses = addresses
        self._is_private_listed: bool | None = None
        self._handles: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._end)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> "Watch":
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Watch no longer; connections stay as they are."""
        self._timer.cancel()
        with self._lock:
            while self._handles:
                self._handles.pop().close()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Watch what this thread asks inside."""
        before = getattr(_HERE, "watch", None)
        _HERE.watch = self
        try:
            yield
        finally:
            _HERE.watch = before

    def check_time(self, what: str) -> None:
        """Refuse what its end cut short, whatever that looked like.

        Raises:
            MediaError: timeout.
        """
        if self.is_over:
            raise MediaError("timeout", f"{what}: not done after {self.seconds:g} s")

    def add(self, connection: socket.socket) -> None:
        """Shut this one down too; by a handle of its own, since libraries wrap theirs."""
        handle = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._handles.append(handle)
            if self.is_over:
                _shut_down(handle)

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for handle in self._handles:
                _shut_down(handle)

    def check_link(self, url: str) -> None:
        """Refuse an address that an answer leads to, as far as its text gives it away.

        A proxy resolves names itself; without one the connection is checked as well.

        Raises:
            MediaError: unsupported.
        """
        if self._is_private_listed is None:
            self._is_private_listed = False
        self.check_url(url)

    def check_url(self, url: str) -> None:
        """Tell the same of the address that a list names.

        Raises:
            MediaError: unsupported.
        """
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:
            return  # whoever asks it will say so
        reach = NAMED.get(host) or _reach_of_number(host)
        if reach:
            self._check(host, host, reach)

    def check_host(self, host: str, port: int) -> None:
        """Refuse a host of which one address may not be asked.

        Raises:
            MediaError: unsupported.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return  # connecting says so
        addresses = sorted({str(entry[4][0]) for entry in found})
        for address in sorted(addresses, key=lambda one: ORDER.index(reach_of(one))):
            self._check(host, address, reach_of(address))

    def check_peer(self, host: str, connection: socket.socket) -> None:
        """Refuse a connection to another address than the name had a moment ago."""
        address = str(connection.getpeername()[0])
        self._check(host, address, reach_of(address))

    def _check(self, host: str, address: str, reach: Reach) -> None:
        if self._is_private_listed is None:
            self._is_private_listed = reach == "private"
        is_private_allowed = self._addresses == "private" or (
            self._addresses == "listed" and self._is_private_listed
        )
        is_allowed = reach == "public" or (reach == "private" and is_private_allowed)
        if not is_allowed and self._addresses != "any":
            what = "link-local or metadata" if reach == "forbidden" else "private or loopback"
            raise MediaError(
                "unsupported",
                f"{host[:80]} is at {address}, a {what} address; download.addresses = "
                f"{self._addresses} does not allow it",
            )


ORDER: tuple[Reach, ...] = ("forbidden", "private", "public")


def _shut_down(handle: socket.socket) -> None:
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster


class _FinalResponse(http.client.HTTPResponse):
    """The answer behind informational ones, of which http.client itself skips 100 alone."""

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        while HTTPStatus.PROCESSING <= self.status < HTTPStatus.OK:
            self.headers = None  # pyright: ignore[reportAttributeAccessIssue]
            super().begin()


class _Watched(HTTPConnection):
    """A connection under the watch of the thread that uses it."""

    response_class = _FinalResponse

    def _new_conn(self) -> socket.socket:
        watch: Watch | None = getattr(_HERE, "watch", None)
        if watch is None:
            return super()._new_conn()
        if self.proxy is None:
            watch.check_host(self.host, self.port)
        connection = super()._new_conn()
        watch.add(connection)
        if self.proxy is None:
            watch.check_peer(self.host, connection)
        return connection

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send a request, perhaps over a connection that an earlier watch has seen made."""
        watch: Watch | None = getattr(_HERE, "watch", None)
        if watch is not None and self.sock is not None:
            if self.proxy is None:
                watch.check_peer(self.host, self.sock)
            watch.add(self.sock)
        super().request(*arguments, **options)


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched  # pyright: ignore[reportAssignmentType]


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS  # pyright: ignore[reportAssignmentType]


POOLS = {"http": _Pool, "https": _TLSPool}


def watch_adapter(adapter: HTTPAdapter) -> HTTPAdapter:
    """Make every connection of ``adapter`` one that can be watched; SOCKS has its own kind."""
    adapter.poolmanager.pool_classes_by_scheme = POOLS  # pyright: ignore
    through_proxy = adapter.proxy_manager_for

    def watched_proxy(proxy: str, **options: Any) -> Any:
        manager = through_proxy(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = POOLS
        return manager

    adapter.proxy_manager_for = watched_proxy  # pyright: ignore[reportAttributeAccessIssue]
    return adapter


def watch_session(session: requests.Session) -> requests.Session:
    """Make every connection of ``session`` one that can be watched, redirects included."""
    for adapter in {id(one): one for one in session.adapters.values()}.values():
        watch_adapter(adapter)  # pyright: ignore[reportArgumentType]
    session.hooks["response"].append(_leave_redirect_unread)
    return session


def _leave_redirect_unread(reply: requests.Response, *_: Any, **__: Any) -> None:
    """Take nothing from a redirect but its address: requests would read its whole body."""
    if not reply.is_redirect:
        return
    reply._content = b""
    reply._content_consumed = True  # pyright: ignore
    reply.raw.close()
    watch: Watch | None = getattr(_HERE, "watch", None)
    if watch is not None:
        watch.check_link(urljoin(reply.url, reply.headers["Location"]))
