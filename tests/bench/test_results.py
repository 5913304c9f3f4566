"""Results: ratios within a round, JSON and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.adapter import BASELINE
from bench.report import format_spread, markdown
from bench.results import Outcome, Results, Spread, Table


def make_results() -> Results:
    bare = Outcome(BASELINE, [{"rate": 100.0, "cpu_us": 200.0}, {"rate": 50.0, "cpu_us": 400.0}])
    fast = Outcome("fast", [{"rate": 400.0, "cpu_us": 50.0}, {"rate": 100.0, "cpu_us": 80.0}])
    wrong = Outcome(
        "wrong", [{"rate": 1e9, "cpu_us": 0.1}], failure="WrongReply: 3 bytes came of 4"
    )
    environment = {
        "cpu": "a CPU",
        "cpus": 2,
        "system": "a system",
        "python": "a Python",
        "versions": {"h2": "4.4"},
        "baseline_sha256": "0123",
    }
    settings = {"seconds": 2.0, "rounds": 2, "seed": 7, "client_core": 0, "server_core": 1}
    table = Table("unary-32", "a title", "request", [bare, fast, wrong])
    no_part = {"fast": {"it is too slow": ["mix", "connect"], "it is too old": ["hosts-100"]}}
    return Results(environment, settings, [table], {"absent": "it is not installed"}, no_part)


def test_spread_has_the_median_and_the_bounds() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)


def test_ratio_is_taken_within_each_round() -> None:
    (table,) = make_results().tables
    # 400 / 100 and 100 / 50; the ratio of the medians would be another one.
    assert table.ratio("fast", "rate") == Spread(3.0, 2.0, 4.0)
    assert table.ratio("fast", "cpu_us") == pytest.approx((0.225, 0.2, 0.25))
    assert table.ratio(BASELINE, "rate") == Spread(1.0, 1.0, 1.0)


def test_disqualified_client_has_no_figures() -> None:
    (table,) = make_results().tables
    assert table.ratio("wrong", "rate") is None
    outcome = table.outcome("wrong")
    assert outcome is not None
    assert outcome.spread("rate") is None


def test_json_keeps_everything(tmp_path: Path) -> None:
    results = make_results()
    path = tmp_path / "folder" / "results.json"
    results.save(path)
    assert Results.load(path) == results


def test_results_from_before_anybody_took_no_part_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    make_results().save(path)
    raw = json.loads(path.read_text())
    del raw["takes_no_part"]
    path.write_text(json.dumps(raw))
    assert Results.load(path).takes_no_part == {}


def test_markdown_has_a_row_for_each_client_that_finished_and_a_reason_for_all_others() -> None:
    lines = markdown(make_results()).splitlines()
    assert "| client | request/s | CPU µs/request | rate ÷ bare | CPU ÷ bare |" in lines
    assert any(line.startswith("| fast | 250 (100–400) |") for line in lines)
    assert not any(line.startswith("| wrong") for line in lines)
    assert "- wrong failed at unary-32: WrongReply: 3 bytes came of 4" in lines
    assert "- absent was left out: it is not installed" in lines
    told = "- fast takes no part in mix, connect (it is too slow); hosts-100 (it is too old)"
    assert told in lines
    assert any("0123" in line for line in lines)
    assert any("seed 7" in line and "client on core 0" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (1.5, "1.50"), (12.34, "12.3"), (99.96, "100"), (123456.7, "123,457")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert format_spread(Spread(value, value, value)).partition(" ")[0] == text
