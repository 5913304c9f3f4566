"""What a scenario came to: rows of figures, verdicts, and lines over time, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Value: TypeAlias = float | str | None
Points: TypeAlias = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure keeps its bound.

    Args:
        what: what was asked, in words, with the bound in it.
        found: what was found, in words.
        kept: whether that is within the bound.
    """

    what: str
    found: str
    kept: bool

    def __str__(self) -> str:
        """Returns it as a line."""
        return f"{'kept' if self.kept else 'MISSED'}: {self.what}: {self.found}"


@dataclass(slots=True)
class Record:
    """One run of a scenario.

    Args:
        name: the scenario.
        title: what tables call it.
        rows: a table; each row has the same columns.
        verdicts: what is asked of the client, and whether it holds.
        lines: what changed over time, by plot, panel and label: seconds and values.
        notes: what a reader has to know to judge the figures.
        environment: the machine, versions, command and load.
    """

    name: str
    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    lines: dict[str, dict[str, dict[str, Points]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, object] = field(default_factory=dict)

    def judge(self, what: str, found: str, *, kept: bool) -> None:
        """Adds a verdict."""
        self.verdicts.append(Verdict(what, found, kept))

    def draw(self, plot: str, panel: str, label: str, points: Points) -> None:
        """Adds a line to a panel of a plot."""
        self.lines.setdefault(plot, {}).setdefault(panel, {})[label] = points

    @property
    def kept(self) -> bool:
        """Whether every bound holds."""
        return all(verdict.kept for verdict in self.verdicts)

    def save(self, folder: Path) -> None:
        """Writes ``<name>.json``, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.json"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / f"{self.name}.json")

    @classmethod
    def load(cls, path: Path) -> Record:
        """Reads what ``save`` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["verdicts"] = [Verdict(**verdict) for verdict in raw["verdicts"]]
        return cls(**raw)


def rates(log: Points, step: float) -> Points:
    """Returns bytes per second over time out of running totals, by steps of so many seconds."""
    found: Points = []
    begun, done = 0.0, 0.0
    for at, total in log:
        if at - begun >= step:
            found.append((at, (total - done) / (at - begun)))
            begun, done = at, total
    return found


def total_at(log: Points, when: float) -> float:
    """Returns the running total at a moment, on a straight line between two entries."""
    before = (0.0, 0.0)
    for at, total in log:
        if at >= when:
            share = (when - before[0]) / (at - before[0]) if at > before[0] else 1.0
            return before[1] + share * (total - before[1])
        before = (at, total)
    return before[1]


def rate_between(log: Points, begin: float, end: float) -> float:
    """Returns bytes per second between two moments."""
    return (total_at(log, end) - total_at(log, begin)) / (end - begin)


def thinned(points: Points, count: int = 400) -> Points:
    """Returns so many points at most, evenly chosen, rounded to what a plot shows."""
    step = max(1, -(-len(points) // count))
    return [(round(at, 3), float(f"{value:.4g}")) for at, value in points[::step]]
