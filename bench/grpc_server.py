"""The gRPC server that gRPC clients are measured against: ``python -m bench.grpc_server PORT``.

It answers what ``bench.app`` answers, with bytes for messages: the last part of a path is the
method, and a query is the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import grpc.aio
import uvloop

from bench.payloads import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE: Final = "bench.Worker"
FLOOD: Final = bytes(65_536)


def method_of(path: str) -> str:
    """Returns the gRPC method for a path of ``bench.app``."""
    return f"/{SERVICE}/{path.rpartition('/')[2]}"


async def generate(message: bytes, context: object) -> bytes:
    """Accepts a message."""
    return b""


async def echo(message: bytes, context: object) -> bytes:
    """Returns the message."""
    return message


async def digest(message: bytes, context: object) -> bytes:
    """Returns the SHA-256 of the message in hex."""
    return hashlib.sha256(message).hexdigest().encode()


async def tokens(message: bytes, context: object) -> AsyncIterator[bytes]:
    """Yields tokens at the pace that the message asks for."""
    query = parse_qs(message.decode())
    count, interval = int(query["count"][0]), float(query["interval_ms"][0]) / 1000
    clock = asyncio.get_running_loop().time
    begun = clock()
    for index in range(count):
        await asyncio.sleep(max(0.0, begun + index * interval - clock()))
        yield TOKEN


async def flood(message: bytes, context: object) -> AsyncIterator[bytes]:
    """Yields messages of 64 KiB as long as they are taken."""
    while True:
        yield FLOOD


async def serve(port: int) -> None:
    """Serves until SIGTERM."""
    server = grpc.aio.server()
    handlers = {
        "generate": grpc.unary_unary_rpc_method_handler(generate),
        "echo": grpc.unary_unary_rpc_method_handler(echo),
        "hash": grpc.unary_unary_rpc_method_handler(digest),
        "tokens": grpc.unary_stream_rpc_method_handler(tokens),
        "flood": grpc.unary_stream_rpc_method_handler(flood),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(grace=0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
