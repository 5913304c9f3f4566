"""``python -m bench.page``: writes ``docs/performance.md`` from the results of the last run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.expectations import FLOW_CONTROL, reasons
from bench.report import markdown
from bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS: Final = Path(__file__).with_name("results") / "results.json"
PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
PLOTS: Final = {
    "in_flight": "CPU per request over requests in flight",
    "cpu": "CPU by client and workload",
    "rate": "Rate by client and workload",
    "latency": "Distribution of latencies",
}
INTRODUCTION: Final = """\
# Performance

This page is made by `python -m bench.page` from the results of one run of the benchmark, which
stand beside it in `bench/results/results.json`. The command of that run:

    {command}

Each client runs in a process of its own on one core, the server on another, in interleaved rounds;
a ratio is always one between two clients of the same round. Figures of another machine will differ;
the ratios should not, by much.

What is checked: that every answer has a status of 2xx; while the time is taken, the length and the
end of each body that comes back, and of an echo every byte; in the same turn, before and after it,
one whole stream, download or upload by every byte. nghttpd and nginx tell nothing of what they
received, so what is sent to those two is not checked, and of h2load nothing but the statuses.
"""


def make_page(results: Path, page: Path) -> str:
    """Returns the page.

    Args:
        results: the file that it is about; the plots stand beside it.
        page: where it is going to stand.
    """
    loaded = Results.load(results)
    parts = [*_head(results, page), markdown(loaded)]
    for reason in reasons(loaded):
        parts += [reason.replace(FLOW_CONTROL, "[flow control](flow-control.md)"), ""]
    return "\n".join(parts)


def _head(results: Path, page: Path) -> Iterator[str]:
    yield INTRODUCTION.format(command=Results.load(results).settings["command"])
    for name, title in PLOTS.items():
        plot = results.with_name(f"{name}.svg")
        if plot.exists():
            yield f"![{title}]({Path(os.path.relpath(plot, page.parent)).as_posix()})\n"


if __name__ == "__main__":
    PAGE.write_text(make_page(RESULTS, PAGE), encoding="utf-8")
