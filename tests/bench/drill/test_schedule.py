"""The faults of a drill follow from its seed, and each worker has one at a time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from bench.drill.schedule import KINDS, Fault, Plan, find, make_schedule, show

SCRIPTED = (False, False, False, False, True, True)
FULL = Plan(seed=3, calm=20, seconds=208, each=52, each_process=5)


def line_of(worker: int, faults: list[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.worker == worker]


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    faults = make_schedule(FULL, SCRIPTED)
    assert make_schedule(FULL, SCRIPTED) == faults
    assert make_schedule(Plan(4, 20, 208, 52, 5), SCRIPTED) != faults


@pytest.mark.parametrize("seed", range(10))
def test_each_kind_comes_as_often_as_is_asked_for_and_within_the_time(seed: int) -> None:
    plan = Plan(seed, 20, 208, 52, 5)
    faults = make_schedule(plan, SCRIPTED)
    often = Counter(fault.kind for fault in faults)
    assert often == {kind.name: plan.often(kind) for kind in KINDS}
    assert faults == sorted(faults, key=lambda fault: fault.at)
    assert all(fault.at >= 20 and fault.at + fault.lasts <= 228 for fault in faults)


@pytest.mark.parametrize("worker", range(6))
def test_a_worker_has_no_fault_before_the_last_one_has_settled(worker: int) -> None:
    line = line_of(worker, make_schedule(FULL, SCRIPTED))
    assert len(line) > 50
    for fault, after in pairwise(line):
        assert after.at >= fault.at + fault.lasts + find(fault.kind).settles


def test_only_scripted_workers_are_told_what_to_do() -> None:
    told = {fault.worker for fault in make_schedule(FULL, SCRIPTED) if "GOAWAY" in fault.kind}
    assert told == {4, 5}
    alone = make_schedule(FULL, (False, False))
    assert not [fault for fault in alone if find(fault.kind).side == "script"]


def test_a_schedule_is_shown_with_every_fault_in_it() -> None:
    faults = make_schedule(Plan(1, 2, 10, 2, 1), SCRIPTED)
    shown = "\n".join(show(faults, [f"worker {i}" for i in range(6)]))
    assert shown.count(";") == len(faults)
    for fault in faults:
        assert f"worker {fault.worker}: {fault.kind}" in shown
