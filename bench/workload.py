"""What a workload is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.adapter import Adapter, Kind


@dataclass(frozen=True, slots=True)
class Run:
    """One client's turn at a workload.

    Args:
        adapter: the client.
        url: the server, as ``http://host:port``.
        seconds: how long to measure.
        seed: what payloads are made from.
    """

    adapter: Adapter
    url: str
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Load:
    """A workload that is one request over and over: what an external load generator can do.

    Args:
        path: where to.
        in_flight: how many at a time, on one connection.
        body: bytes of the request; 0 makes it a GET.
        units: how much of the workload's unit one request is.
    """

    path: str
    in_flight: int
    body: int = 0
    units: float = 1.0


class Workload(Protocol):
    """Something that clients are asked to do, and how it is measured."""

    @property
    def name(self) -> str:
        """What the command line and the results call it."""

    @property
    def title(self) -> str:
        """What tables call it."""

    @property
    def unit(self) -> str:
        """What ``rate`` and ``cpu_us`` count."""

    @property
    def kind(self) -> Kind:
        """What a client must be able to do."""

    @property
    def server(self) -> str:
        """The kind of server, unless a client needs its own."""

    @property
    def load(self) -> Load | None:
        """The same for an external load generator, where it is so simple."""

    async def run(self, run: Run) -> dict[str, float]:
        """Checks that the client answers rightly, warms it up, measures it, and checks it again.

        Raises:
            WrongReply: something else came back than the server sent.
        """
