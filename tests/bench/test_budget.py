"""Where the microseconds of a request go, and the page that says so."""

from __future__ import annotations

import cProfile
import json
import re
from dataclasses import replace
from pathlib import Path
from time import thread_time

import pytest

from bench import budget
from bench.budget import LOOP, Cost, Measured, costs, draw, markdown, module_of, rows
from bench.payloads import payload

ROOT = Path(budget.__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
REQUESTS = 20


@pytest.fixture(scope="module")
def measured() -> Measured:
    begun = thread_time()
    with cProfile.Profile(thread_time) as profile:
        for number in range(REQUESTS):
            payload(number, 1000)
            json.dumps([number] * 100)
    whole = thread_time() - begun
    return Measured(plain=0.020, kernel=0.005, profiled=whole + 0.011, profile=profile)


def test_all_parts_together_are_what_was_measured_without_the_profiler(measured: Measured) -> None:
    found = costs(measured, REQUESTS)
    assert sum(cost.microseconds for cost in found.values()) == pytest.approx(1000)
    assert found[LOOP].microseconds >= 550  # the time that no function of Python had
    assert [*found] == sorted(found, key=lambda name: -found[name].microseconds)


def test_calls_are_counted_by_the_module_of_the_function(measured: Measured) -> None:
    found = costs(measured, REQUESTS)
    assert found["bench/payloads.py"].calls == 1
    assert found["Python's encoder"].calls >= 1
    assert found["bench/payloads.py"].microseconds > 0


def test_a_loop_that_costs_less_than_nothing_costs_nothing(measured: Measured) -> None:
    found = costs(replace(measured, profiled=0.0), REQUESTS)
    assert found[LOOP] == Cost(0, 0)
    assert sum(cost.microseconds for cost in found.values()) == pytest.approx(1000)


def test_modules_are_named_by_their_place() -> None:
    assert module_of(budget.__file__) == "bench/budget.py"
    assert module_of(json.__file__) == "Python's __init__"
    assert module_of("/usr/lib/site-packages/h2/stream.py") == "h2"


def test_small_modules_share_a_row_and_the_loop_has_its_own() -> None:
    found = {"large": Cost(2, 97), "one": Cost(1, 0.5), "two": Cost(3, 0.5), LOOP: Cost(0, 0.1)}
    assert rows(found) == [
        ("large", "2.0", "97.0", "99 %"),
        (LOOP, "", "0.1", "0 %"),
        ("2 others", "4.0", "1.0", "1 %"),
    ]
    assert draw(found, "title").row_count == 3
    assert markdown(found).splitlines()[2:4] == [
        "| large | 2.0 | 97.0 | 99 % |",
        f"| {LOOP} |  | 0.1 | 0 % |",
    ]


@pytest.mark.released_defaults
def test_the_command_measures_a_real_worker(capsys: pytest.CaptureFixture[str]) -> None:
    # Enough of them that the system's coarse account of the kernel's part does not hide the rest.
    assert budget.main(["--requests", "2000", "--in-flight", "4", "--markdown"]) == 0
    table = capsys.readouterr().out
    assert "| dynamo_h2/http2/fast" in table
    assert f"| {LOOP} |" in table
    assert "the kernel's part of all is " in table


def test_the_page_about_the_architecture_holds_such_a_table() -> None:
    section = PAGE.partition("\n## Where the time of a request goes\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    head, lines = cells[0], cells[2:]
    assert head == ["where", "calls", "µs", "share"]
    names = [name for name, *_ in lines]
    assert LOOP in names
    places = [name for name in names if "/" in name]
    assert len(places) > 5
    assert [name for name in places if not (ROOT / name).exists()] == []
    assert sum(int(share.removesuffix(" %")) for *_, share in lines) == pytest.approx(100, abs=6)
    told = re.search(r"together\s([\d.]+) µs", section)
    assert told is not None
    assert sum(float(spent) for _, _, spent, _ in lines) == pytest.approx(float(told[1]), abs=1)
