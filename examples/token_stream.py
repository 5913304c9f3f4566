"""Reads half of a token stream, leaves, and shows that the worker stopped.

python -m examples.token_stream
"""

from __future__ import annotations

import asyncio
import json

import uvloop

from dynamo_h2 import HttpRequestClient
from examples.local_worker import local_worker

TOKENS = 100


async def main(url: str) -> None:
    """Reads half of the tokens, then waits until the worker has noticed."""
    async with HttpRequestClient.from_env() as client:
        words: list[str] = []
        async with client.stream("GET", f"{url}/tokens?count={TOKENS}&interval_ms=10") as response:
            async for event in response.aiter_sse():
                words.append(json.loads(event.data)["token"])
                if len(words) == TOKENS // 2:
                    break  # leaving the block resets the stream; the connection lives on
        print(" ".join(words))
        print(f"read {len(words)} of {TOKENS} tokens and left")

        counts = await until_stopped(client, url)
        print(f"the worker stopped: {counts['cancelled']} cancelled, {counts['running']} running")
        print(f"all of it on {client.stats().connections_opened} connection")


async def until_stopped(client: HttpRequestClient, url: str) -> dict[str, int]:
    """Asks the worker until nothing runs there any more."""
    async with asyncio.timeout(10):
        while True:
            counts: dict[str, int] = (await client.request("GET", f"{url}/cancelled")).json()
            if counts["running"] == 0:
                return counts


if __name__ == "__main__":
    with local_worker() as worker_url:
        uvloop.run(main(worker_url))
