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

    async def run(self, run: Run) -> dict[str, float]:
        """Checks that the client answers rightly, warms it up, and measures it.

        Raises:
            WrongReply: something else came back than the server sent.
        """
