"""``python -m bench.flow``: plays the scenarios, prints figures and verdicts, writes JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import traceback
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.environment import environment
from bench.flow.plots import draw_all
from bench.flow.record import Record
from bench.flow.scenarios import SCENARIOS
from bench.flow.setups import SETUPS

if TYPE_CHECKING:
    from bench.flow.scenarios import Scenario

RESULTS: Final = Path(__file__).parents[1] / "results" / "flow"
PIPED_WIDTH: Final = 160


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.flow", description=__doc__)
    names = [scenario.NAME for scenario in SCENARIOS]
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="less of everything, to try it out")
    parser.add_argument("--resume", action="store_true", help="skip what has its results already")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for the results")
    arguments = parser.parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Plays the scenarios; returns 1 when a bound was missed, and 2 when a scenario failed."""
    arguments = parse(argv)
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    code = 0
    for scenario in SCENARIOS:
        done = (arguments.out / f"{scenario.NAME}.json").exists()
        if scenario.NAME not in arguments.only or (arguments.resume and done):
            continue
        try:
            record = play(scenario, arguments)
        except Exception:  # the others are still worth their time
            console.print(f"{scenario.NAME} failed:", style="red")
            traceback.print_exc()
            code = 2
        else:
            record.save(arguments.out)
            show(record, console)
            code = max(code, 0 if record.kept else 1)
    draw_all(arguments.out)
    console.print(f"written to {arguments.out}", highlight=False)
    return code


def play(scenario: Scenario, arguments: argparse.Namespace) -> Record:
    """Plays one scenario."""
    record = Record(scenario.NAME, scenario.TITLE)
    adapters = [setup.adapter for setup in SETUPS.values() if setup.missing is None]
    record.environment = environment(adapters) | {
        "command": shlex.join(["python", "-m", "bench.flow", *arguments.words]),
        "load_before": os.getloadavg()[0],
    }
    begun = monotonic()
    asyncio.run(scenario.run(record, quick=arguments.quick))
    record.environment["seconds"] = round(monotonic() - begun)
    return record


def show(record: Record, console: Console) -> None:
    """Prints the table and the verdicts."""
    took = record.environment.get("seconds")
    table = Table(box=SIMPLE_HEAD, title=f"{record.title} ({took} s)", title_justify="left")
    for column in record.rows[0] if record.rows else ():
        table.add_column(column)
    for row in record.rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
    for verdict in record.verdicts:
        console.print(str(verdict), style="green" if verdict.kept else "red", highlight=False)
    for note in record.notes:
        console.print(note, style="dim", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
