"""Tables, on the terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from bench.adapter import BASELINE
from bench.expectations import check, reasons
from bench.targets import judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from bench.results import Outcome, Results, Spread, Table


class Column(NamedTuple):
    """One figure, or its ratio to the baseline's in the same round."""

    title: str
    figure: str
    ratio: bool = False


class Sheet(NamedTuple):
    """A table to be shown.

    Args:
        title: what stands above it.
        titles: the heads of the columns.
        rows: the cells.
        words: how many of the first columns are words; figures stand on the right.
    """

    title: str
    titles: list[str]
    rows: list[list[str]]
    words: int = 1

    @property
    def justify(self) -> list[Literal["left", "right"]]:
        """The side of each column."""
        return ["left" if place < self.words else "right" for place in range(len(self.titles))]


def columns(table: Table) -> list[Column]:
    """Returns the columns that at least one client of the table has a figure for."""
    every = [
        Column(f"{table.unit}/s", "rate"),
        Column(f"CPU µs/{table.unit}", "cpu_us"),
        Column("p50 ms", "p50_ms"),
        Column("p99 ms", "p99_ms"),
        Column(f"KiB/{table.unit}", "kib"),
        Column("first p50 ms", "first_p50_ms"),
        Column("first p99 ms", "first_p99_ms"),
        Column("MiB/s beside", "beside_mib"),
        Column("rate ÷ bare", "rate", ratio=True),
        Column("CPU ÷ bare", "cpu_us", ratio=True),
        Column("p50 ÷ bare", "p50_ms", ratio=True),
        Column("memory ÷ bare", "kib", ratio=True),
    ]
    return [c for c in every if any(o.spread(c.figure) for o in table.outcomes)]


def rows(table: Table) -> Iterator[list[str]]:
    """Yields a row of cells for each client that finished."""
    for outcome in table.outcomes:
        if outcome.failure is None:
            yield [outcome.client, *(cell(table, outcome, c) for c in columns(table))]


def cell(table: Table, outcome: Outcome, column: Column) -> str:
    """Returns the median with its bounds, or a dash."""
    if column.ratio:
        spread = table.ratio(outcome.client, column.figure)
    else:
        spread = outcome.spread(column.figure)
    return "–" if spread is None else format_spread(spread)


def format_spread(spread: Spread) -> str:
    """Returns ``median (low–high)`` with three digits that count."""
    return f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"


def number(value: float) -> str:
    """Returns a number with three significant digits and no exponent."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def notes(results: Results) -> Iterator[str]:
    """Yields who has no figures, and why."""
    for client, reason in results.left_out.items():
        yield f"{client} was left out: {reason}"
    for client, grounds in results.takes_no_part.items():
        told = (f"{', '.join(workloads)} ({why})" for why, workloads in grounds.items())
        yield f"{client} takes no part in {'; '.join(told)}"
    for table in results.tables:
        for outcome in table.outcomes:
            if outcome.failure is not None:
                yield f"{outcome.client} failed at {table.workload}: {outcome.failure}"


def conditions(results: Results) -> Iterator[str]:
    """Yields where and how the figures were taken."""
    environment, settings = results.environment, results.settings
    yield f"{environment['cpu']}, {environment['cpus']} CPUs, {environment['system']}"
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    yield f"{environment['python']}, {versions}"
    cores = f"client on core {settings['client_core']}, server on core {settings['server_core']}"
    if settings["client_core"] is None:
        cores = "nothing pinned to a core"
    elif settings["client_core"] == settings["server_core"]:
        cores = "client and server share the only core"
    yield (
        f"{settings['rounds']} rounds of {settings['seconds']:g} s each, interleaved, {cores}; "
        f"median (least–most); seed {settings['seed']}"
    )
    yield f"baseline {BASELINE}, SHA-256 of its source {environment['baseline_sha256']}"


def sheets(results: Results) -> Iterator[Sheet]:
    """Yields a table for each workload, one for the targets and one for the expectations."""
    for table in results.tables:
        titles = ["client", *(column.title for column in columns(table))]
        yield Sheet(table.title, titles, list(rows(table)))
    verdicts = [
        [v.target.workload, v.target.text, format_spread(v.ratio), v.word] for v in judge(results)
    ]
    if verdicts:
        yield Sheet("Targets", ["workload", "target", "measured", "verdict"], verdicts, words=2)
    expectations = [
        [e.claim, f"{e.expected} {e.unit}", f"{format_spread(e.measured)} {e.unit}"]
        for e in check(results)
    ]
    if expectations:
        yield Sheet("Expectations", ["what", "expected", "measured"], expectations, words=2)


def print_results(results: Results, console: Console) -> None:
    """Prints all tables, what there is to say about them, and how the figures were taken."""
    for sheet in sheets(results):
        drawn = RichTable(title=sheet.title, title_justify="left", box=SIMPLE_HEAD)
        for title, justify in zip(sheet.titles, sheet.justify, strict=True):
            drawn.add_column(title, justify=justify, overflow="fold")
        for row in sheet.rows:
            drawn.add_row(*(text.replace(" (", "\n(") for text in row))
        console.print(drawn)
    for line in (*reasons(results), *notes(results), *conditions(results)):
        console.print(line, highlight=False, markup=False)


def markdown(results: Results) -> str:
    """Returns the same as Markdown."""
    return "\n".join(_markdown_lines(results)) + "\n"


def _markdown_lines(results: Results) -> Iterator[str]:
    for sheet in sheets(results):
        yield f"## {sheet.title}\n"
        yield _markdown_row(sheet.titles)
        yield _markdown_row("---:" if side == "right" else "---" for side in sheet.justify)
        yield from map(_markdown_row, sheet.rows)
        yield ""
    yield from (f"- {line}" for line in (*notes(results), *conditions(results)))


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
