"""The workers of the drill: three granian, one hypercorn, two scripted, each behind a link."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.drill.app import LOG
from bench.drill.waiting import until
from tests.peers.link import Link, run_link
from tests.peers.process import Address, ServerProcess, free_port, speaks_http2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

UP_WITHIN: Final = 20.0
DOWN_WITHIN: Final = 5.0

# After a thousand requests on a connection hypercorn sends GOAWAY, closes its state machine with
# it, takes the frames of the streams that it has open for errors, and drops them.
HYPERCORN: Final = """\
bind = "127.0.0.1:{port}"
worker_class = "uvloop"
graceful_timeout = 2
keep_alive_max_requests = 1000000000
"""


class Spec(NamedTuple):
    """A worker's name and what it is made of."""

    name: str
    kind: str

    @property
    def scripted(self) -> bool:
        """Whether it can be told what to do."""
        return self.kind == "scripted"


WORKERS: Final = (
    Spec("granian-1", "granian"),
    Spec("granian-2", "granian"),
    Spec("granian-3", "granian"),
    Spec("hypercorn", "hypercorn"),
    Spec("scripted-1", "scripted"),
    Spec("scripted-2", "scripted"),
)


@dataclass(slots=True)
class Worker:
    """A worker that can be ended and started again, at the same port and with the same log.

    Args:
        spec: what it is.
        folder: for its log and all else that it writes.
    """

    spec: Spec
    folder: Path
    port: int = field(default_factory=free_port)
    process: ServerProcess | None = None

    @property
    def log(self) -> Path:
        """The file of what it has executed."""
        return self.folder / f"{self.spec.name}.log"

    @property
    def control(self) -> Path:
        """The socket that takes commands for a scripted worker."""
        return self.folder / f"{self.spec.name}.control"

    def start(self) -> None:
        """Starts the process, without waiting."""
        output = self.folder / f"{self.spec.name}.out"
        self.process = ServerProcess(self._command(), output, {LOG: str(self.log)})

    async def until_up(self) -> None:
        """Waits until it answers in HTTP/2.

        Raises:
            RuntimeError: it ended instead, or took too long.
        """
        give_up = time.monotonic() + UP_WITHIN
        address = Address(self.port)
        while not await asyncio.to_thread(speaks_http2, address):
            assert self.process is not None
            if not self.process.running or time.monotonic() > give_up:
                said = self.process.log.read_text(errors="replace")
                raise RuntimeError(f"{self.spec.name} did not start:\n{said}")
            await asyncio.sleep(0.02)

    async def restart(self) -> None:
        """Asks it to end in order, and starts it again at once."""
        assert self.process is not None
        self.process.signal(signal.SIGTERM)
        process = self.process
        await until(lambda: not process.running, DOWN_WITHIN)
        await self.kill()

    async def kill(self) -> None:
        """Ends it as a crash does, and starts it again."""
        assert self.process is not None
        self.process.kill()
        self.start()
        await self.until_up()

    async def stand_still(self, seconds: float) -> None:
        """Stops it for a while."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.process.signal(signal.SIGCONT)

    def tell(self, command: str) -> None:
        """Gives a scripted worker a command; one that is not there does not hear it."""
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
            contextlib.suppress(ConnectionError, FileNotFoundError),
        ):
            sock.sendto(command.encode(), str(self.control))

    def end(self) -> None:
        """Ends it for good."""
        if self.process is not None:
            self.process.kill()

    def _command(self) -> Sequence[str]:
        python = sys.executable
        if self.spec.scripted:
            where = (str(self.port), str(self.log), str(self.control))
            return (python, "-m", "bench.drill.scripted", *where)
        if self.spec.kind == "hypercorn":
            config = self.folder / "hypercorn.toml"
            config.write_text(HYPERCORN.format(port=self.port), encoding="ascii")
            return (python, "-m", "hypercorn", "--config", str(config), "bench.drill.app:app")
        return (
            *(python, "-m", "granian", "--interface", "asgi", "--http", "auto"),
            *("--loop", "uvloop", "--workers", "1", "--workers-kill-timeout", "2"),
            *("--backpressure", "4096", "--log-level", "warning"),
            *("--host", "127.0.0.1", "--port", str(self.port), "bench.drill.app:app"),
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A worker and the link before it.

    Args:
        worker: the worker.
        link: what its clients connect to.
        host: the address of the link; all links have the same port.
    """

    worker: Worker
    link: Link
    host: str


@contextlib.asynccontextmanager
async def run_sites(folder: Path, specs: Sequence[Spec]) -> AsyncIterator[list[Site]]:
    """Runs workers, each behind a link of its own, for the length of a block.

    The links are at addresses of their own and share a port, so that a name can move from one to
    another as it does when a pod is replaced.
    """
    workers = [Worker(spec, folder) for spec in specs]
    port = free_port()
    try:
        for worker in workers:
            worker.start()
        async with contextlib.AsyncExitStack() as stack:
            sites = []
            for number, worker in enumerate(workers, 1):
                host = f"127.0.1.{number}"
                running = run_link("127.0.0.1", worker.port, listen=(host, port))
                sites.append(Site(worker, await stack.enter_async_context(running), host))
            for worker in workers:
                await worker.until_up()
            yield sites
    finally:
        for worker in workers:
            worker.end()
