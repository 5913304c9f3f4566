"""Plots of the results, as PNG and SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bench.measure import SHARES
from bench.report import number
from bench.targets import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.results import Results, Table

COLOUR: Final = "#8a9ba8"
OUR_COLOUR: Final = "#d9480f"
COLUMNS: Final = 3
CROWDED: Final = 0.25  # percentiles below stand too close together for labels
IN_FLIGHT: Final = (1, 32, 256, 1000)


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draws every plot that there are figures for; returns the files."""
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same results give the same file
    written = []
    for name, figure in _figures(results):
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(path, dpi=120, metadata=metadata)
            written.append(path)
    return written


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    rated = [table for table in results.tables if _bars(table, "rate")]
    if rated:
        yield "rate", bars(rated, "rate", "per second (logarithmic, longer is better)")
        yield "cpu", bars(rated, "cpu_us", "CPU µs each (logarithmic, shorter is better)")
    unary = {table.workload: table for table in results.tables}
    if "unary-32" in unary:
        yield "latency", latencies(unary["unary-32"])
    levels = {number: unary.get(f"unary-{number}") for number in IN_FLIGHT}
    found = {number: table for number, table in levels.items() if table is not None}
    if len(found) > 1:
        yield "in_flight", cpu_over_in_flight(found)


def _bars(table: Table, figure: str) -> dict[str, float]:
    """Returns the median of each client that has one, the least first."""
    spreads = {outcome.client: outcome.spread(figure) for outcome in table.outcomes}
    medians = {client: spread.median for client, spread in spreads.items() if spread}
    return dict(sorted(medians.items(), key=lambda item: item[1]))


def bars(tables: list[Table], figure: str, label: str) -> Figure:
    """Draws one panel for each workload, with a bar for each client."""
    rows = -(-len(tables) // COLUMNS)
    drawing = Figure(figsize=(5 * COLUMNS, 3.2 * rows), layout="constrained")
    panels = list(drawing.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, table in zip(panels, tables, strict=False):
        medians = _bars(table, figure)
        colours = [OUR_COLOUR if client == OURS else COLOUR for client in medians]
        drawn = panel.barh(list(medians), list(medians.values()), color=colours)
        panel.bar_label(drawn, [number(value) for value in medians.values()], fontsize=7, padding=2)
        panel.set_xscale("log")
        panel.set_xlim(min(medians.values()) / 2, max(medians.values()) * 3)
        panel.set_xticks([])
        panel.set_xticks([], minor=True)
        panel.set_title(table.title, fontsize=9)
        panel.set_xlabel(f"{table.unit}, {label}", fontsize=8)
        panel.tick_params(labelsize=8)
    for panel in panels[len(tables) :]:
        panel.set_visible(False)
    return drawing


def latencies(table: Table) -> Figure:
    """Draws the distribution of latencies, a line for each client."""
    drawing = Figure(figsize=(8, 5), layout="constrained")
    axes = drawing.subplots()
    places = [1 / (1 - share) for share in SHARES.values()]  # spreads the slow end out
    for outcome in table.outcomes:
        spreads = [outcome.spread(name) for name in SHARES]
        medians = [spread.median for spread in spreads if spread]
        if len(medians) == len(SHARES):
            _line(axes, outcome.client, places, medians)
    axes.set_xscale("log")
    labels = [f"{100 * share:g}" if share >= CROWDED else "" for share in SHARES.values()]
    axes.set_xticks(places, labels)
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.set_xlabel("percentile")
    axes.set_ylabel("milliseconds (lower is better)")
    axes.set_title(f"Latency, {table.title}")
    axes.legend(fontsize=8)
    return drawing


def cpu_over_in_flight(tables: dict[int, Table]) -> Figure:
    """Draws what a request costs over the number of requests in flight."""
    drawing = Figure(figsize=(8, 5), layout="constrained")
    axes = drawing.subplots()
    clients = {outcome.client: None for table in tables.values() for outcome in table.outcomes}
    for client in clients:
        costs = {number: _bars(table, "cpu_us").get(client) for number, table in tables.items()}
        known = {number: cost for number, cost in costs.items() if cost is not None}
        if len(known) > 1:
            _line(axes, client, list(known), list(known.values()))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(tables))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("requests in flight")
    axes.set_ylabel("CPU µs per request (lower is better)")
    axes.set_title("CPU per 1 KiB request")
    axes.legend(fontsize=8)
    return drawing


def _line(axes: Axes, client: str, x: list[float] | list[int], y: list[float]) -> None:
    ours = client == OURS
    colour = OUR_COLOUR if ours else None
    axes.plot(x, y, marker="o", label=client, color=colour, linewidth=2.5 if ours else 1)
