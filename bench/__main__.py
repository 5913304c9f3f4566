"""``python -m bench``: measures, prints tables, and writes JSON and Markdown."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.clients import CLIENTS, VARIANTS, find_clients
from bench.clients import QUICK as QUICK_CLIENTS
from bench.environment import pick_cores
from bench.plots import draw_all
from bench.report import markdown, print_results
from bench.results import FULL_RESULTS, RESULTS
from bench.runner import Runner, Settings
from bench.workloads import QUICK as QUICK_WORKLOADS
from bench.workloads import WORKLOADS, find_workloads

if TYPE_CHECKING:
    from bench.adapter import Adapter
    from bench.results import Results
    from bench.workload import Workload

PIPED_WIDTH: Final = 140


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="names or their beginnings")
    parser.add_argument("--clients", nargs="+", metavar="CLIENT", help="names, in this order")
    parser.add_argument("--full", action="store_true", help="all workloads and all clients")
    parser.add_argument("--seconds", type=float, default=0.8, help="per client and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="what payloads are made from")
    parser.add_argument(
        "--out",
        type=Path,
        help="directory for the results; bench/results, or with --full its folder full",
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words)
    arguments.words = words
    if arguments.out is None:
        arguments.out = FULL_RESULTS if arguments.full else RESULTS
    if arguments.seconds <= 0 or arguments.rounds < 1:
        parser.error("--seconds must be above 0, and --rounds at least 1")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and returns the exit code."""
    arguments = parse(argv)
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    if arguments.list:
        console.print("workloads:", ", ".join(workload.name for workload in WORKLOADS))
        console.print("clients:", ", ".join(client.name for client in CLIENTS))
        return 0
    try:
        results = measure(arguments, console)
    except LookupError as error:
        console.print(f"bench: {error}", style="red", highlight=False)
        return 2
    print_results(results, console)
    write(results, arguments.out)
    console.print(f"written to {arguments.out}", highlight=False)
    return 0


def write(results: Results, folder: Path) -> None:
    """Writes JSON, Markdown and plots."""
    results.save(folder / "results.json")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    draw_all(results, folder)


def choose(
    arguments: argparse.Namespace,
) -> tuple[tuple[Adapter, ...], tuple[Workload, ...]]:
    """Returns the clients and the workloads that the command line asks for.

    Raises:
        LookupError: a name is unknown.
    """
    clients = CLIENTS if arguments.full else (*QUICK_CLIENTS, *VARIANTS)
    workloads = WORKLOADS if arguments.full else QUICK_WORKLOADS
    if arguments.clients is not None:
        clients = find_clients(arguments.clients)
    if arguments.only is not None:
        workloads = find_workloads(arguments.only)
    return clients, workloads


def measure(arguments: argparse.Namespace, console: Console) -> Results:
    """Measures what the command line asks for, behind a progress bar."""
    cores = pick_cores()
    settings = Settings(arguments.seconds, arguments.rounds, arguments.seed, *cores)
    clients, workloads = choose(arguments)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # a thread that draws would take its time from those who are measured
    ) as progress:
        bar = progress.add_task("starting …")
        done = iter(range(10**9))

        def on_turn(workload: str, client: str) -> None:
            text = f"{workload}: {client}"
            progress.update(bar, description=text, completed=next(done), refresh=True)

        runner = Runner(clients, workloads, settings, on_turn)
        progress.update(bar, total=runner.turns)
        results = runner.run()
        results.settings["command"] = shlex.join(["python", "-m", "bench", *arguments.words])
        progress.update(bar, completed=runner.turns, description="done", refresh=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
