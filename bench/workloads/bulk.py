"""Large bodies, one at a time in each direction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from bench.adapter import WrongReply, check_end, reading
from bench.measure import measure
from bench.payloads import pattern
from bench.workload import Load
from bench.workloads.posts import Posts

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run

MIB: Final = 1024 * 1024
END: Final = 64  # bytes of a body that are looked at while the time is taken


def upload(mebibytes: int) -> Posts:
    """Returns one POST after another with a large body."""
    return Posts(
        name=f"upload-{mebibytes}",
        title=f"upload of {mebibytes} MiB",
        path="/length",
        size=mebibytes * MIB,
        in_flight=1,
        unit="MiB",
        units=mebibytes,
        kind="bulk",
    )


@dataclass(frozen=True, slots=True)
class Download:
    """One GET after another with a large answer, read chunk by chunk."""

    mebibytes: int
    server: str = "granian"
    unit: ClassVar[str] = "MiB"
    kind: ClassVar[Kind] = "bulk"

    @property
    def name(self) -> str:
        """The server, where it is not granian, and the size are part of it."""
        prefix = "" if self.server == "granian" else f"{self.server}-"
        return f"{prefix}download-{self.mebibytes}"

    @property
    def title(self) -> str:
        """What is fetched."""
        suffix = "" if self.server == "granian" else f", {self.server}"
        return f"download of {self.mebibytes} MiB{suffix}"

    @property
    def length(self) -> int:
        """Bytes of a body."""
        return self.mebibytes * MIB

    @property
    def load(self) -> Load:
        """The same for an external load generator."""
        return Load(f"/bytes/{self.length}", 1, units=self.mebibytes)

    async def run(self, run: Run) -> dict[str, float]:
        """Measures MiB per second."""
        url = f"{run.url}/bytes/{self.length}"
        async with run.adapter.client(1) as client:
            await check_download(client, url, self.length)
            figures = await measure(
                lambda: fetch(client, url, self.length), 1, run.seconds, self.mebibytes
            )
            await check_download(client, url, self.length)
            return figures


async def fetch(client: Client, url: str, length: int) -> None:
    """Reads a body to its end.

    Raises:
        WrongReply: it was shorter or longer, or ended otherwise.
    """
    received, last = 0, b""
    async with reading(client, "GET", url) as chunks:
        async for chunk in chunks:
            received += len(chunk)
            last = chunk or last
    if received != length:
        raise WrongReply(f"{received} bytes came of {length}")
    check_end(last, pattern(length)[-END:])


async def check_download(client: Client, url: str, length: int) -> None:
    """Checks every byte of one body.

    Raises:
        WrongReply: it differs from what the server sent.
    """
    digest = hashlib.sha256()
    async with reading(client, "GET", url) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    if digest.digest() != hashlib.sha256(pattern(length)).digest():
        raise WrongReply("a body came back changed")
