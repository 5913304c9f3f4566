"""What a client must offer to be measured, and how one is found.

An adapter is a module of ``bench.adapters`` with one coroutine, ``open_client``. It configures its
library as its documentation says for HTTP/2 with prior knowledge, and nothing more: what is
measured is what a user gets.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Mapping,
    )
    from contextlib import AbstractAsyncContextManager

    from bench.workload import Workload

Kind = Literal["send", "stream", "bulk", "hosts"]
BASELINE: Final = "bare-h2"


class WrongReply(Exception):
    """A client returned something else than the server sent: it is disqualified."""


def check_status(status: int) -> None:
    """Refuses what is no success, for libraries that take a redirection for one.

    Raises:
        WrongReply: the status is not 2xx.
    """
    if not 200 <= status < 300:
        raise WrongReply(f"status {status}")


def check_end(last: bytes, end: bytes) -> None:
    """Checks the last chunk of a body that is not empty, as far as it goes.

    Raises:
        WrongReply: there is none, or it does not end as the body does.
    """
    if not last or not end.endswith(bytes(memoryview(last)[-len(end) :])):
        raise WrongReply("a body ended otherwise than the server sent it")


class Client(Protocol):
    """A library behind the three calls that the workloads make."""

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Sends one request and returns the body of a 2xx response; anything else raises."""

    def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Sends one request and yields the body of a 2xx response as it arrives; else raises."""

    async def close(self) -> None:
        """Closes all connections."""


def reading(
    client: Client, method: str, url: str
) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
    """Returns a block in which the body of a response is read.

    Where its library has an iterator of its own, it is that of the client's ``chunks``: what is
    read takes no other way then than for its users.
    """
    if isinstance(client, Chunked):
        return client.chunks(method, url)
    return contextlib.aclosing(cast("AsyncGenerator[bytes]", client.stream(method, url)))


@runtime_checkable
class Chunked(Protocol):
    """A client whose library hands out an iterator of its own."""

    def chunks(self, method: str, url: str) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
        """Sends one request, and gives the iterator over the body of a 2xx response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A client that can be measured.

    Args:
        name: what tables call it.
        module: the module of ``bench.adapters`` that has ``open_client``.
        library: the module to import, to see whether it is installed.
        program: the program instead, for a load generator that is none of Python's.
        packages: the distributions whose versions stand in the results.
        cannot: the kinds of workload and the servers that are not for it, and why.
        own_server: the server that it is measured with in place of granian.
        options: keywords for ``open_client``, for variants of one client.
        only: the workloads that a variant is for; empty for all.
    """

    name: str
    module: str
    library: str = ""
    program: str = ""
    packages: tuple[str, ...] = ()
    cannot: Mapping[str, str] = field(default_factory=dict)
    own_server: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    only: frozenset[str] = frozenset()

    @property
    def missing(self) -> str | None:
        """Returns why it cannot be measured here, or None when it can."""
        if self.program:
            return None if shutil.which(self.program) else f"{self.program} is not installed"
        found = importlib.util.find_spec(self.library)
        return None if found else f"{self.library} is not installed"

    def server_for(self, workload: Workload) -> str | None:
        """Returns the kind of server to measure it with, or None where it cannot take part."""
        if not self.is_for(workload) or self.why_not(workload):
            return None
        return self.own_server or workload.server

    def is_for(self, workload: Workload) -> bool:
        """Whether it is meant for a workload: a variant only for what it shows."""
        return not self.only or workload.name in self.only

    def why_not(self, workload: Workload) -> str | None:
        """Returns why it cannot take part in a workload, or None when it can."""
        if self.program and workload.load is None:
            return "a load generator repeats one request, and that is not all of it"
        if self.own_server and workload.server != "granian":
            return f"it is measured with a server of its own, not with {workload.server}"
        return self.cannot.get(workload.kind) or self.cannot.get(workload.server)

    @contextlib.asynccontextmanager
    async def client(self, in_flight: int) -> AsyncIterator[Client]:
        """Makes a client for up to ``in_flight`` requests at a time, and closes it afterwards."""
        module = importlib.import_module(f"bench.adapters.{self.module}")
        open_client = cast("Callable[..., Awaitable[Client]]", module.open_client)
        client = await open_client(in_flight, **self.options)
        try:
            yield client
        finally:
            await client.close()

    def versions(self) -> dict[str, str]:
        """Returns the versions of what it is made of."""
        if self.program:
            command = [self.program, "--version"]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            return {self.program: told.stdout.partition(" ")[2].strip()}
        return {package: version_of(package) for package in self.packages}


def version_of(package: str) -> str:
    """Returns the version of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
