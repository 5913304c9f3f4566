"""``python -m bench.page``: writes the pages about performance from the results that are stored.

``docs/performance.md`` is about ``make bench``, ``docs/performance-full.md`` about
``make bench-full`` where that has been run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.expectations import FLOW_CONTROL, reasons
from bench.report import markdown
from bench.results import FULL_RESULTS, RESULTS, Results

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]


class Page(NamedTuple):
    """A page, its title, and the results that it is about."""

    path: Path
    title: str
    results: Path


PAGES: Final = (
    Page(ROOT / "docs" / "performance.md", "Performance", RESULTS / "results.json"),
    Page(
        ROOT / "docs" / "performance-full.md",
        "Performance of every client at every workload",
        FULL_RESULTS / "results.json",
    ),
)
PLOTS: Final = {
    "in_flight": "CPU per request over requests in flight",
    "cpu": "CPU by client and workload",
    "rate": "Rate by client and workload",
    "latency": "Distribution of latencies",
}
INTRODUCTION: Final = """\
# {title}

This page is made by `python -m bench.page` from the results of one run of the benchmark, which
are stored in `{results}`. The command of that run:

    {command}

Each client runs in a process of its own on one core, the server on another, in interleaved rounds;
a ratio is always one between two clients of the same round. Figures of another machine will differ;
the ratios should not, by much.

What is checked: that every answer has a status of 2xx; while the time is taken, the length and the
end of each body that comes back, and of an echo every byte; in the same turn, before and after it,
one whole stream, download or upload by every byte. nghttpd and nginx tell nothing of what they
received, so what is sent to those two is not checked, and of h2load nothing but the statuses. Where
new connections and memory are measured, no body is looked at.
"""


def stored(pages: tuple[Page, ...] = PAGES) -> tuple[Page, ...]:
    """Returns the pages for which there are results."""
    return tuple(page for page in pages if page.results.exists())


def make_page(page: Page, others: tuple[Page, ...] = ()) -> str:
    """Returns the text of a page that points to others."""
    results = Results.load(page.results)
    parts = [_introduction(results, page), *_links(page, others), *_plots(page), markdown(results)]
    for reason in reasons(results):
        parts += [reason.replace(FLOW_CONTROL, "[flow control](flow-control.md)"), ""]
    return "\n".join(parts)


def _introduction(results: Results, page: Page) -> str:
    inside = page.results.is_relative_to(ROOT)
    where = page.results.relative_to(ROOT) if inside else page.results
    command = results.settings["command"]
    return INTRODUCTION.format(title=page.title, command=command, results=where.as_posix())


def _links(page: Page, others: tuple[Page, ...]) -> Iterator[str]:
    for other in others:
        if other.path != page.path:
            yield f"Another run: [{other.title}]({other.path.name}).\n"


def _plots(page: Page) -> Iterator[str]:
    for name, title in PLOTS.items():
        plot = page.results.with_name(f"{name}.svg")
        if plot.exists():
            relative = Path(os.path.relpath(plot, page.path.parent)).as_posix()
            yield f"![{title}]({relative})\n"


def main() -> None:
    """Writes every page for which there are results."""
    pages = stored()
    for page in pages:
        page.path.write_text(make_page(page, pages), encoding="utf-8")


if __name__ == "__main__":
    main()
