"""The same POST over and over, with so many in flight: what several workloads are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.adapter import WrongReply
from bench.measure import measure
from bench.payloads import payload
from bench.workload import Load

if TYPE_CHECKING:
    from bench.adapter import Client, Kind
    from bench.workload import Run


@dataclass(frozen=True, slots=True)
class Posts:
    """Requests with a body, and an answer that is known beforehand.

    Args:
        name: what the command line and the results call it.
        title: what tables call it.
        path: where to.
        size: bytes of a body.
        in_flight: how many at a time.
        unit: what rates count.
        units: how many of them a request is.
        kind: what a client must be able to do.
        server: the kind of server.
    """

    name: str
    title: str
    path: str
    size: int
    in_flight: int
    unit: str = "request"
    units: float = 1.0
    kind: Kind = "send"
    server: str = "granian"

    @property
    def load(self) -> Load:
        """The same for an external load generator."""
        return Load(self.path, self.in_flight, self.size, self.units)

    async def run(self, run: Run) -> dict[str, float]:
        """Measures requests, or what they carry, per second."""
        body = payload(run.seed, self.size)
        url, expected = run.url + self.path, self._expected(body)
        async with run.adapter.client(self.in_flight) as client:
            await self._check(client, run.url, body)

            async def act() -> None:
                if await client.send("POST", url, body) != expected:
                    raise WrongReply(f"another answer came back to POST {self.path}")

            figures = await measure(act, self.in_flight, run.seconds, self.units)
            await self._check(client, run.url, body)
            return figures

    async def _check(self, client: Client, url: str, body: bytes) -> None:
        if self.server == "granian":  # the others tell nothing of what they received
            await check_upload(client, url, body)

    def _expected(self, body: bytes) -> bytes:
        answers = {"/echo": body, "/length": str(len(body)).encode()}
        return answers.get(self.path, b"")


async def check_upload(client: Client, url: str, body: bytes) -> None:
    """Checks that a body reaches the server whole.

    Raises:
        WrongReply: the server got something else.
    """
    reply = await client.send("POST", f"{url}/hash", body)
    if bytes(reply).decode() != hashlib.sha256(body).hexdigest():
        raise WrongReply(f"the server received another body: {bytes(reply)[:80]!r}")
