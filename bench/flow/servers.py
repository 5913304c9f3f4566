"""The servers of the scenarios: nginx for downloads, and behind it granian for all else.

nginx, because it stops to read a file when nobody takes what it has read. granian does not: what an
application gives it for a response that is not taken piles up in the server's memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.flow.payload import PIECE
from bench.servers import GRANIAN_OPTIONS, program, serving
from examples.local_worker import free_port, local_worker, process_group, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.flow.setups import Setup

MIB: Final = 1 << 20
FRAMES: Final = ("--http2-max-frame-size", str(MIB))
ENDLESS: Final = 640 * MIB
"""More than any scenario reads."""
NGINX: Final = """
daemon off;
pid %(folder)s/nginx.pid;
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
    keepalive_timeout 1h;
    send_timeout 1h;
    http2_max_concurrent_streams 2000;
    http2_chunk_size 16k;
    server {
        listen 127.0.0.1:%(port)s http2;
        root %(folder)s;
        location /flood/ { }
        location / {
            proxy_pass http://127.0.0.1:%(behind)s;
            proxy_http_version 1.1;
            proxy_buffering off;
        }
    }
}
"""


@contextlib.contextmanager
def worker(*options: str) -> Iterator[str]:
    """Runs granian alone, which takes frames of 1 MiB, and yields its URL."""
    with local_worker(
        *GRANIAN_OPTIONS, *FRAMES, *options, app="bench.flow.app:app", interface="rsgi"
    ) as url:
        yield url


@contextlib.contextmanager
def server(endless: int = ENDLESS) -> Iterator[str]:
    """Runs nginx with floods, and granian behind it, and yields its URL.

    Args:
        endless: bytes of a flood that is not meant to end; another one has 1 MiB.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, worker() as behind:
        Path(folder).chmod(0o755)
        for name, length in ((str(MIB), MIB), ("endless", endless)):
            _write_flood(Path(folder, "flood", name), length)
        names = {"folder": folder, "port": port, "behind": behind.rpartition(":")[2]}
        Path(folder, "nginx.conf").write_text(NGINX % names, encoding="ascii")
        command = [program("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        with process_group(command) as process:
            wait_for_port(process, port)
            yield f"http://127.0.0.1:{port}"


def _write_flood(path: Path, length: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for left in range(length, 0, -len(PIECE)):
            file.write(PIECE[:left])


@contextlib.contextmanager
def server_for(setup: Setup) -> Iterator[str]:
    """Runs the server that a client can talk to."""
    with serving("grpc.aio", None) if setup.name == "grpc.aio" else server() as url:
        yield url
