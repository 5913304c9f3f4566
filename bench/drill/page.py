"""``python -m bench.drill.page``: writes ``docs/reliability.md`` from the results of the drill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.drill.parties import OURS, PARTIES
from bench.drill.results import Result
from bench.drill.table import line, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS: Final = Path(__file__).parents[1] / "results" / "drill"
PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
TEXT: Final = Path(__file__).with_name("page.md")
COLUMNS: Final = {
    "calls": "calls",
    "failed": "failed",
    "lost": "of these, never executed",
    "doubled": "executed twice",
    "wrong": "cut, taken for whole",
    "late": "hung, or late",
    "left": "left open",
}

SHARES: Final = frozenset({"failed", "lost"})
"""Columns that tell the share of the calls as well."""


def make_page(results: Path, page: Path) -> str:
    """Returns the page.

    Args:
        results: the folder of the results, with their plots.
        page: where it is going to stand.
    """
    return "\n".join([TEXT.read_text(encoding="utf-8"), *_ours(results, page), *_all(results)])


def _ours(results: Path, page: Path) -> Iterator[str]:
    for path in sorted(results.glob("drill-*.json")):
        result = Result.load(path)
        figures, settings = result.figures, result.settings
        yield f"## Seed {settings['seed']}\n"
        yield (
            f"`{settings['command']}`: {figures['calls']:,} calls in {figures['seconds']:.0f} s, "
            f"{settings['in_flight']} in flight, {figures['faults']:,} faults, "
            f"{figures['retries']:,} retries, {figures['connections']:,} connections, "
            f"{figures['cpu_seconds']:.0f} s of CPU time of the client on {_where(result)}.\n"
        )
        plot = path.with_suffix(".svg")
        if plot.exists():
            where = Path(os.path.relpath(plot, page.parent)).as_posix()
            yield f"![Answers, errors, faults and memory over time]({where})\n"
        yield from markdown(result)
        yield ""


def _all(results: Path) -> Iterator[str]:
    """Yields the table of all clients."""
    ours = min(results.glob("drill-*.json"), default=results / "none")
    paths = {OURS: ours, **{name: results / f"{name}.json" for name in PARTIES if name != OURS}}
    found = {name: Result.load(path) for name, path in paths.items() if path.exists()}
    yield "## Other clients\n"
    yield OTHERS
    yield line(("client", *COLUMNS.values()))
    yield line(("---", *["---:"] * len(COLUMNS)))
    for name, result in found.items():
        yield line((f"{name} {_version(result, name)}".strip(), *_cells(result)))
    commands = ", ".join(f"`{result.settings['command']}`" for result in found.values())
    yield f"\nThe commands: {commands}.\n"


def _cells(result: Result) -> Iterator[str]:
    numbers = {**result.figures, "late": result.figures["hung"] + result.figures["overdue"]}
    for column in COLUMNS:
        share = f" ({numbers[column] / numbers['calls']:.1%})" if column in SHARES else ""
        yield f"{numbers[column]:,}{share}"


def _version(result: Result, name: str) -> str:
    versions = result.environment["versions"]
    version = str(versions.get(PARTIES[name].package, ""))
    return version if version[:1].isdigit() else ""


def _where(result: Result) -> str:
    return str(result.environment["cpu"])


OTHERS: Final = """\
The same schedule for other clients, as far as they can follow it: none of them can drain a pool,
the drill's resolver is ours alone, and aiohttp speaks HTTP/1.1 and so does without the scripted
workers. None of them says whether a request was processed, so that a caller has to give up or to
risk doing things twice. *Failed* are calls that ended in an error, but for those that the caller
had given too little time as well; *never executed* are those of them that could have been sent
again without any risk. What aiohttp executes twice are requests with GET: it sends those again by
itself.
"""


if __name__ == "__main__":
    PAGE.write_text(make_page(RESULTS, PAGE), encoding="utf-8")
