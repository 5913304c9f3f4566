"""A small request, and an answer that says no more than that it was accepted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.adapter import WrongReply
from bench.measure import measure
from bench.payloads import payload

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run

PAYLOAD = 1024


@dataclass(frozen=True, slots=True)
class Unary:
    """1 KiB POST → 202 without a body, with so many in flight."""

    in_flight: int
    unit: ClassVar[str] = "request"
    kind: ClassVar[Kind] = "send"

    @property
    def name(self) -> str:
        """The number in flight is part of it."""
        return f"unary-{self.in_flight}"

    @property
    def title(self) -> str:
        """What is sent, and how many at a time."""
        return f"1 KiB POST → 202, {self.in_flight} in flight"

    async def run(self, run: Run) -> dict[str, float]:
        """Measures requests per second."""
        body = payload(run.seed, PAYLOAD)
        url = f"{run.url}/v1/rpc/generate"
        async with run.adapter.client(self.in_flight) as client:
            await check_upload(client, run.url, body)

            async def act() -> None:
                if await client.send("POST", url, body):
                    raise WrongReply("a 202 without a body came back with one")

            return await measure(act, self.in_flight, run.seconds)


async def check_upload(client: Client, url: str, body: bytes) -> None:
    """Checks that a body reaches the server whole.

    Raises:
        WrongReply: the server got something else.
    """
    reply = await client.send("POST", f"{url}/hash", body)
    if bytes(reply).decode() != hashlib.sha256(body).hexdigest():
        raise WrongReply(f"the server received another body: {bytes(reply)[:80]!r}")
