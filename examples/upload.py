"""Uploads what an async generator yields, and shows how far the worker has let it go.

    python -m examples.upload

The generator runs only as fast as the worker reads: its progress is the worker's progress.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import uvloop
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from dynamo_h2 import HttpRequestClient
from examples.local_worker import local_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE = bytes(range(256)) * 256
PIECES = 512


async def main(url: str) -> None:
    """Uploads 32 MiB, and compares the worker's hash with our own."""
    digest = hashlib.sha256()
    columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task("upload", total=len(PIECE) * PIECES)

        async def body() -> AsyncIterator[bytes]:
            for _ in range(PIECES):
                digest.update(PIECE)
                yield PIECE
                progress.advance(bar, len(PIECE))

        async with HttpRequestClient.from_env() as client:
            response = await client.request("POST", f"{url}/hash", body=body())
    response.raise_for_status()
    same = response.text == digest.hexdigest()
    print("the worker received", "the same bytes" if same else "something else")


if __name__ == "__main__":
    with local_worker() as worker_url:
        uvloop.run(main(worker_url))
