"""The plot of a drill: answers and errors over time, the faults below them, and the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.drill.schedule import KINDS
from bench.plots import COLOUR, OUR_COLOUR

if TYPE_CHECKING:
    from pathlib import Path

    from bench.drill.results import Result

ERROR_COLOUR: Final = "#212529"


def draw(result: Result, path: Path) -> None:
    """Draws a result into a file; the suffix says as what."""
    mpl.rcParams["svg.hashsalt"] = "drill"  # the same result gives the same file
    figure = Figure(figsize=(12, 9), layout="constrained")
    rates, faults, memory = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 2))
    at = [moment for moment, _, _ in result.series]
    rates.step(at, [done for _, done, _ in result.series], color=OUR_COLOUR, label="answers/s")
    errors = [failed for _, _, failed in result.series]
    rates.step(at, errors, color=ERROR_COLOUR, label="errors/s", linewidth=1)
    rates.set_ylim(bottom=0)
    rates.legend(loc="lower left")
    rates.set_title(
        f"{result.figures['calls']:,} requests, {result.settings['in_flight']} in flight, "
        f"{result.figures['faults']:,} faults, seed {result.settings['seed']}"
    )
    names = [kind.name for kind in KINDS]
    for kind, _, begin, end in result.faults:
        place = len(names) - names.index(kind)
        faults.plot([begin, max(end, begin + 0.1)], [place, place], color=COLOUR, linewidth=5)
    faults.set_yticks(range(1, len(names) + 1), reversed(names), fontsize=8)
    mib = [bytes_ / 2**20 for _, bytes_ in result.memory]
    memory.plot([moment for moment, _ in result.memory], mib, color=OUR_COLOUR)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("resident MiB")
    memory.set_xlabel("seconds")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
