"""The scenarios, in the order in which they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from bench.flow.scenarios import crowd, dead, download, drop, idle, mixed, patient, quantum, slow

if TYPE_CHECKING:
    from bench.flow.record import Record


class Scenario(Protocol):
    """A module with one scenario."""

    NAME: str
    TITLE: str

    async def run(self, record: Record, *, quick: bool) -> None:
        """Fills a record; ``quick`` says less, sooner."""


SCENARIOS: Final[tuple[Scenario, ...]] = (
    *(download, drop, idle, slow, crowd),
    *(mixed, dead, patient, quantum),
)
