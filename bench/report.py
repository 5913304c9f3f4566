"""Tables, on the terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from bench.adapter import BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from bench.results import Outcome, Results, Spread, Table


class Column(NamedTuple):
    """One figure, or its ratio to the baseline's in the same round."""

    title: str
    figure: str
    ratio: bool = False


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


def print_results(results: Results, console: Console) -> None:
    """Prints a table for each workload."""
    for table in results.tables:
        drawn = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD)
        drawn.add_column("client")
        for column in columns(table):
            drawn.add_column(column.title, justify="right", overflow="fold")
        for row in rows(table):
            drawn.add_row(*(text.replace(" (", "\n(") for text in row))
        console.print(drawn)
    for line in (*notes(results), *conditions(results)):
        console.print(line, highlight=False)


def markdown(results: Results) -> str:
    """Returns the same as Markdown."""
    return "\n".join(_markdown_lines(results)) + "\n"


def _markdown_lines(results: Results) -> Iterator[str]:
    for table in results.tables:
        titles = ["client", *(column.title for column in columns(table))]
        yield f"## {table.title}\n"
        yield _markdown_row(titles)
        yield _markdown_row(["---", *("---:" for _ in titles[1:])])
        yield from map(_markdown_row, rows(table))
        yield ""
    yield from (f"- {line}" for line in (*notes(results), *conditions(results)))


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
