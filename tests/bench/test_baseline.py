"""The baseline: frozen, and honest about what it gets back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from bench.adapters.bare_h2 import BareClient, open_client
from bench.environment import baseline_digest
from bench.payloads import TOKEN, pattern
from bench.servers import serving

# Every ratio that was ever published is a ratio to this source. It changes only together with all
# of them: measure everything again, and say so in the changelog.
FROZEN = "d7e2d646f334e4fe11da8c1cd8cf985b2574ed634bf4fd88e3428d27266af11a"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("granian", None) as url:
        yield url


def test_source_of_the_baseline_is_frozen() -> None:
    assert baseline_digest() == FROZEN


async def test_baseline_sends_and_receives_every_byte(url: str) -> None:
    client = await open_client(1)
    payload = pattern(3 * 1024 * 1024)
    assert await client.send("POST", f"{url}/v1/rpc/generate", payload[:1024]) == b""
    digest = await client.send("POST", f"{url}/hash", payload)
    assert digest.decode() == hashlib.sha256(payload).hexdigest()
    assert await client.send("POST", f"{url}/echo", payload) == payload
    await client.close()


async def test_baseline_streams_more_than_its_windows_hold(url: str) -> None:
    client = await open_client(1)
    length = 40 * 1024 * 1024
    digest = hashlib.sha256()
    async for chunk in client.stream("GET", f"{url}/bytes/{length}"):
        digest.update(chunk)
    assert digest.digest() == hashlib.sha256(pattern(length)).digest()
    await client.close()


async def test_baseline_carries_more_requests_than_the_peer_has_slots(url: str) -> None:
    client = await open_client(3000)
    await client.send("POST", f"{url}/v1/rpc/generate", b"x")
    sends = (client.send("POST", f"{url}/echo", b"%d" % number) for number in range(3000))
    assert await asyncio.gather(*sends) == [b"%d" % number for number in range(3000)]
    await client.close()


async def test_baseline_refuses_other_statuses(url: str) -> None:
    client = await open_client(1)
    with pytest.raises(ConnectionError, match="404"):
        await client.send("GET", f"{url}/nowhere")
    with pytest.raises(ConnectionError, match="404"):
        await read(client, f"{url}/nowhere")
    await client.close()


async def test_stream_that_is_left_early_harms_no_other(url: str) -> None:
    client = await open_client(2)
    left = client.stream("GET", f"{url}/tokens?count=1000&interval_ms=1")
    assert await anext(left) == TOKEN
    await left.aclose()
    assert await read(client, f"{url}/tokens?count=10&interval_ms=0") == TOKEN * 10
    await client.close()


async def read(client: BareClient, url: str) -> bytes:
    return b"".join([chunk async for chunk in client.stream("GET", url)])
