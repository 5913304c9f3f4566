"""What a run of the benchmark came to, as values and as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.adapter import BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESULTS: Final = Path(__file__).with_name("results")
# Every client and workload: neither run overwrites what the other found.
FULL_RESULTS: Final = RESULTS / "full"


class Spread(NamedTuple):
    """The median over all rounds, and its bounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the spread of at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(slots=True)
class Outcome:
    """One client at one workload: its figures by round, or why it has none.

    A round has no entry when the client had failed before it.
    """

    client: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    failure: str | None = None

    def spread(self, figure: str) -> Spread | None:
        """Returns a figure over all rounds, or None where there is none."""
        if self.failure is not None or not self.rounds or figure not in self.rounds[0]:
            return None
        return Spread.of(figures[figure] for figures in self.rounds)

    def ratio(self, figure: str, base: Outcome) -> Spread | None:
        """Returns a figure divided by that of another client in the same round."""
        if self.spread(figure) is None or base.spread(figure) is None:
            return None
        pairs = zip(self.rounds, base.rounds, strict=False)
        return Spread.of(mine[figure] / theirs[figure] for mine, theirs in pairs)


@dataclass(slots=True)
class Table:
    """All clients at one workload."""

    workload: str
    title: str
    unit: str
    outcomes: list[Outcome] = field(default_factory=list)

    def outcome(self, client: str) -> Outcome | None:
        """Returns the outcome of a client that took part."""
        return next((o for o in self.outcomes if o.client == client), None)

    def ratio(self, client: str, figure: str, base: str = BASELINE) -> Spread | None:
        """Returns one client's figure divided by another's, round by round."""
        mine, theirs = self.outcome(client), self.outcome(base)
        return mine.ratio(figure, theirs) if mine and theirs else None


@dataclass(slots=True)
class Results:
    """Everything that one run of the benchmark found out.

    Args:
        environment: the machine, the versions, and the digest of the baseline's source.
        settings: seconds, rounds, seed, cores, and the command.
        tables: one for each workload.
        left_out: clients and workloads that could not be measured at all, and why.
        takes_no_part: for each client the reasons why it has no part in some workloads, and which.
    """

    environment: Mapping[str, Any]
    settings: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    takes_no_part: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the results as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads what ``save`` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        tables = [
            Table(**{**table, "outcomes": [Outcome(**o) for o in table["outcomes"]]})
            for table in raw.pop("tables")
        ]
        return cls(tables=tables, **raw)
