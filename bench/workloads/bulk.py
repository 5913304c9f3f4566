"""Large bodies, one at a time in each direction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.adapter import WrongReply
from bench.measure import measure
from bench.payloads import pattern, payload
from bench.workloads.unary import check_upload

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """One POST after another with a large body."""

    mebibytes: int
    unit: ClassVar[str] = "MiB"
    kind: ClassVar[Kind] = "bulk"

    @property
    def name(self) -> str:
        """The size is part of it."""
        return f"upload-{self.mebibytes}"

    @property
    def title(self) -> str:
        """What is sent."""
        return f"upload of {self.mebibytes} MiB"

    async def run(self, run: Run) -> dict[str, float]:
        """Measures MiB per second."""
        body = payload(run.seed, self.mebibytes * MIB)
        expected, url = str(len(body)).encode(), f"{run.url}/length"
        async with run.adapter.client(1) as client:
            await check_upload(client, run.url, body)

            async def act() -> None:
                if await client.send("POST", url, body) != expected:
                    raise WrongReply("the server received another length")

            return await measure(act, 1, run.seconds, self.mebibytes)


@dataclass(frozen=True, slots=True)
class Download:
    """One GET after another with a large answer, read chunk by chunk."""

    mebibytes: int
    unit: ClassVar[str] = "MiB"
    kind: ClassVar[Kind] = "bulk"

    @property
    def name(self) -> str:
        """The size is part of it."""
        return f"download-{self.mebibytes}"

    @property
    def title(self) -> str:
        """What is fetched."""
        return f"download of {self.mebibytes} MiB"

    async def run(self, run: Run) -> dict[str, float]:
        """Measures MiB per second."""
        length = self.mebibytes * MIB
        async with run.adapter.client(1) as client:
            await check_download(client, run.url, length)

            async def act() -> None:
                received = 0
                async for chunk in client.stream("GET", f"{run.url}/bytes/{length}"):
                    received += len(chunk)
                if received != length:
                    raise WrongReply(f"{received} bytes came of {length}")

            return await measure(act, 1, run.seconds, self.mebibytes)


async def check_download(client: Client, url: str, length: int) -> None:
    """Checks every byte of one body.

    Raises:
        WrongReply: it differs from what the server sent.
    """
    digest = hashlib.sha256()
    async for chunk in client.stream("GET", f"{url}/bytes/{length}"):
        digest.update(chunk)
    if digest.digest() != hashlib.sha256(pattern(length)).digest():
        raise WrongReply("a body came back changed")
