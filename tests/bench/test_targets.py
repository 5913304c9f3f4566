"""Targets and expectations: what a run of the benchmark says about the client."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from bench import budget
from bench.adapter import BASELINE
from bench.addresses import HOST_ADDRESSES, host_urls
from bench.clients import CLIENTS
from bench.expectations import (
    FEW_STREAMS,
    NO_BUSY_POLL,
    SMALL_FRAMES,
    check,
    why_frames,
    why_polls,
    why_streams,
)
from bench.page import Page, make_page, stored
from bench.plots import draw_all
from bench.report import print_results, sheets
from bench.results import Outcome, Results, Table
from bench.targets import (
    LOAD_GENERATOR,
    OTHER_SERVER,
    OURS,
    TARGETS,
    Target,
    Verdict,
    is_peer,
    judge,
)
from bench.workloads import WORKLOADS

Rounds = list[float]


def table(workload: str, figure: str, **rounds: Rounds) -> Table:
    names = {
        "ours": OURS,
        "bare": BASELINE,
        "limit": LOAD_GENERATOR,
        "few": FEW_STREAMS,
        "asleep": NO_BUSY_POLL,
        "small": SMALL_FRAMES,
    }
    outcomes = [
        Outcome(names.get(client, client), [{figure: value} for value in values])
        for client, values in rounds.items()
    ]
    return Table(workload, f"title of {workload}", "request", outcomes)


def results(*tables: Table) -> Results:
    environment = {
        "cpu": "a CPU",
        "cpus": 2,
        "system": "a system",
        "python": "a Python",
        "versions": {},
        "baseline_sha256": "0123",
    }
    settings = {"seconds": 1.0, "rounds": 2, "seed": 1, "client_core": None, "server_core": None}
    return Results(environment, settings | {"command": "python -m bench"}, list(tables))


def only_verdict(*tables: Table) -> Verdict:
    (verdict,) = judge(results(*tables))
    return verdict


@pytest.mark.parametrize(("cost", "holds"), [(20.0, True), (25.0, True), (26.0, False)])
def test_ratio_to_the_baseline_is_held_against_its_bound(cost: float, holds: bool) -> None:
    verdict = only_verdict(table("unary-32", "cpu_us", ours=[cost, cost], bare=[100.0, 100.0]))
    assert verdict.target == Target("unary-32", "cpu_us", 0.25)
    assert verdict.ratio.median == cost / 100
    assert verdict.holds is holds


def test_rate_is_compared_with_the_best_peer_of_each_round() -> None:
    verdict = only_verdict(
        table(
            "unary-32", "rate", ours=[220.0, 110.0], pycurl=[200.0, 50.0], pyreqwest=[10.0, 100.0]
        )
    )
    assert verdict.ratio == pytest.approx((1.1, 1.1, 1.1))
    assert verdict.holds


def test_failed_peer_does_not_count() -> None:
    run = table("unary-32", "rate", ours=[100.0], pycurl=[50.0], pyreqwest=[1000.0])
    run.outcomes[-1].failure = "WrongReply"
    assert only_verdict(run).ratio.median == 2


def test_at_256_in_flight_every_peer_counts_but_none_that_failed() -> None:
    run = table(
        "unary-256",
        "rate",
        ours=[220.0, 240.0],
        bare=[900.0, 900.0],
        limit=[900.0, 900.0],
        httpx=[50.0, 200.0],
        niquests=[100.0, 50.0],
        few=[900.0, 900.0],
    )
    run.outcomes.append(Outcome("curl_cffi", [{"rate": 500.0}], failure="it hung in round two"))
    verdict = only_verdict(run)
    assert verdict.target.text == "rate ≥ 1.1 × the best peer"
    assert verdict.ratio == pytest.approx((1.7, 1.2, 2.2))  # 220 / 100 and 240 / 200


def test_nothing_is_said_where_no_peer_was_measured() -> None:
    assert judge(results(table("unary-256", "rate", ours=[1.0], bare=[1.0], limit=[1.0]))) == []


def test_peers_are_all_whom_somebody_could_use_instead() -> None:
    peers = {client.name for client in CLIENTS if is_peer(client.name)}
    assert peers == {
        *("httpx", "aiohttp-h1", "pycurl", "curl_cffi", "pyreqwest"),
        *("httpx2", "niquests"),
    }
    assert {client.name for client in CLIENTS if client.own_server} == OTHER_SERVER


def test_bound_is_relaxed_only_where_the_server_is_the_limit() -> None:
    at_limit = table("echo-64k-16", "rate", ours=[96.0], pyreqwest=[100.0], limit=[105.0])
    assert only_verdict(at_limit).bound == 0.95
    assert only_verdict(at_limit).holds
    below_it = table("echo-64k-16", "rate", ours=[96.0], pyreqwest=[100.0], limit=[150.0])
    assert only_verdict(below_it).bound == 1.0
    assert not only_verdict(below_it).holds


def test_cost_at_a_thousand_in_flight_is_compared_with_that_at_32() -> None:
    verdict = only_verdict(
        table("unary-1000", "cpu_us", ours=[36.0]), table("unary-32", "cpu_us", ours=[30.0])
    )
    assert verdict.target.compared_with == "unary-32"
    assert verdict.ratio.median == pytest.approx(1.2)
    assert verdict.holds


def test_nothing_is_said_about_what_was_not_measured() -> None:
    assert judge(results(table("unary-32", "cpu_us", bare=[100.0]))) == []
    assert judge(results(table("unary-32", "cpu_us", ours=[100.0]))) == []
    assert check(results(table("unary-1000", "rate", ours=[100.0]))) == []


def test_targets_and_expectations_name_what_there_is() -> None:
    workloads = {workload.name for workload in WORKLOADS}
    clients = {client.name for client in CLIENTS}
    assert len(workloads) == len(WORKLOADS)
    assert len(clients) == len(CLIENTS)
    for target in TARGETS:
        assert {target.workload, target.compared_with or target.workload} <= workloads
        assert {OURS, *target.peers} <= clients
    for client in CLIENTS:
        assert client.only <= workloads
    assert {OURS, LOAD_GENERATOR, SMALL_FRAMES, FEW_STREAMS, NO_BUSY_POLL} <= clients


def test_expectations_are_reported_as_they_come_out() -> None:
    frames, pool, streams = check(
        results(
            table("download-64", "rate", ours=[300.0], small=[200.0]),
            table("connect", "p50_ms", ours=[2.0]),
            table("unary-1", "p50_ms", ours=[0.5]),
            table("unary-1000", "rate", ours=[90.0], few=[100.0]),
        )
    )
    assert frames.measured.median == 1.5
    assert pool.measured.median == 75
    assert streams.measured.median == pytest.approx(-10)


def test_the_page_says_what_staying_awake_saves_and_costs() -> None:
    measured = table("unary-1", "p50_ms", ours=[0.12], asleep=[0.18], bare=[0.3], limit=[0.15])
    assert why_polls(results(measured)) is None  # not without the CPU
    for outcome, cpu in zip(measured.outcomes, (100.0, 70.0, 200.0, 50.0), strict=True):
        outcome.rounds[0]["cpu_us"] = cpu
    reason = why_polls(results(measured))
    assert reason is not None
    assert "spends 100 µs of CPU on a request instead of 70" in reason
    assert "after 120 µs instead of 180" in reason
    assert "takes 0.60 of the baseline's time, and h2load 0.50; awake it takes 0.40" in reason


def both(workload: str, variant: str, **rates: float) -> Table:
    """A table in which everybody has a rate, and costs the inverse of it."""
    names = {"ours": OURS, "limit": LOAD_GENERATOR, "other": variant}
    outcomes = [
        Outcome(names.get(client, client), [{"rate": rate, "cpu_us": 1e6 / rate}])
        for client, rate in rates.items()
    ]
    return Table(workload, "a title", "request", outcomes)


def test_whoever_gets_the_most_is_named() -> None:
    ours_first = both("download-64", SMALL_FRAMES, ours=2500, limit=1800, pycurl=1900, other=2600)
    reason = why_frames(results(ours_first))
    assert reason is not None
    assert "385 µs of CPU per MiB instead of 400" in reason
    assert "No other client gets more from the server's core than this one: 2,500 MiB/s" in reason
    assert "next comes pycurl with 1,900." in reason
    other_first = both("unary-1000", FEW_STREAMS, ours=60_000, limit=80_000, other=50_000)
    reason = why_streams(results(other_first))
    assert reason is not None
    assert "20.0 µs of CPU each instead of 16.7" in reason
    assert "h2load gets the most from the server's core: 80,000 requests/s; this one" in reason
    alone = both("unary-1000", FEW_STREAMS, ours=60_000, other=50_000)
    assert why_streams(results(alone)) is None


def test_reasons_are_printed_as_they_stand_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = results(both("download-64", SMALL_FRAMES, ours=2500, limit=1800, other=2600))
    made.left_out["somebody"] = "[bold] is no markup"
    print_results(made, Console(width=1000))
    printed = capsys.readouterr().out
    reason = why_frames(made)
    assert reason is not None
    assert reason in printed
    assert "[bold] is no markup" in printed
    made.save(tmp_path / "results.json")
    page = Page(tmp_path / "page.md", "A page", tmp_path / "results.json")
    assert "see [flow control](flow-control.md)." in make_page(page)


def full_results() -> Results:
    figures = ("rate", "cpu_us", "p10_ms", "p25_ms", "p50_ms", "p75_ms", "p90_ms", "p99_ms")
    rounds = [dict.fromkeys((*figures, "p999_ms"), 1.5)]
    tables = [
        Table(workload.name, workload.title, workload.unit, [Outcome(OURS, rounds)])
        for workload in WORKLOADS[:5]
    ]
    for made in tables:
        made.outcomes.append(Outcome(BASELINE, rounds))
    return results(*tables)


def test_plots_are_drawn_in_both_formats_and_the_page_shows_them(tmp_path: Path) -> None:
    made = full_results()
    made.save(tmp_path / "results" / "results.json")
    written = draw_all(made, tmp_path / "results")
    names = {"rate", "cpu", "latency", "in_flight"}
    assert {path.name for path in written} == {f"{n}.{s}" for n in names for s in ("png", "svg")}
    assert all(path.stat().st_size > 1000 for path in written)
    page = Page(tmp_path / "docs" / "a.md", "This page", tmp_path / "results" / "results.json")
    other = Page(tmp_path / "docs" / "b.md", "The other", tmp_path / "other.json")
    text = make_page(page, (page, other))
    for name in names:
        assert f"(../results/{name}.svg)" in text
    for sheet in sheets(made):
        assert f"## {sheet.title}" in text
    assert "## Targets" in text
    assert text.startswith("# This page\n")
    assert "Another run: [The other](b.md)." in text
    assert "(a.md)" not in text
    assert stored((page, other)) == (page,)


def test_plots_of_the_same_results_are_the_same_file(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        draw_all(full_results(), tmp_path)
        contents.append((tmp_path / "rate.svg").read_bytes())
    assert contents[0] == contents[1]


def test_results_without_figures_have_no_plots(tmp_path: Path) -> None:
    assert draw_all(results(), tmp_path) == []


def test_hosts_are_loopback_addresses_on_one_port() -> None:
    urls = host_urls("http://127.0.1.1:8080")
    assert len(set(urls)) == len(HOST_ADDRESSES) == 100
    assert urls[0] == "http://127.0.1.1:8080"
    assert all(url.startswith("http://127.") and url.endswith(":8080") for url in urls)


@pytest.mark.parametrize("client", [OURS, BASELINE])
def test_budget_names_the_modules_of_the_client(
    client: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert budget.main(["--client", client, "--requests", "500", "--in-flight", "8"]) == 0
    printed = capsys.readouterr().out
    assert ("dynamo_h2/client.py" if client == OURS else "h2") in printed
    assert "100 %" in printed


def test_the_pages_about_performance_are_those_of_the_stored_results() -> None:
    pages = stored()
    assert pages
    for page in pages:
        assert page.path.read_text(encoding="utf-8") == make_page(page, pages)
