"""Plots of what changed over time: PNG and SVG for every plot of every record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.flow.record import Record
from bench.flow.setups import ADAPTIVE, ADAPTIVE_SMALL
from bench.plots import OUR_COLOUR

if TYPE_CHECKING:
    from pathlib import Path

    from bench.flow.record import Points

WIDE: Final = {ADAPTIVE.name: OUR_COLOUR, ADAPTIVE_SMALL.name: "#f08c00"}


def draw_all(folder: Path) -> list[Path]:
    """Draws every plot of the records in a folder; returns the files."""
    mpl.rcParams["svg.hashsalt"] = "flow"  # the same results give the same file
    written = []
    for source in sorted(folder.glob("[!.]*.json")):
        for name, panels in Record.load(source).lines.items():
            figure = draw(name, panels)
            for suffix in ("png", "svg"):
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else None
                figure.savefig(path, dpi=100, metadata=metadata)
                written.append(path)
    return written


def draw(name: str, panels: dict[str, dict[str, Points]]) -> Figure:
    """Draws one panel below the other, over one axis of time."""
    figure = Figure(figsize=(9, 2.1 * len(panels) + 0.8), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for place, (label, lines) in zip(axes.flat, panels.items(), strict=True):
        for client, points in lines.items():
            colour = WIDE.get(client)
            x, y = [at for at, _ in points], [value for _, value in points]
            place.plot(x, y, label=client, color=colour, linewidth=2 if colour else 1)
        place.set_ylabel(label, fontsize=8)
        if "(log)" in label:
            place.set_yscale("log")
        else:
            place.set_ylim(bottom=0)
        place.grid(alpha=0.3)
        place.tick_params(labelsize=8)
    axes.flat[0].legend(fontsize=7, ncols=3)
    axes.flat[-1].set_xlabel("seconds")
    figure.suptitle(name, fontsize=10)
    return figure
