"""A window ends with the last call that was in flight; a call belongs to those that it touches."""

from __future__ import annotations

import random

import pytest

from bench.drill.ledger import OK, Call, Occurrence
from bench.drill.windows import Share, Shares, Spans, Window, windows_of


def call(begin: float, end: float, worker: int = 0) -> Call:
    return Call(1, worker, "unary", begin, end, -1.0, OK)


def spans_of(*calls: Call) -> Spans:
    spans = Spans(2)
    for each in sorted(calls, key=lambda each: each.end):
        spans.add(each)
    return spans


def test_a_window_lasts_until_the_last_call_of_its_worker_that_was_in_flight() -> None:
    calls = [call(0.9, 1.5), call(0.8, 1.2), call(1.01, 3.0), call(0.9, 2.0, worker=1)]
    faults = [Occurrence("SIGKILL", 0, 0.5, 1.0), Occurrence("overload", 1, 0.1, 0.2)]
    assert windows_of(faults, spans_of(*calls), 2) == [
        [Window(0.5, 1.5, "SIGKILL")],
        [Window(0.1, 0.2, "overload")],
    ]


def test_a_call_that_is_stuck_for_long_is_found_behind_many_short_ones() -> None:
    short = [call(number / 100, number / 100 + 0.01) for number in range(500)]
    spans = spans_of(call(0.999, 4.9), *short)
    assert windows_of([Occurrence("half-open", 0, 0.5, 1.0)], spans, 2)[0][0].end == 4.9


@pytest.mark.parametrize("seed", range(5))
def test_a_call_counts_for_the_windows_that_it_touches_and_for_no_other(seed: int) -> None:
    rng = random.Random(seed)
    windows = sorted(
        Window(begin := rng.uniform(0, 50), begin + rng.expovariate(1), str(number))
        for number in range(40)
    )
    shares = Shares([windows], calm=0.0)
    counted = dict.fromkeys(map(str, range(40)), 0)
    outside = 0
    for _ in range(300):
        made = call(begin := rng.uniform(0, 50), begin + rng.expovariate(5))
        touched = [w.kind for w in windows if w.begin <= made.end and made.begin <= w.end]
        for kind in touched:
            counted[kind] += 1
        outside += not touched
        shares.count(made)
    assert {kind: shares.kinds.get(kind, Share()).calls for kind in counted} == counted
    assert shares.outside.calls == outside
