"""The page about reliability: what stands in it comes from results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.drill.page import PAGE, RESULTS, TEXT, make_page
from bench.drill.parties import OURS, PARTIES
from bench.drill.plot import draw
from bench.drill.results import Result, Row
from bench.drill.run import Drill
from bench.drill.schedule import KINDS
from bench.drill.verdict import Check

FIGURES = {
    "calls": 12345,
    "seconds": 60.0,
    "cpu_seconds": 7.0,
    "faults": 3,
    "retries": 8,
    "connections": 9,
    "failed": 11,
    "lost": 4,
    "doubled": 0,
    "wrong": 2,
    "hung": 1,
    "overdue": 2,
    "left": 0,
}
RESULT = Result(
    OURS,
    {"cpu": "a processor", "versions": {"dynamo_h2": "1.2", "httpx2": "3.4"}},
    {"command": "python -m bench.drill", "seed": 1, "in_flight": 256},
    FIGURES,
    [Check("nothing lost", "0", True), Check("nothing doubled", "1", False, ("7",))],
    [Row("SIGKILL", 5, 100, 90, 1, 4, 5, 6, 0.5)],
    [(0.0, 100.0, 0.0), (0.5, 50.0, 10.0)],
    [(0.0, 2**25), (0.5, 2**25)],
    [],
)


def test_the_page_has_the_tables_of_each_seed_and_all_clients(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "drill-1.json")
    replace(RESULT, settings={**RESULT.settings, "seed": 2}).save(tmp_path / "drill-2.json")
    replace(RESULT, client="httpx2").save(tmp_path / "httpx2.json")
    draw(RESULT, tmp_path / "drill-1.svg")
    page = make_page(tmp_path, tmp_path / "reliability.md")
    assert page.startswith(TEXT.read_text(encoding="utf-8"))
    assert "## Seed 1\n" in page
    assert "## Seed 2\n" in page
    assert page.count("![") == 1
    assert "| SIGKILL | 5 | 100 | 90 | 1 | 4 | 5 | 6 | 50 % |" in page
    assert "| nothing doubled | 1 | **failed** |" in page
    assert f"| {OURS} 1.2 | 12,345 | 11 (0.1%) | 4 (0.0%) | 0 | 2 | 3 | 0 |" in page
    assert "| httpx2 3.4 | 12,345 | 11 (0.1%) | 4 (0.0%) | 0 | 2 | 3 | 0 |" in page
    assert "pyreqwest" not in page.partition("client | calls")[2]


def test_the_page_in_the_docs_is_that_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == make_page(RESULTS, PAGE)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_each_kind_of_fault_is_told(kind: str) -> None:
    assert f"| {kind} | " in TEXT.read_text(encoding="utf-8")


def test_who_speaks_http_1_is_not_sent_to_scripted_workers() -> None:
    drill = Drill(plan=None)  # type: ignore[arg-type]
    assert {name for name, entry in PARTIES.items() if entry.fit(drill) != drill} == {"aiohttp"}
    assert not any(spec.scripted for spec in PARTIES["aiohttp"].fit(drill).specs)
