"""The scenarios of flow control: their arithmetic, their clock, and one of them in short."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest

from bench.adapter import WrongReply
from bench.flow.__main__ import main, parse
from bench.flow.page import make_page
from bench.flow.payload import PERIOD, PIECE, Checker
from bench.flow.plots import draw_all
from bench.flow.record import Record, rate_between, rates, thinned, total_at
from bench.flow.scenarios import SCENARIOS
from bench.flow.servers import server, worker
from bench.flow.setups import ADAPTIVE, FIXED_SMALL, HTTPX, SETUPS, Setup
from bench.flow.simulated import Peer, Simulation
from bench.flow.stage import ChildError, play
from bench.servers import missing
from dynamo_h2 import Http2Config

LOG = [(0.5, 50.0), (1.0, 100.0), (2.0, 400.0)]


def record() -> Record:
    told = Record("download", "A title")
    told.rows.append({"client": "one", "rate": 1.5})
    told.judge("as much as asked", "more", kept=True)
    told.draw("download-1ms", "rate, MB/s", "one", [(0.0, 1.0), (1.0, 2.0)])
    told.notes.append("A note.")
    return told


def test_a_running_total_is_known_at_any_moment() -> None:
    assert [total_at(LOG, when) for when in (0.25, 0.5, 1.5, 3.0)] == [25, 50, 250, 400]


def test_a_rate_is_what_came_between_two_moments() -> None:
    assert rate_between(LOG, 0.5, 1.0) == 100
    assert rate_between(LOG, 1.0, 2.0) == 300


def test_rates_are_those_of_the_steps() -> None:
    assert rates(LOG, 1.0) == [(1.0, 100.0), (2.0, 300.0)]


def test_thinned_points_are_few_and_keep_their_order() -> None:
    thin = thinned([(float(number), float(number)) for number in range(1001)], 100)
    assert len(thin) <= 100
    assert thin == sorted(thin)


def test_a_record_is_what_it_was_when_it_is_read_again(tmp_path: Path) -> None:
    record().save(tmp_path)
    read = Record.load(tmp_path / "download.json")
    assert (read.rows, read.verdicts, read.kept) == (record().rows, record().verdicts, True)
    assert [path.name for path in tmp_path.iterdir()] == ["download.json"]


def test_a_record_with_one_missed_bound_is_not_kept() -> None:
    told = record()
    told.judge("more than asked", "less", kept=False)
    assert not told.kept


def test_the_page_has_every_figure_and_says_what_was_not_played(tmp_path: Path) -> None:
    record().save(tmp_path)
    drawn = draw_all(tmp_path)
    assert {path.suffix for path in drawn} == {".png", ".svg"}
    page = make_page(tmp_path, tmp_path / "page.md")
    for words in (
        "| one | 1.5 |",
        "as much as asked | more | kept",
        "A note.",
        "(download-1ms.svg)",
    ):
        assert words in page
    assert "Not played in this run: drop" in page


def test_scenarios_have_names_of_their_own() -> None:
    names = [scenario.NAME for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert parse(["--only", names[-1]]).only == [names[-1]]


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "nonsense"])
    assert "invalid choice" in capsys.readouterr().err


# Bytes


@pytest.mark.parametrize("size", [1, 250, 251, 16_384, 3_000_000])
def test_right_bytes_pass_however_they_are_cut(size: int) -> None:
    checker, whole = Checker(), PIECE * 13
    for start in range(0, len(whole), size):
        checker.add(whole[start : start + size])
    assert checker.total == len(whole)


@pytest.mark.parametrize("wrong", [PERIOD[1:], PERIOD[:100] + b"x", PIECE[:300] + PIECE[301:600]])
def test_wrong_bytes_are_found(wrong: bytes) -> None:
    checker = Checker()
    checker.add(PIECE)
    with pytest.raises(WrongReply):
        checker.add(wrong)


# The simulated clock


def simulate(peer: Peer, seconds: float, **config: float) -> tuple[float, int, int]:
    """When the peer was given up, how many PINGs it got, and how often it was doubted."""
    found = Simulation(Http2Config().replace(**config), peer, jitter=0.0).run(seconds)
    return found.died_at, len(found.pings), found.doubts


def test_a_peer_that_answers_is_never_given_up() -> None:
    died_at, pings, _ = simulate(Peer(delay=5.0), 600.0, keep_alive_timeout=10)
    assert died_at == inf
    assert pings > 10


def test_a_peer_whose_answers_take_too_long_is_given_up() -> None:
    died_at, _, _ = simulate(Peer(delay=11.0), 600.0, keep_alive_timeout=10)
    assert died_at < 60


def test_a_peer_that_dies_is_given_up_after_interval_and_time_out() -> None:
    died_at, _, _ = simulate(
        Peer(delay=0.01, dies_at=0.5), 100.0, keep_alive_interval=20, keep_alive_timeout=5
    )
    assert 25 <= died_at <= 26


def test_a_peer_that_dies_is_doubted_before() -> None:
    _, _, doubts = simulate(Peer(delay=0.01, dies_at=0.5), 10.0)
    assert doubts == 1


@pytest.mark.parametrize("name", ["patient"])
def test_scenarios_on_a_simulated_clock_keep_their_bounds(name: str, tmp_path: Path) -> None:
    assert main(["--only", name, "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert told["verdicts"]
    assert all(verdict["kept"] for verdict in told["verdicts"])


def test_what_has_its_results_is_skipped_when_a_run_is_resumed(tmp_path: Path) -> None:
    told = Record("patient", "From before")
    told.save(tmp_path)
    assert main(["--only", "patient", "--resume", "--out", str(tmp_path)]) == 0
    assert Record.load(tmp_path / "patient.json").title == "From before"


# Clients in processes of their own


@pytest.mark.skipif(missing("nginx") is not None, reason="nginx is not installed")
async def test_a_stalled_stream_holds_up_no_token(tmp_path: Path) -> None:
    with server(endless=32 << 20) as url:
        told = await play(ADAPTIVE, "slow", url, live=2, stalled=2, seconds=0.3)
        assert told.result["beside"]["rate"] > 0
        assert told.before > 0
        assert told.memory
        for setup in (FIXED_SMALL, HTTPX):
            told = await play(setup, "crowd", url, streams=3, length=1 << 20, rate=1e9)
            assert told.result["right"] == 3 << 20


async def test_small_requests_go_beside_uploads() -> None:
    with worker() as url:
        told = await play(ADAPTIVE, "uploads", url, count=2, size=1 << 23, per_second=500.0)
        assert told.result["small"]["count"] > 0
        told = await play(ADAPTIVE, "mixed", url, size=1 << 24, per_second=500.0, seconds=0.1)
        assert told.result["beside"]["p99_ms"] >= told.result["beside"]["p50_ms"] > 0


async def test_what_a_client_raises_is_its_failure() -> None:
    with pytest.raises(ChildError, match="ConnectError"):
        await play(ADAPTIVE, "download", "http://127.0.0.1:1", seconds=0.1)


@pytest.mark.parametrize("setup", SETUPS.values(), ids=lambda setup: setup.name)
def test_every_setup_can_be_measured_or_says_why_not(setup: Setup) -> None:
    assert setup.missing is None or "not installed" in setup.missing
    if setup.library == "dynamo_h2":
        Http2Config(**setup.options)  # raises where one is out of range


def test_an_option_that_does_not_exist_is_named() -> None:
    assert ADAPTIVE.with_options(no_such=1).missing == "there is no option no_such"
    assert HTTPX.with_options(no_such=1) == HTTPX
