"""The verdict of a drill: each thing that must not be is found, and nothing else complains."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.drill.caller import SelfReport
from bench.drill.ledger import CALLS, ERROR, FAULTS, OK, UNTYPED, WRONG, Call, Tried
from bench.drill.results import Result
from bench.drill.run import Drill
from bench.drill.schedule import Plan
from bench.drill.verdict import Verdict
from bench.drill.workers import WORKERS

DRILL = Drill(Plan(seed=1, calm=3.0, seconds=7.0, each=0, each_process=0), specs=WORKERS[:2])
REPORT = SelfReport(
    "dynamo_h2", lag=0.01, memory_warm=1000, memory_end=1050, in_flight=0, windows=[]
)
NUMBERS = range(1, 81)


def call(number: int, outcome: str = OK, *tried: Tried, **more: object) -> Call:
    """A call of 100 ms; the first 20 of them are in the calm time."""
    begin = number / 8
    made = Call(number, 0, "unary", begin, begin + 0.1, -1.9, outcome, tuple(tried))
    return replace(made, **more)  # type: ignore[arg-type]


def error(name: str, processed: bool | None, stream_id: int | None = 1, code: int = 7) -> Tried:
    return Tried(name, processed, code, stream_id, "")


REFUSED = error("StreamReset", False)
CALLS_OF_A_GOOD_RUN = {number: [call(number)] for number in NUMBERS}
LOG_OF_A_GOOD_RUN = [str(number) for number in NUMBERS]


def judge(
    folder: Path,
    *changed: Call,
    log: Iterable[str] = LOG_OF_A_GOOD_RUN,
    report: SelfReport = REPORT,
    faults: Iterable[tuple[str, int, float, float]] = (),
    drill: Drill = DRILL,
) -> Verdict:
    """The verdict on a good run in which some calls went otherwise."""
    calls = {**CALLS_OF_A_GOOD_RUN}
    for each in changed:
        calls[each.request_id] = [c for c in changed if c.request_id == each.request_id]
    lines = (each.to_line() for group in calls.values() for each in group)
    (folder / CALLS).write_text("".join(lines))
    (folder / "granian-1.log").write_text("".join(f"{line}\n" for line in log))
    (folder / f"director-{FAULTS}").write_text("".join(f"{json.dumps(f)}\n" for f in faults))
    return Verdict(drill, folder, report)


def without(number: int, *instead: str) -> list[str]:
    return [line for line in LOG_OF_A_GOOD_RUN if line != str(number)] + [*instead]


def failed(verdict: Verdict) -> list[str]:
    return [check.title for check in verdict.checks() if not check.passed]


def test_a_good_run_passes(tmp_path: Path) -> None:
    verdict = judge(tmp_path)
    assert failed(verdict) == []
    assert verdict.passed
    assert verdict.lost == 0
    assert sum(done for _, done, _ in verdict.series.rows()) == pytest.approx(2 * len(NUMBERS))


def test_a_request_that_never_ended_fails_it(tmp_path: Path) -> None:
    verdict = judge(tmp_path, report=replace(REPORT, hung=["7: unary"]))
    assert failed(verdict) == ["requests that never ended"]


def test_a_request_may_end_as_late_as_the_loop_was_and_a_quarter_of_a_second(
    tmp_path: Path,
) -> None:
    assert failed(judge(tmp_path, call(40, late=0.259))) == []
    assert failed(judge(tmp_path, call(40, late=0.261))) == [
        "ended over 250 ms + 10 ms of loop lag after their time"
    ]


def test_a_second_execution_fails_it_unless_the_caller_sent_it_again(tmp_path: Path) -> None:
    twice = [*LOG_OF_A_GOOD_RUN, "40"]
    lost = call(40, ERROR, error("ConnectionLost", None), replayable=False)
    assert "executed more often than the caller sent them" in failed(judge(tmp_path, log=twice))
    assert failed(judge(tmp_path, lost, call(40), log=twice)) == []


def test_false_for_what_a_worker_executed_fails_it(tmp_path: Path) -> None:
    said = call(10, ERROR, error("ConnectionLost", False), attempts=3)
    assert failed(judge(tmp_path, said, log=without(10))) == []
    assert failed(judge(tmp_path, said)) == ["said to be unprocessed, and in a worker's log"]


def test_false_for_the_first_of_two_executions_fails_it(tmp_path: Path) -> None:
    said = call(10, ERROR, error("ConnectionLost", False), attempts=3)
    assert failed(judge(tmp_path, said, call(10), log=[*LOG_OF_A_GOOD_RUN, "10"])) == [
        "said to be unprocessed, and in a worker's log"
    ]


def test_an_answer_to_what_no_worker_executed_fails_it(tmp_path: Path) -> None:
    assert failed(judge(tmp_path, log=without(40))) == ["answered with 2xx, and in no worker's log"]


def test_an_exception_without_a_type_fails_it(tmp_path: Path) -> None:
    said = call(10, UNTYPED, error("KeyError", None), words="KeyError: 7")
    verdict = judge(tmp_path, said)
    assert failed(verdict) == ["exceptions without a type of ours"]
    assert verdict.untyped.examples == ["10: KeyError: 7"]


def test_a_cut_answer_that_was_taken_for_a_complete_one_fails_it(tmp_path: Path) -> None:
    said = call(10, WRONG)
    assert failed(judge(tmp_path, said)) == ["wrong or cut answers taken for complete ones"]


def test_a_rule_that_was_broken_towards_a_worker_fails_it(tmp_path: Path) -> None:
    log = [*LOG_OF_A_GOOD_RUN, "!streams 40"]
    assert failed(judge(tmp_path, log=log)) == ["rules of HTTP/2 broken towards a worker"]


def test_a_refusal_has_to_carry_false_unless_a_byte_of_a_response_had_come(tmp_path: Path) -> None:
    unsure = call(10, ERROR, error("StreamReset", None))
    title = "refused by REFUSED_STREAM or GOAWAY: processed is False"
    assert failed(judge(tmp_path, unsure, log=without(10, "~10"))) == []
    assert failed(judge(tmp_path, unsure, log=without(10, "-10"))) == [title]


def test_a_refused_attempt_must_not_have_been_executed_beside_the_one_that_was(
    tmp_path: Path,
) -> None:
    again = call(10, OK, REFUSED, attempts=2)
    assert failed(judge(tmp_path, again, log=[*LOG_OF_A_GOOD_RUN, "-10"])) == []
    assert failed(judge(tmp_path, again, log=[*LOG_OF_A_GOOD_RUN, "10"])) == [
        "executed more often than the caller sent them",
        "said to be unprocessed, and in a worker's log",
    ]


def test_a_refused_dial_has_to_carry_false(tmp_path: Path) -> None:
    refused = Tried("ConnectError", None, None, 1, "ConnectionRefusedError")
    verdict = judge(tmp_path, call(10, ERROR, refused), log=without(10))
    assert failed(verdict) == ["refused dials: processed is False"]


def test_a_refused_dial_has_to_be_tried_again(tmp_path: Path) -> None:
    refusing = [("refused dials", 0, 5.0, 5.4)]
    twice = [(4.9, 0), (5.1, 0), (5.15, 0), (5.2, 1), (5.5, 0)]
    assert failed(judge(tmp_path, faults=refusing, report=replace(REPORT, dials=twice))) == []
    once = [dial for dial in twice if dial != (5.15, 0)]
    assert failed(judge(tmp_path, faults=refusing, report=replace(REPORT, dials=once))) == [
        "times of refusal in which a dial was not tried again"
    ]


def test_a_request_without_a_stream_has_to_carry_false(tmp_path: Path) -> None:
    waited = error("PoolTimeout", None, None)
    verdict = judge(tmp_path, call(10, ERROR, waited), log=without(10))
    assert failed(verdict)[0] == "never written: processed is False"


@pytest.mark.parametrize(
    ("allowed", "change"),
    [
        (False, {}),
        (False, {"attempts": 2}),
        (True, {"attempts": 3}),
        (True, {"replayable": False}),
        (True, {"late": 0.001}),
    ],
)
def test_what_could_have_been_sent_again_has_to_be(
    allowed: bool, change: dict[str, object], tmp_path: Path
) -> None:
    said = call(10, ERROR, REFUSED, **change)
    verdict = judge(tmp_path, said, log=without(10, "-10"))
    title = "unprocessed, replayable, in time, and not tried again"
    assert failed(verdict) == ([] if allowed else [title])
    assert verdict.lost == 1


def test_who_waits_in_vain_while_the_worker_can_be_reached_fails_it(tmp_path: Path) -> None:
    waited = call(40, ERROR, error("RequestTimeout", False, None))
    title = "waited to the end of their time though the worker could be reached"
    log = without(40)
    assert failed(judge(tmp_path, waited, log=log)) == [title]
    refusing = [("REFUSED_STREAM", 0, 4.9, 5.2)]
    assert failed(judge(tmp_path, waited, log=log, faults=refusing)) == [title]
    assert failed(judge(tmp_path, replace(waited, hurried=True), log=log)) == []
    assert failed(judge(tmp_path, waited, log=log, faults=[("SIGSTOP", 0, 4.9, 5.2)])) == []


def test_a_kind_of_fault_that_came_too_seldom_fails_it(tmp_path: Path) -> None:
    drill = replace(DRILL, plan=replace(DRILL.plan, each_process=1))
    kills = [("SIGKILL", 0, 5.0, 6.0), ("SIGSTOP", 0, 7.0, 8.0)]
    assert failed(judge(tmp_path, faults=kills, drill=drill)) == [
        "faults of each kind, at least 0 (1 of a process)"
    ]
    kills.append(("graceful restart", 1, 5.0, 6.0))
    assert failed(judge(tmp_path, faults=kills, drill=drill)) == []


def test_slow_calls_fail_it_outside_of_windows_only(tmp_path: Path) -> None:
    slow = [call(number, end=number / 8 + 0.2) for number in range(40, 48)]  # from 5 s to 6.1 s
    title = "goodput outside the faults' windows ≥ 95% of that in calm"
    assert failed(judge(tmp_path, *slow)) == [title]
    assert failed(judge(tmp_path, *slow, faults=[("frozen link", 1, 4.9, 6.2)])) == [title]
    verdict = judge(tmp_path, *slow, faults=[("frozen link", 0, 4.9, 6.2)])
    assert failed(verdict) == []
    shares = {kind: share for kind, _, share in verdict.rows()}
    assert shares["frozen link"].goodput == pytest.approx(1.1 / 1.9)  # 8 slow calls, 3 others
    assert shares["none"].goodput == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"in_flight": 1}, "streams in flight at the end"),
        ({"windows": ["http://worker: 5"]}, "connections whose window is not whole"),
        ({"left": ["a task"]}, "tasks, sockets and timers left"),
        ({"memory_end": 1101}, "resident memory at most 10% over that after warm-up"),
    ],
)
def test_what_is_left_at_the_end_fails_it(
    change: dict[str, object], title: str, tmp_path: Path
) -> None:
    report = replace(REPORT, **change)  # type: ignore[arg-type]
    assert failed(judge(tmp_path, report=report)) == [title]


def test_a_call_is_read_as_it_was_written() -> None:
    plain = call(3)
    assert Call.from_line(plain.to_line()) == plain
    other = call(4, ERROR, REFUSED, error("ConnectError", False, None), words="tab\tand\nline")
    assert Call.from_line(other.to_line()) == other


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    verdict = judge(tmp_path, faults=[("SIGKILL", 0, 5.0, 6.0)])
    result = Result.of(DRILL, verdict, "h2", "python -m bench.drill")
    result.save(tmp_path / "result.json")
    read = Result.load(tmp_path / "result.json")
    assert read.checks == result.checks
    assert read.rows == result.rows
    assert read.faults == result.faults
    assert read.passed
