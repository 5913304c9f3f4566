"""The servers, each on a core of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.addresses import HOST_ADDRESSES
from bench.environment import pin
from bench.payloads import pattern
from bench.workloads.unary import PATH
from examples.local_worker import free_port, local_worker, process_group, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# granian's own default of 200 would compare how clients wait for a slot.
GRANIAN_OPTIONS: Final = (
    *("--http", "auto"),
    *("--http2-max-concurrent-streams", "2000"),
    *("--backlog", "4096"),
    *("--backpressure", "4096"),
)


FILES: Final[Mapping[str, int]] = {PATH: 0, "/bytes/67108864": 67_108_864}  # path: length
NGINX: Final = """
daemon off;
pid %s/nginx.pid;
worker_processes 1;
error_log stderr crit;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 2000;
    server {
        %s
        location / { return 202; }
    }
}
"""


@contextlib.contextmanager
def serving(server: str, core: int | None) -> Iterator[str]:
    """Runs a server of this kind on this core, and yields its URL."""
    with contextlib.ExitStack() as stack:
        with staying_on(core):
            url = stack.enter_context(_SERVERS[server]())
        yield url


def granian() -> contextlib.AbstractContextManager[str]:
    """Runs the RSGI application of this package with one granian worker."""
    return local_worker(*GRANIAN_OPTIONS, app="bench.app:app", interface="rsgi")


@contextlib.contextmanager
def grpc_aio() -> Iterator[str]:
    """Runs the gRPC server of this package."""
    port = free_port()
    with process_group([sys.executable, "-m", "bench.grpc_server", str(port)]) as process:
        wait_for_port(process, port)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nghttpd() -> Iterator[str]:
    """Runs nghttpd with files at the paths of the workloads."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        for path, length in FILES.items():
            file = Path(folder + path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(pattern(length))
        command = [program("nghttpd"), "--no-tls", "-a", "127.0.0.1", "-d", folder, "-m", "2000"]
        with process_group([*command, str(port)]) as process:
            wait_for_port(process, port)
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    """Runs nginx as a hundred hosts, each on an address of its own."""
    port = free_port()
    listen = "".join(f"listen {address}:{port} http2;\n" for address in HOST_ADDRESSES)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nginx.conf").write_text(NGINX % (folder, listen), encoding="ascii")
        command = [program("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        with process_group(command) as process:
            wait_for_port(process, port, HOST_ADDRESSES[-1])
            yield f"http://{HOST_ADDRESSES[0]}:{port}"


def program(name: str) -> str:
    """Returns the path of a server's program; system folders count though the PATH lacks them."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is missing: sudo apt-get install {_PACKAGES[name]}")
    return path


def missing(server: str) -> str | None:
    """Returns why a server cannot be run here, or None when it can."""
    try:
        if server in _PACKAGES:
            program(server)
    except FileNotFoundError as error:
        return str(error)
    return None


@contextlib.contextmanager
def staying_on(core: int | None) -> Iterator[None]:
    """Keeps this thread on one core for a while: what it starts meanwhile stays there."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    pin(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_SERVERS: Final = {
    "granian": granian,
    "grpc.aio": grpc_aio,
    "nghttpd": nghttpd,
    "nginx": nginx,
}
_PACKAGES: Final = {"nghttpd": "nghttp2-server", "nginx": "nginx"}
