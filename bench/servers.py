"""The servers, each on a core of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from bench.child import pin
from examples.local_worker import free_port, local_worker, process_group, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

# granian's own default of 200 would compare how clients wait for a slot.
GRANIAN_OPTIONS: Final = (
    *("--http", "auto"),
    *("--http2-max-concurrent-streams", "2000"),
    *("--backlog", "4096"),
    *("--backpressure", "4096"),
)


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


_SERVERS: Final = {"granian": granian, "grpc.aio": grpc_aio}
