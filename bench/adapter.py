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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Kind = Literal["send", "stream", "bulk"]
BASELINE: Final = "bare-h2"


class WrongReply(Exception):
    """A client returned something else than the server sent: it is disqualified."""


class Client(Protocol):
    """A library behind the three calls that the workloads make."""

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        """Sends one request and returns the body of a 2xx response; anything else raises."""

    def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """Sends one request and yields the body of a 200 response as it arrives."""

    async def close(self) -> None:
        """Closes all connections."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A client that can be measured.

    Args:
        name: what tables call it.
        module: the module of ``bench.adapters`` that has ``open_client``.
        library: the module to import, to see whether it is installed.
        packages: the distributions whose versions stand in the results.
        kinds: which workloads it can take part in.
        server: the kind of server that it speaks to.
    """

    name: str
    module: str
    library: str
    packages: tuple[str, ...]
    kinds: frozenset[Kind] = frozenset({"send", "stream", "bulk"})
    server: str = "granian"

    @property
    def installed(self) -> bool:
        """Whether the library can be imported."""
        return importlib.util.find_spec(self.library) is not None

    @contextlib.asynccontextmanager
    async def client(self, in_flight: int) -> AsyncIterator[Client]:
        """Makes a client for up to ``in_flight`` requests at a time, and closes it afterwards."""
        module = importlib.import_module(f"bench.adapters.{self.module}")
        open_client = cast("Callable[[int], Awaitable[Client]]", module.open_client)
        client = await open_client(in_flight)
        try:
            yield client
        finally:
            await client.close()


def version_of(package: str) -> str | None:
    """Returns the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


ALL_KINDS: Final[frozenset[Kind]] = frozenset({"send", "stream", "bulk"})
GRPC: Final = ALL_KINDS - {"bulk"}  # a message is limited to 4 MiB

ADAPTERS: Final = (
    Adapter("dynamo_h2", "dynamo", "dynamo_h2", ("dynamo-h2", "h2", "hpack", "uvloop")),
    Adapter(BASELINE, "bare_h2", "h2", ("h2", "hpack", "hyperframe", "uvloop")),
    Adapter("httpx", "httpx_", "httpx", ("httpx", "httpcore", "h2")),
    Adapter("httpx2", "httpx2_", "httpx2", ("httpx2", "httpcore2", "h2")),
    Adapter("niquests", "niquests_", "niquests", ("niquests", "urllib3-future", "jh2")),
    Adapter("aiohttp (HTTP/1.1)", "aiohttp_", "aiohttp", ("aiohttp",)),
    Adapter("pycurl", "pycurl_", "pycurl", ("pycurl",)),
    Adapter("curl_cffi", "curl_cffi_", "curl_cffi", ("curl_cffi",)),
    Adapter("pyreqwest", "pyreqwest_", "pyreqwest", ("pyreqwest",)),
    Adapter("grpc.aio", "grpc_aio", "grpc", ("grpcio",), GRPC, "grpc.aio"),
    Adapter("grpclib", "grpclib_", "grpclib", ("grpclib", "h2"), GRPC, "grpc.aio"),
)


def find_adapters(names: list[str] | None) -> tuple[Adapter, ...]:
    """Returns the adapters of these names, in this order; all of them for None.

    Raises:
        LookupError: a name is unknown.
    """
    if names is None:
        return ADAPTERS
    known = {adapter.name: adapter for adapter in ADAPTERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LookupError(f"unknown client {unknown[0]!r}; known are {', '.join(known)}")
    return tuple(known[name] for name in names)
