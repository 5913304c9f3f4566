"""The real servers: what each one offers, and how it is run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.worker import pattern
from tests.peers.process import Address, ServerProcess, accepts, running, speaks_http2
from tests.peers.tls import Certificates

CAPABILITIES: Mapping[str, str] = {
    "rpc": "POST /v1/rpc/<endpoint> is answered with 202 and no body",
    "echo": "POST /echo is answered with the request's body",
    "full_duplex": "POST /echo answers while the request's body is still under way",
    "hash": "POST /hash is answered with the body's SHA-256 in hex",
    "headers": "/headers is answered with the request's headers, a JSON list of pairs",
    "status": "/status/<n> is answered with status n, for each n in STATUSES",
    "bytes": "GET /bytes/<n> is answered with pattern(n), for each n in SIZES",
    "path": "GET /path/<anything> is answered with the path",
    "put": "PUT /put/<name> keeps the body, and GET gives it back",
    "stream": "/tokens?count=&interval_ms= streams server-sent events",
    "slow_read": "POST /slow_read?pause_ms= reads the body with pauses",
    "hang": "/hang is never answered",
    "overloaded": "/overloaded is answered with 503 and 'Server overloaded: …'",
    "cancelled": "/cancelled is answered with the number of requests that clients gave up on",
    "informational": "POST /early with `expect: 100-continue` is answered with a 1xx, then 200",
    "trailers": "POST /trailers of TRAILED with `te: trailers` ends with the trailer x-sha256",
}
"""What a server may offer, in the words that tests ask for it."""

SIZES = (0, 1, 1000, 1 << 10, 1 << 14, 1 << 16, 1 << 20, 1 << 24)
STATUSES = (200, 204, 400, 404, 418, 500, 503)
TRAILED = b"a body with trailers"
TRAILED_SHA256 = hashlib.sha256(TRAILED).hexdigest()
OVERLOADED = "Server overloaded: the queue is full"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server.

    Args:
        lacks: What it cannot do, each with the reason; all other capabilities it has.
        executable: The program, where it is not a Python package.
        package: The apt package that brings the program.
    """

    lacks: Mapping[str, str]
    executable: str = ""
    package: str = ""

    @property
    def capabilities(self) -> frozenset[str]:
        """What it offers."""
        return frozenset(CAPABILITIES) - self.lacks.keys()

    def program(self) -> str:
        """The path of the executable; skips the test where it is missing."""
        path = shutil.which(self.executable, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{self.executable} is missing: sudo apt-get install {self.package}")
        return path


_ASGI_ONLY = {"put": "the worker keeps nothing"}
_STATIC_ONLY = "it serves files and runs no application"
_NGINX = Kind(
    {
        **dict.fromkeys(("hash", "headers", "stream", "slow_read", "hang"), _STATIC_ONLY),
        **dict.fromkeys(("echo", "full_duplex", "cancelled"), _STATIC_ONLY),
        "informational": "it ignores `expect` in HTTP/2 and has no early hints",
        "trailers": "it sends trailers only for an upstream",
    },
    "nginx",
    "nginx",
)

KINDS: Mapping[str, Kind] = {
    "granian": Kind(
        {
            **_ASGI_ONLY,
            "informational": "its ASGI has no early hints",
            "trailers": "its ASGI has no trailers",
        }
    ),
    "hypercorn": Kind(_ASGI_ONLY),
    "nghttpd": Kind(
        {
            **dict.fromkeys(("rpc", "put"), "it answers every upload with the upload"),
            **dict.fromkeys(("hash", "headers", "path", "stream"), _STATIC_ONLY),
            **dict.fromkeys(("slow_read", "hang", "overloaded", "cancelled"), _STATIC_ONLY),
            "full_duplex": "it echoes a body once it has all of it",
            "status": "it knows 200, 304, 400, 404 and 405 only",
        },
        "nghttpd",
        "nghttp2-server",
    ),
    "nginx": _NGINX,
    "nginx_tls": _NGINX,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server.

    Args:
        name: Its kind.
        base: What a request's path is appended to: `http://127.0.0.1:port`, `unix:/path:`, ….
        capabilities: What it offers, in the words of CAPABILITIES.
        address: Where it listens.
        process: The running program, for tests that end it or look at it.
        certificates: What a client needs to reach it by TLS.
    """

    name: str
    base: str
    capabilities: frozenset[str]
    address: Address
    process: ServerProcess
    certificates: Certificates | None = None

    def url(self, path: str) -> str:
        """The address of a path on this server."""
        return self.base + path

    @property
    def authority(self) -> str:
        """`host:port`, or `localhost` behind a Unix socket."""
        return "localhost" if self.address.socket_path else f"127.0.0.1:{self.address.port}"


def servers_with(*capabilities: str) -> Sequence[object]:
    """Parameters for the fixture `peer`: every server, marked with the reason where it can't.

    Args:
        capabilities: What the test needs, in the words of CAPABILITIES.
    """
    if unknown := set(capabilities) - CAPABILITIES.keys():
        raise ValueError(f"{unknown} is no capability")
    parameters = []
    for name, kind in KINDS.items():
        reasons = [
            f"{name}: {kind.lacks[wanted]}" for wanted in capabilities if wanted in kind.lacks
        ]
        marks = [pytest.mark.xfail(reason=reasons[0], run=False)] if reasons else []
        parameters.append(pytest.param(name, marks=marks))
    return parameters


def make_site(directory: Path) -> Path:
    """Write the files that nginx and nghttpd serve."""
    (directory / "bytes").mkdir(parents=True)
    for size in SIZES:
        (directory / "bytes" / str(size)).write_bytes(pattern(size))
    (directory / "put").mkdir()
    return directory


def _peer(
    name: str,
    started: tuple[ServerProcess, Address],
    certificates: Certificates | None = None,
) -> Peer:
    process, address = started
    scheme = "http" if certificates is None else "https"
    base = f"{scheme}://127.0.0.1:{address.port}"
    if address.socket_path is not None:
        base = f"unix:{address.socket_path}:"
    return Peer(name, base, KINDS[name].capabilities, address, process, certificates)


@contextlib.contextmanager
def run_granian(
    directory: Path,
    *options: str,
    unix: bool = False,
    certificates: Certificates | None = None,
) -> Iterator[Peer]:
    """Run the example worker under granian; with certificates, it wants one of the client."""

    def command(address: Address) -> list[str]:
        where = ["--uds", address.socket_path] if address.socket_path else []
        tls = _granian_tls(certificates) if certificates else []
        return [
            *(sys.executable, "-m", "granian", "--interface", "asgi", "--http", "2"),
            *("--loop", "uvloop", "--host", "127.0.0.1", "--port", str(address.port or 1)),
            *("--workers-kill-timeout", "1", *where, *tls, *options, "examples.worker:app"),
        ]

    answers = accepts if certificates else speaks_http2
    with running(command, directory, answers, unix=unix) as started:
        yield _peer("granian", started, certificates)


def _granian_tls(files: Certificates) -> list[str]:
    return [
        *("--ssl-certificate", str(files.server), "--ssl-keyfile", str(files.server_key)),
        *("--ssl-ca", str(files.authority), "--ssl-client-verify"),
    ]


@contextlib.contextmanager
def run_hypercorn(directory: Path, *options: str) -> Iterator[Peer]:
    """Run the example worker under hypercorn."""

    def command(address: Address) -> list[str]:
        bind = f"127.0.0.1:{address.port}"
        hypercorn = [sys.executable, "-m", "hypercorn", "--worker-class", "uvloop"]
        return [*hypercorn, "--bind", bind, "--graceful-timeout", "0", *options, "examples.worker"]

    with running(command, directory) as started:
        yield _peer("hypercorn", started)


@contextlib.contextmanager
def run_nghttpd(directory: Path, site: Path, *options: str) -> Iterator[Peer]:
    """Run nghttpd, which serves `site` and echoes uploads."""
    program = KINDS["nghttpd"].program()

    def command(address: Address) -> list[str]:
        return [
            *(program, "--no-tls", "--address=127.0.0.1", f"--htdocs={site}", "--echo-upload"),
            *(f"--trailer=x-sha256: {TRAILED_SHA256}", *options, str(address.port)),
        ]

    with running(command, directory) as started:
        yield _peer("nghttpd", started)


@contextlib.contextmanager
def run_nginx(
    directory: Path,
    site: Path,
    certificates: Certificates | None = None,
    *,
    ask_client: bool = False,
    settings: str = "",
) -> Iterator[Peer]:
    """Run nginx, which serves `site`.

    Args:
        directory: For its configuration and all that it writes.
        site: Its files.
        certificates: Serve TLS with these.
        ask_client: Want a client's certificate, and TLS 1.3.
        settings: More lines for the `http` block.
    """
    program = KINDS["nginx"].program()
    config = directory / "nginx.conf"

    def command(address: Address) -> list[str]:
        tls = _nginx_tls(certificates, ask_client) if certificates else ""
        config.write_text(_nginx_config(directory, site, address.port, tls, settings))
        return [program, "-p", str(directory), "-e", "stderr", "-c", str(config)]

    answers = accepts if certificates else speaks_http2
    with running(command, directory, answers) as started:
        yield _peer("nginx_tls" if certificates else "nginx", started, certificates)


def _nginx_tls(files: Certificates, ask_client: bool) -> str:
    verify = f"ssl_client_certificate {files.authority}; ssl_verify_client on;"
    return f"""
    ssl_certificate {files.server};
    ssl_certificate_key {files.server_key};
    ssl_protocols {"TLSv1.3" if ask_client else "TLSv1.2 TLSv1.3"};
    {verify if ask_client else ""}"""


def _nginx_config(directory: Path, site: Path, port: int, tls: str, settings: str) -> str:
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n  ".join(f"{name}_temp_path {directory}/{name};" for name in temporary)
    statuses = "\n    ".join(
        f'location = /status/{status} {{ return {status} ""; }}' for status in STATUSES
    )
    return f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
  {paths}
  {settings}
  access_log off;
  client_max_body_size 0;
  default_type application/octet-stream;
  root {site};
  server {{
    listen 127.0.0.1:{port} {"ssl " if tls else ""}http2;{tls}
    location /v1/rpc/ {{ return 202; }}
    location /path/ {{ return 200 $request_uri; }}
    location /put/ {{ dav_methods PUT; }}
    location = /overloaded {{ return 503 "{OVERLOADED}"; }}
    {statuses}
  }}
}}
"""
