"""What a drill came to, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.adapter import version_of
from bench.drill.ledger import Occurrence
from bench.drill.verdict import Check
from bench.environment import cpu_model

if TYPE_CHECKING:
    from pathlib import Path

    from bench.drill.run import Drill
    from bench.drill.verdict import Verdict


class Row(NamedTuple):
    """One kind of fault, and what became of the calls that it struck.

    Args:
        kind: its name; `none` for all calls that nothing struck.
        often: how often it came.
        calls: the calls that it struck.
        done: those with the right answer.
        left: those that the caller gave up.
        false: errors that say that nothing was done.
        unknown: errors that do not know.
        retries: further attempts.
        goodput: right answers per second, as a part of those in calm.
    """

    kind: str
    often: int
    calls: int
    done: int
    left: int
    false: int
    unknown: int
    retries: int
    goodput: float


@dataclass(slots=True)
class Result:
    """One drill of one client.

    Args:
        client: who made the calls.
        environment: the machine and the versions.
        settings: seed, calls at a time, seconds, and the command.
        figures: counts of all kinds.
        checks: what was demanded.
        rows: the kinds of faults.
        series: seconds, right answers per second, errors per second.
        memory: seconds and bytes of resident memory.
        faults: kind, worker, begin and end of each fault.
    """

    client: str
    environment: dict[str, Any]
    settings: dict[str, Any]
    figures: dict[str, Any]
    checks: list[Check]
    rows: list[Row]
    series: list[tuple[float, float, float]]
    memory: list[tuple[float, int]]
    faults: list[Occurrence] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all is as it was demanded."""
        return all(check.passed for check in self.checks)

    @classmethod
    def of(cls, drill: Drill, verdict: Verdict, package: str, command: str) -> Result:
        """Puts together what was found."""
        plan, report = drill.plan, verdict.report
        packages = {package, "h2", "granian", "hypercorn", "uvloop"}
        rows = [
            Row(
                kind,
                often,
                share.calls,
                share.done,
                share.left,
                share.false,
                share.unknown,
                share.retries,
                round(share.goodput, 4),
            )
            for kind, often, share in verdict.rows()
        ]
        return cls(
            drill.client,
            {"cpu": cpu_model(), "versions": {name: version_of(name) for name in sorted(packages)}},
            {
                "command": command,
                "seed": plan.seed,
                "in_flight": drill.in_flight,
                "loop": drill.loop,
                "workers": drill.names,
                **drill.config,
            },
            {
                "calls": report.made,
                "seconds": round(report.seconds, 1),
                "cpu_seconds": round(report.cpu, 1),
                "retries": report.retries,
                "connections": report.connections,
                "faults": len(verdict.faults),
                "outcomes": dict(verdict.outcomes),
                "errors": dict(sorted(verdict.errors.items())),
                "latest": round(verdict.late, 3),
                "lag": round(report.lag, 3),
                "failed": verdict.failed,
                "lost": verdict.lost,
                "doubled": verdict.doubled.number,
                "hung": len(report.hung),
                "overdue": verdict.overdue.number,
                "wrong": verdict.wrong.number,
                "left": len(report.left),
            },
            verdict.checks(),
            rows,
            verdict.series.rows(),
            report.memory,
            list(verdict.faults),
        )

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Result:
        """Reads what ``save`` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["checks"] = [
            Check(title, found, passed, tuple(examples))
            for title, found, passed, examples in raw["checks"]
        ]
        raw["faults"] = [Occurrence(*fault) for fault in raw["faults"]]
        raw["rows"] = [Row(*row) for row in raw["rows"]]
        return cls(**raw)
