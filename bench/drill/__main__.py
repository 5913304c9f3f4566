"""``python -m bench.drill``: breaks everything under load, and compares what each side says of it.

The exit code is 0 when all that is demanded was found, and 1 when something was not.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from bench.drill.parties import OURS, PARTIES
from bench.drill.plot import draw
from bench.drill.results import Result
from bench.drill.run import Drill, run_drill
from bench.drill.schedule import Plan, show
from bench.drill.table import memory_over_time, print_result
from bench.drill.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS: Final = Path(__file__).parents[1] / "results" / "drill"
PIPED_WIDTH: Final = 140
REQUESTS: Final = 200_000
FULL: Final = (20.0, 208.0)
SHORT: Final = (4.0, 13.0)
"""Seconds of calm at first, and seconds of faults after that."""
DEMANDS: Final = (0.95, 0.10)
LENIENT: Final = (0.85, 0.20)
"""The goodput and the growth that are demanded; a few seconds on a busy machine prove less."""
EACH_EVERY: Final = 4.0
"""Seconds of a drill in which each kind of fault comes once."""
PROCESS_EVERY: Final = 40.0
"""The same for what strikes a process, which takes seconds to start again."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.drill", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what the schedule is drawn from")
    parser.add_argument("--short", action="store_true", help="20 seconds instead of 4 minutes")
    parser.add_argument("--seconds", type=float, help="of faults: 208, or 13 if short")
    parser.add_argument("--hours", type=float, help="as long as that, to watch the memory")
    parser.add_argument("--in-flight", type=int, help="calls at a time: 256, or 64 if short")
    parser.add_argument(
        "--requests", type=int, help=f"calls at least: {REQUESTS}, unless it has another length"
    )
    parser.add_argument("--client", choices=PARTIES, default=OURS)
    parser.add_argument("--engine", choices=("fast", "stock"), default="fast")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for the results")
    parser.add_argument("--keep", action="store_true", help="leave the logs where they are")
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words)
    arguments.command = shlex.join(["python", "-m", "bench.drill", *words])
    return arguments


def drill_of(arguments: argparse.Namespace) -> Drill:
    """Returns what the command line asks for."""
    calm, seconds = SHORT if arguments.short else FULL
    if arguments.hours is not None:
        seconds = 3600 * arguments.hours
    elif arguments.seconds is not None:
        seconds = arguments.seconds
    each, process = int(seconds / EACH_EVERY), max(1, int(seconds / PROCESS_EVERY))
    plan = Plan(arguments.seed, calm, seconds, each, process)
    goodput, growth = LENIENT if arguments.short else DEMANDS
    whole = not (arguments.short or arguments.hours or arguments.seconds)
    return PARTIES[arguments.client].fit(
        Drill(
            plan,
            in_flight=arguments.in_flight or (64 if arguments.short else 256),
            requests=REQUESTS if whole and arguments.requests is None else arguments.requests or 0,
            client=arguments.client,
            config={"engine": arguments.engine} if arguments.client == OURS else {},
            loop=arguments.loop,
            goodput=goodput,
            growth=growth,
        )
    )


def name_of(arguments: argparse.Namespace) -> str:
    """Returns what the files of a result are called."""
    if arguments.client != OURS:
        return str(arguments.client)
    kind = "soak" if arguments.hours is not None else "short" if arguments.short else "drill"
    return f"{kind}-{arguments.seed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a drill and returns the exit code."""
    arguments = parse(argv)
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    # What a script starts in the background ignores it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    drill = drill_of(arguments)
    console.print(f"The schedule of seed {drill.plan.seed}:")
    for line in show(drill.schedule(), drill.names):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    try:
        return conduct(arguments, drill, folder, console)
    except KeyboardInterrupt:
        console.print("stopped")
        return 128 + signal.SIGINT
    finally:
        if arguments.keep:
            console.print(f"the logs are in {folder}", highlight=False)
        else:
            shutil.rmtree(folder)


def conduct(arguments: argparse.Namespace, drill: Drill, folder: Path, console: Console) -> int:
    """Runs a drill whose logs go to a folder, and tells what was found."""
    console.print("starting the workers …")
    report = asyncio.run(run_drill(drill, folder))
    verdict = Verdict(drill, folder, report)
    party = PARTIES[arguments.client]
    result = Result.of(drill, verdict, party.package, arguments.command)
    print_result(result, console)
    figures = result.figures
    console.print(
        f"{figures['calls']:,} calls in {figures['seconds']} s, {figures['cpu_seconds']} s of CPU, "
        f"{figures['retries']} retries, {figures['connections']} connections; "
        f"ended by {figures['outcomes']}, errors {figures['errors']}",
        highlight=False,
    )
    console.print(f"resident MiB: {memory_over_time(result)}", highlight=False)
    path = arguments.out / f"{name_of(arguments)}.json"
    result.save(path)
    draw(result, path.with_suffix(".svg"))
    console.print(f"written to {path} and {path.with_suffix('.svg')}", highlight=False)
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
