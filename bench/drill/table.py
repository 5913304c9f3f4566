"""The tables of a drill, on the terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from bench.drill.results import Result, Row

HEADS: Final = (
    *("fault", "times", "calls struck", "answered", "left", "error, False", "error, None"),
    *("retries", "goodput"),
)


def print_result(result: Result, console: Console) -> None:
    """Prints what each kind of fault did, and then each check."""
    table = Table(*HEADS)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result.rows:
        if row.kind == "none":
            table.add_section()
        table.add_row(*cells(row))
    console.print(table)
    checks = Table("demanded", "found", "")
    for check in result.checks:
        verdict = "[green]passed" if check.passed else "[bold red]FAILED"
        checks.add_row(escape(check.title), escape(check.found), verdict)
    console.print(checks)
    for check in result.checks:
        for example in () if check.passed else check.examples:
            console.print(f"{check.title}: {example}", highlight=False, markup=False, style="red")


def memory_over_time(result: Result, points: int = 10) -> str:
    """Returns the resident memory at some moments, in MiB."""
    memory = result.memory
    places = {round(i * (len(memory) - 1) / (points - 1)) for i in range(points)} if memory else ()
    return ", ".join(
        f"{memory[i][1] / 2**20:.1f} after {memory[i][0]:.0f} s" for i in sorted(places)
    )


def cells(row: Row) -> tuple[str, ...]:
    """Returns the cells of a kind of fault."""
    return (
        row.kind,
        f"{row.often:,}" if row.often else "–",
        *(f"{number:,}" for number in row[2:8]),
        f"{100 * row.goodput:.0f} %",
    )


def markdown(result: Result) -> Iterator[str]:
    """Writes the same as Markdown."""
    yield line(HEADS)
    yield line(("---", *["---:"] * (len(HEADS) - 1)))
    for row in result.rows:
        yield line(cells(row))
    yield ""
    yield line(("demanded", "found", ""))
    yield line(("---", "---", "---"))
    for check in result.checks:
        yield line((check.title, check.found, "passed" if check.passed else "**failed**"))


def line(cells: tuple[str, ...]) -> str:
    """Writes a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"
