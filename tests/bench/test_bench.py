"""The benchmark as a whole: real servers, real clients, processes of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main, parse
from bench.adapter import BASELINE, Adapter, WrongReply
from bench.adapters.h2load_ import figures_of, read_log, requests_in
from bench.child import Order
from bench.clients import CLIENTS, find_clients
from bench.environment import baseline_digest, pick_cores
from bench.results import RESULTS, Results
from bench.runner import Runner, Settings, run_child
from bench.servers import missing, serving
from bench.workloads import WORKLOADS, find_workloads
from examples.local_worker import local_worker

SHORT = 0.05


def order(client: str, workload: str, url: str) -> Order:
    return Order(client, workload, url, seconds=SHORT, seed=1, core=pick_cores()[0])


HERE = [client for client in CLIENTS if client.missing is None and not client.only]
CLIENTS_HERE = [client for client in HERE if not client.program]


@pytest.mark.parametrize("client", CLIENTS_HERE, ids=lambda client: client.name)
def test_every_client_answers_rightly(client: Adapter) -> None:
    with serving(client.own_server or "granian", pick_cores()[1]) as url:
        for workload in find_workloads(["unary-32", "tokens-64"]):
            answer = run_child(order(client.name, workload.name, url))
            assert "failure" not in answer, answer
            assert answer["figures"].keys() >= {"rate", "cpu_us", "p50_ms", "p99_ms"}
            assert min(answer["figures"].values()) > 0


@pytest.mark.parametrize("client", [client for client in HERE if client.program])
def test_load_generator_is_measured_with_what_a_workload_comes_down_to(client: Adapter) -> None:
    with serving("granian", pick_cores()[1]) as url:
        for name in ("unary-32", "tokens-64"):
            answer = run_child(order(client.name, name, url))
            assert "failure" not in answer, answer
            assert min(answer["figures"].values()) > 0


MEASURED_ABOVE = {"unary-32", "tokens-64"}


@pytest.mark.parametrize("name", [w.name for w in WORKLOADS if w.name not in MEASURED_ABOVE])
def test_every_workload_has_figures(name: str) -> None:
    (workload,) = [w for w in WORKLOADS if w.name == name]
    if reason := missing(workload.server):
        pytest.skip(reason)
    with serving(workload.server, pick_cores()[1]) as url:
        asked = order(BASELINE, name, url)
        # Beside downloads a small request takes its time.
        answer = run_child(replace(asked, seconds=1.0) if name == "mix" else asked)
    assert "failure" not in answer, answer
    assert min(answer["figures"].values()) > 0


@pytest.mark.parametrize("client", [c for c in CLIENTS if c.only], ids=lambda client: client.name)
def test_every_variant_is_measured_where_it_belongs(client: Adapter) -> None:
    able = [workload for workload in WORKLOADS if client.server_for(workload)]
    assert {workload.name for workload in able} == client.only
    with serving("granian", pick_cores()[1]) as url:
        answer = run_child(order(client.name, able[0].name, url))
    assert "failure" not in answer, answer


def test_load_generator_whose_requests_fail_has_no_figures() -> None:
    with pytest.raises(WrongReply, match="1 of 2 statuses"):
        read_log("1\t200\t150\n2\t404\t90\n")
    assert read_log("") == []


def test_log_of_the_load_generator_is_counted_in_units_and_by_its_own_clock() -> None:
    # The second begins half a second in, and ends two seconds after the first began.
    log = read_log("7000000\t200\t1000\n7500000\t202\t1500000\n")
    figures = figures_of(log, units=16, cpu=0.0032)
    wanted = {"rate": 16, "cpu_us": 100, "p50_ms": 1, "p99_ms": 1500}
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted)


def test_load_generator_is_asked_for_what_fits_into_the_time() -> None:
    assert requests_in(4, finished=100, in_flight=32) == 528
    assert requests_in(4, finished=0, in_flight=1) == 4


def test_client_that_gets_something_else_is_disqualified() -> None:
    # This worker sends other tokens than those that the benchmark knows.
    with local_worker() as url:
        answer = run_child(order(BASELINE, "tokens-64", url))
    assert answer == {"failure": "WrongReply: a token stream came back changed"}


def test_client_without_a_server_is_disqualified() -> None:
    answer = run_child(order(BASELINE, "unary-1", "http://127.0.0.1:1"))
    assert answer["failure"].startswith("ConnectionRefusedError: ")


def test_child_that_breaks_is_a_failure() -> None:
    answer = run_child(order(BASELINE, "no such workload", "http://127.0.0.1:1"))
    assert answer["failure"].startswith("ended with exit code 1: LookupError: unknown workload")


def test_rounds_are_interleaved_and_absent_clients_are_named() -> None:
    turns: list[str] = []
    absent = Adapter(name="absent", module="nothing", library="no_such_library")
    adapters = (*find_clients([BASELINE, "httpx"]), absent)
    settings = Settings(SHORT, 2, 1, *pick_cores())
    runner = Runner(adapters, find_workloads(["unary-1"]), settings, lambda _, c: turns.append(c))
    results = runner.run()
    assert turns == [BASELINE, "httpx", BASELINE, "httpx"]
    assert len(turns) == runner.turns
    assert results.left_out == {"absent": "no_such_library is not installed"}
    assert [len(outcome.rounds) for outcome in results.tables[0].outcomes] == [2, 2]


def test_whoever_has_no_part_in_a_workload_is_named_with_the_reason() -> None:
    adapters = tuple(client for client in CLIENTS if client.missing is None)
    settings = Settings(SHORT, 1, 1, *pick_cores())
    able = [workload for workload in WORKLOADS if missing(workload.server) is None]
    runner = Runner(adapters, tuple(able), settings, lambda _, __: None)
    told = runner.takes_no_part
    assert not any(client.only for client in find_clients(list(told)))
    for adapter in adapters:
        absent = {workload for why in told.get(adapter.name, {}).values() for workload in why}
        part = {workload.name for workload in able if adapter.server_for(workload)}
        meant = {workload.name for workload in able if adapter.is_for(workload)}
        assert absent | part == meant
        assert not absent & part


def test_command_line_prints_and_writes_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--only", "unary-1", "--clients", "dynamo_h2", BASELINE]
    arguments += ["--seconds", str(SHORT), "--rounds", "1", "--seed", "5", "--out", str(tmp_path)]
    assert main(arguments) == 0
    results = Results.load(tmp_path / "results.json")
    assert results.settings["seed"] == 5
    assert results.environment["baseline_sha256"] == baseline_digest()
    assert results.environment["versions"]["h2"].startswith("4.")
    assert [outcome.client for outcome in results.tables[0].outcomes] == ["dynamo_h2", BASELINE]
    assert all(outcome.failure is None for outcome in results.tables[0].outcomes)
    printed = capsys.readouterr().out
    for line in (tmp_path / "results.md").read_text().splitlines():
        if line.startswith("## "):
            assert line.removeprefix("## ") in printed
    assert baseline_digest() in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "unknown workload 'nothing'; known are unary-1, "),
        (["--clients", "nobody"], "unknown client 'nobody'; known are dynamo_h2, "),
    ],
)
def test_unknown_names_are_refused_with_those_known(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().out.split())


def test_every_run_has_a_folder_of_its_own() -> None:
    folders = [parse(words).out for words in ([], ["--full"], ["--full", "--out", "here"])]
    assert folders == [RESULTS, RESULTS / "full", Path("here")]


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--rounds", "0"]])
def test_senseless_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


def test_family_of_workloads_is_found_by_the_beginning_of_its_name() -> None:
    names = [workload.name for workload in find_workloads(["unary"])]
    assert len(names) > 1
    assert all(name.startswith("unary-") for name in names)
