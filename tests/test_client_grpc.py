"""A gRPC server with its default enforcement: what PINGs it bears, and what it says to more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from struct import Struct

import pytest

from dynamo_h2 import HttpRequestClient
from tests.behaviours import patient, until
from tests.peers.process import Address, running

pytest.importorskip("grpc")

KIB = 1024
HEADERS = {"content-type": "application/grpc", "te": "trailers"}
HEAD = Struct(">BL")

# A gRPC server counts a strike for a PING that comes sooner than five minutes after the last one,
# unless it has sent HEADERS or DATA since, and closes at the third.
STRIKES = 3


@pytest.fixture(scope="module")
def grpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gRPC server."""

    def command(address: Address) -> list[str]:
        return [sys.executable, "-m", "bench.grpc_server", str(address.port)]

    with running(command, tmp_path_factory.mktemp("grpc")) as (_, address):
        yield f"http://127.0.0.1:{address.port}"


async def echo(client: HttpRequestClient, base: str, size: int) -> None:
    """Call a method that sends its message back."""
    message = HEAD.pack(0, size) + bytes(size)
    url = f"{base}/bench.Worker/echo"
    async with client.stream("POST", url, body=message, headers=HEADERS) as response:
        assert await response.aread() == message
        assert response.trailers["grpc-status"] == "0"


def rounds(client: HttpRequestClient) -> int:
    """How many times the server asked for calm, by what the interval has become."""
    (interval,) = client.stats().keep_alive_intervals.values()
    return round(interval / client.config.keep_alive_interval).bit_length() - 1  # type: ignore[operator]


async def test_transfers_and_pauses_earn_no_word(grpc: str) -> None:
    """Windows that are small and adaptive are sampled all the time."""
    windows = {"initial_stream_window": 64 * KIB, "initial_connection_window": 128 * KIB}
    pings = 0
    async with HttpRequestClient(patient(**windows)) as client:
        for number in range(16):
            await asyncio.gather(*(echo(client, grpc, 512 * KIB) for _ in range(4)))
            assert client._pool is not None
            (protocol,) = client._pool._open
            pings = protocol.connection._keep_alive._pings
            await asyncio.sleep(0.12 + 0.01 * number)
        stats = client.stats()
    assert pings > STRIKES, "nothing was put to the test"
    assert stats.keep_alive_intervals == {}
    assert (stats.errors, stats.retries, stats.connections_opened) == (0, 0, 1)


async def test_idling_earns_it_and_doubles_the_interval_and_loses_no_request(grpc: str) -> None:
    async with HttpRequestClient(patient(keep_alive_interval=0.05)) as client:
        for times in range(1, 4):
            await echo(client, grpc, 1 * KIB)
            await until(lambda times=times: client.stats().connections_closed == times)  # type: ignore[misc]
            assert rounds(client) == times
        for _ in range(10):
            await echo(client, grpc, 1 * KIB)
        assert (client.stats().errors, client.stats().connections_opened) == (0, 4)
