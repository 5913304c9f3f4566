"""Where a request goes: the origin that a connection is for, and the path it asks for there.

An address is one of::

    http://host:port/path?query     HTTP/2 with prior knowledge, port 80 when left out
    https://host:port/path          HTTP/2 over TLS, port 443 when left out
    host:port/path                  the same as http://
    [::1]:port/path                 IPv6 stands in brackets; a zone may follow: [fe80::1%eth0]
    unix:/run/worker.sock:/path     a Unix socket; the path begins at the first ":/" after it
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from dynamo_h2.errors import InvalidRequest

__all__ = ["Origin", "Target", "parse_address"]

_SCHEMES = ("http", "https")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_UNIX = re.compile(r"unix:", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/?#]")
_PORT = re.compile(r"[0-9]{1,5}")
# RFC 1123 names, with the underscore that service names have; the dot at the end of a full name.
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_NAME_LENGTH = 253
_NUMERIC_NAME = re.compile(r"[0-9.]+")
# RFC 6874: what a zone may be made of, without the percent-encoding that no interface needs.
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")
# Visible ASCII without "#", a percent sign only before two hex digits (RFC 3986 §3.3, §3.4). The
# repetitions are possessive: without that a bad character at the end costs exponential time.
_PATH = re.compile(r"(?:[!-\"$&-~]++|%[0-9A-Fa-f]{2})*+")
# What most addresses are, in one look: http, a name or an IPv4 address, a port, a path.
_PLAIN = re.compile(r"http://([a-z0-9._-]+):([0-9]{1,5})(/" + _PATH.pattern + ")?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a connection leads to, and so the key of the connection pool.

    Attributes:
        scheme: ``"http"`` (prior knowledge) or ``"https"``.
        host: The name or address in lower case, IPv6 without brackets.
        port: The TCP port; the default of the scheme for a Unix socket, where it has no meaning.
        socket_path: The path of the Unix socket; None for TCP.
    """

    scheme: str
    host: str
    port: int
    socket_path: str | None = None

    @property
    def authority(self) -> str:
        """The value of ``:authority`` (RFC 9113 §8.3.1), without the default port and any zone."""
        host = self.host.partition("%")[0]  # RFC 6874 §4: a zone means nothing to the peer
        return self._with_port(f"[{host}]" if ":" in host else host)

    def __str__(self) -> str:
        """Write the origin as an address that `parse_address` reads as the same origin."""
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self._with_port(host)}"

    def _with_port(self, host: str) -> str:
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What an address names.

    Attributes:
        origin: Where the connection leads to.
        path: The path with the query, as it goes into ``:path``; begins with ``/``.
    """

    origin: Origin
    path: str


def parse_address(address: str) -> Target:
    """Read an address; the module's docstring lists the forms.

    Args:
        address: The address; its path must be percent-encoded already.

    Raises:
        InvalidRequest: It is not an address, and the message says why.
    """
    _check_text(address)
    plain = _PLAIN.fullmatch(address)
    if plain is not None:
        return Target(Origin("http", _parse_host(plain[1]), _parse_port(plain[2])), plain[3] or "/")
    if _UNIX.match(address):
        return _parse_unix(address)
    scheme, rest = _split_scheme(address)
    end = _AUTHORITY_END.search(rest)
    cut = end.start() if end else len(rest)
    host, port = _parse_authority(rest[:cut], _default_port(scheme))
    return Target(Origin(scheme, host, port), _parse_path(rest[cut:]))


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _check_text(address: object) -> None:
    """Refuse what is no text: the callers of a library are not all type-checked."""
    if not isinstance(address, str):
        raise InvalidRequest(f"the address must be a str, not {type(address).__name__}")
    if not address:
        raise InvalidRequest("the address is empty")


def _split_scheme(address: str) -> tuple[str, str]:
    found = _SCHEME.match(address)
    if not found:
        return "http", address
    scheme = found[1].lower()
    if scheme not in _SCHEMES:
        raise InvalidRequest(f"the scheme {found[1]!r} is not http, https or unix")
    return scheme, address[found.end() :]


def _parse_unix(address: str) -> Target:
    """Split ``unix:/socket:/path`` at the first ``:/`` after the socket."""
    socket_path, colon, path = address[len("unix:") :].partition(":/")
    if not socket_path.startswith("/") or socket_path.startswith("//"):
        raise InvalidRequest("a Unix socket is written unix:/path or unix:/path:/request/path")
    if _CONTROL.search(socket_path):
        raise InvalidRequest(f"the socket path {socket_path!r} has a control character")
    origin = Origin("http", "localhost", _default_port("http"), socket_path)
    return Target(origin, _parse_path("/" + path if colon else ""))


def _parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Split ``host``, ``host:port`` or ``[v6]:port``."""
    if "@" in authority:
        # Not repeated in the message: it may hold a password.
        raise InvalidRequest("the address has user information; send it as a header instead")
    if authority.startswith("["):
        literal, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidRequest(f"{authority!r} is not [IPv6 address]:port")
        return _parse_ipv6(literal), _parse_port(port[1:]) if port else default_port
    host, colon, port = authority.partition(":")
    if ":" in port:
        raise InvalidRequest(f"{authority!r} has two colons; IPv6 is written [address]:port")
    return _parse_host(host), _parse_port(port) if colon else default_port


def _parse_port(digits: str) -> int:
    if not _PORT.fullmatch(digits) or not 1 <= int(digits) <= 65_535:
        raise InvalidRequest(f"the port {digits!r} is not a number from 1 to 65535")
    return int(digits)


def _parse_ipv6(literal: str) -> str:
    """Bring an IPv6 address to its one spelling (RFC 5952), zone included (RFC 6874)."""
    address, percent, zone = literal.partition("%")
    zone = zone.removeprefix("25")
    if percent and not _ZONE.fullmatch(zone):
        raise InvalidRequest(f"the zone of {literal!r} is not a name of letters and digits")
    try:
        return IPv6Address(address).compressed + (f"%{zone}" if percent else "")
    except AddressValueError:
        raise InvalidRequest(f"{literal!r} is not an IPv6 address") from None


def _parse_host(host: str) -> str:
    """Check a host name or IPv4 address, and bring it to lower case and ASCII (RFC 5891)."""
    if not host:
        raise InvalidRequest("the address has no host")
    name = (host if host.isascii() else _to_idna(host)).lower()
    if _NUMERIC_NAME.fullmatch(name):
        return _parse_ipv4(name)
    if not _NAME.fullmatch(name) or len(name.removesuffix(".")) > _NAME_LENGTH:
        raise InvalidRequest(f"{host!r} is not a host name")
    return name


def _parse_ipv4(text: str) -> str:
    """Hold digits and dots to four numbers: resolvers read ``127.1`` in ways of their own."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        raise InvalidRequest(f"{text!r} is not an IPv4 address") from None
    return text


def _to_idna(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidRequest(f"{host!r} is not a host name") from None


def _parse_path(text: str) -> str:
    """Check a path with its query, of which either part may be missing."""
    path = text if text.startswith("/") else "/" + text
    whole = _PATH.match(path)
    end = whole.end() if whole else 0
    if end < len(path):
        raise InvalidRequest(f"{_reason(path, end)} (at {end} of the path)")
    return path


def _reason(path: str, at: int) -> str:
    """Say what is wrong with the character that a path cannot have."""
    if path[at] == "#":
        return "the address has a fragment, which is never sent"
    if path[at] == "%":
        return "a percent sign without two hex digits; a literal one is written %25"
    return f"the path has the character {path[at]!r}; percent-encode it"
