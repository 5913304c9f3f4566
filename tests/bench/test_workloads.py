"""The workloads: which there are, and what they take for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from bench.adapter import WrongReply
from bench.child import describe
from bench.payloads import TOKEN, pattern
from bench.workloads import WORKLOADS, memory
from bench.workloads.bulk import fetch
from bench.workloads.mix import LENGTH as LENGTH_BESIDE
from bench.workloads.mix import downloading
from bench.workloads.tokens import Reader

LENGTH = 1000
BODY = pattern(LENGTH)
URL = "http://nowhere"


class Canned:
    """A client that has its answer already."""

    def __init__(self, *chunks: bytes | memoryview) -> None:
        self._chunks = chunks

    async def send(self, method: str, url: str, body: bytes = b"") -> bytes:
        return b"".join(self._chunks)

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield cast("bytes", chunk)  # some libraries hand out views

    async def close(self) -> None:
        pass


class Slow(Canned):
    """A client whose chunks come one turn of the loop after the other."""

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        async for chunk in super().stream(method, url, body):
            await asyncio.sleep(0)
            yield chunk


@pytest.mark.parametrize("cut", [1, 500, 990, 999])
async def test_download_is_taken_in_chunks_of_any_size(cut: int) -> None:
    await fetch(Canned(BODY[:cut], BODY[cut:]), URL, LENGTH)
    await fetch(Canned(b"", memoryview(BODY)), URL, LENGTH)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((BODY[:-1],), "999 bytes came of 1000"),
        ((BODY, b"x"), "1001 bytes came of 1000"),
        ((BODY[1:], b"x"), "ended otherwise"),
        ((BODY[500:], BODY[:500]), "ended otherwise"),
        ((), "0 bytes came of 1000"),
    ],
)
async def test_download_of_another_length_or_end_is_refused(
    chunks: tuple[bytes, ...], message: str
) -> None:
    with pytest.raises(WrongReply, match=message):
        await fetch(Canned(*chunks), URL, LENGTH)


async def test_token_stream_of_another_length_or_end_is_refused() -> None:
    reader = Reader(Canned(TOKEN, TOKEN * 2))
    await reader.read(URL, 3)
    assert (reader.tokens, len(reader.first), len(reader.gaps)) == (3, 1, 1)
    with pytest.raises(WrongReply, match="bytes came of"):
        await reader.read(URL, 4)
    with pytest.raises(WrongReply, match="ended otherwise"):
        await Reader(Canned(TOKEN, TOKEN[::-1])).read(URL, 2)


async def test_downloads_beside_requests_are_counted_and_come_to_their_ends() -> None:
    async with downloading(Slow(pattern(LENGTH_BESIDE)), URL) as downloads:
        for _ in range(10):
            await asyncio.sleep(0)
    assert downloads.received > 0
    assert downloads.received % LENGTH_BESIDE == 0


async def test_download_that_fails_ends_what_goes_on_beside_it() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with downloading(Slow(b"short"), URL):
            await asyncio.sleep(60)
    assert "WrongReply: 5 bytes came of" in describe(caught.value)


class Refused(Canned):
    """A client whose requests are refused."""

    async def stream(self, method: str, url: str, body: bytes = b"") -> AsyncIterator[bytes]:
        async for chunk in super().stream(method, url, body):
            yield chunk
        raise WrongReply("status 404")


@pytest.mark.parametrize(
    ("client", "message"), [(Canned(), "0 of 3 streams were open"), (Refused(), "status 404")]
)
async def test_client_that_holds_too_few_streams_says_why(
    client: Canned, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "OPENING", 0.01)
    with pytest.raises((TimeoutError, WrongReply), match=message):
        async with memory.holding(client, URL, 3):
            pass
    async with memory.holding(Canned(b"x"), URL, 3):
        pass


def test_every_workload_that_is_spoken_of_is_there() -> None:
    assert {workload.name for workload in WORKLOADS} == {
        *("unary-1", "unary-32", "unary-256", "unary-1000"),
        *("echo-64k-16", "upload-16", "download-64"),
        *("tokens-64", "tokens-paced-64", "tokens-paced-512"),
        *("connect", "hosts-100", "mix", "memory-connection", "memory-stream"),
        *("nghttpd-unary-32", "nghttpd-unary-256", "nghttpd-download-64"),
    }
