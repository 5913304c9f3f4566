"""The adapters: what each of them takes for a success, and how bodies are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import uvloop

from bench.adapter import BASELINE, Adapter, Chunked, reading
from bench.clients import CLIENTS
from bench.servers import GRANIAN_OPTIONS
from examples.local_worker import local_worker
from tests.bench.statuses import BODY

HERE = [c for c in CLIENTS if c.missing is None and not c.program and not c.only]
PLAIN = [client for client in HERE if client.own_server is None]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = "tests.bench.statuses:app"
    with local_worker(*GRANIAN_OPTIONS, app=app, interface="rsgi") as url:
        yield f"{url}/status"


async def send(adapter: Adapter, url: str) -> bytes:
    async with adapter.client(1) as client:
        return bytes(await client.send("POST", url, b"x"))


async def read(adapter: Adapter, url: str) -> bytes:
    async with adapter.client(1) as client, reading(client, "GET", url) as chunks:
        return b"".join([bytes(chunk) async for chunk in chunks])


@pytest.mark.parametrize("status", [301, 304, 404])
@pytest.mark.parametrize("adapter", PLAIN, ids=lambda adapter: adapter.name)
def test_every_client_refuses_what_is_no_success(adapter: Adapter, status: int, url: str) -> None:
    # The libraries' own exceptions have no common base.
    with pytest.raises(Exception, match=rf"\b{status}\b"):
        uvloop.run(send(adapter, f"{url}/{status}"))
    with pytest.raises(Exception, match=rf"\b{status}\b"):
        uvloop.run(read(adapter, f"{url}/{status}"))


@pytest.mark.parametrize("adapter", PLAIN, ids=lambda adapter: adapter.name)
def test_every_client_takes_a_success(adapter: Adapter, url: str) -> None:
    assert uvloop.run(send(adapter, f"{url}/202")) == BODY.encode()
    assert uvloop.run(read(adapter, f"{url}/200")) == BODY.encode()


async def has_iterator(adapter: Adapter) -> bool:
    async with adapter.client(1) as client:
        return isinstance(client, Chunked)


def test_bodies_are_read_from_the_iterators_that_libraries_have() -> None:
    without = {adapter.name for adapter in HERE if not uvloop.run(has_iterator(adapter))}
    assert without <= {BASELINE, "pycurl", "pyreqwest"}
