"""``python -m bench.flow.page``: writes ``docs/flow-control.md`` from what was played last."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.flow.record import Record
from bench.flow.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS: Final = Path(__file__).parents[1] / "results" / "flow"
PAGE: Final = Path(__file__).parents[2] / "docs" / "flow-control.md"
INTRODUCTION: Final = """\
# Flow control, sending and keep-alive

This page is made by `python -m bench.flow.page` from the results of `make bench-flow`, which stand
in `bench/results/flow/`. Each client runs in a process of its own; between it and the server stands
a relay, in a process of its own too, which has the delay and the rate that a scenario asks for, on
real TCP sockets. What it cannot do: the handshake and the acknowledgements of TCP stay on this
machine. `python -m bench.flow --only {first}` plays one scenario alone.

How windows are found is told at the top of `http2/bdp.py`, who is granted what in
`http2/credit.py`, who sends next in `http2/scheduler.py`, and when a peer is given up in
`http2/keepalive.py`.
"""


def make_page(results: Path, page: Path) -> str:
    """Returns the page.

    Args:
        results: the folder with the records and their plots.
        page: where it is going to stand.
    """
    paths = [results / f"{scenario.NAME}.json" for scenario in SCENARIOS]
    records = [Record.load(path) for path in paths if path.exists()]
    missing = [path.stem for path in paths if not path.exists()]
    lines = [INTRODUCTION.format(first=SCENARIOS[0].NAME), *_machine(records)]
    if missing:
        lines.append(f"Not played in this run: {', '.join(missing)}.\n")
    lines += _summary(records)
    for record in records:
        lines += _section(record, results, page)
    return "\n".join(lines)


def _machine(records: list[Record]) -> Iterator[str]:
    machines = {
        f"{record.environment['cpu']} × {record.environment['cpus']}, "
        f"{record.environment['system']}, {record.environment['python']}"
        for record in records
        if "cpu" in record.environment
    }
    loads = [record.environment.get("load_before") for record in records]
    known = [load for load in loads if isinstance(load, float)]
    for machine in sorted(machines):
        yield f"Machine: {machine}."
    if known:
        yield f"Its load before the scenarios was {min(known):.1f} to {max(known):.1f}.\n"


def _summary(records: list[Record]) -> Iterator[str]:
    yield "| asked | found | |\n| --- | --- | --- |"
    for record in records:
        for verdict in record.verdicts:
            kept = "kept" if verdict.kept else "**missed**"
            yield f"| {record.name}: {verdict.what} | {verdict.found} | {kept} |"
    yield ""


def _section(record: Record, results: Path, page: Path) -> Iterator[str]:
    yield f"## {record.title}\n"
    for note in record.notes:
        yield f"{note}\n"
    if record.rows:
        columns = list(record.rows[0])
        yield f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
        for row in record.rows:
            cells = ("" if row.get(name) is None else str(row[name]) for name in columns)
            yield f"| {' | '.join(cells)} |"
        yield ""
    for plot in record.lines:
        source = results / f"{plot}.svg"
        if source.exists():
            yield f"![{plot}]({Path(os.path.relpath(source, page.parent)).as_posix()})\n"


if __name__ == "__main__":
    PAGE.write_text(make_page(RESULTS, PAGE), encoding="utf-8")
    sys.stdout.write(f"written to {PAGE}\n")
