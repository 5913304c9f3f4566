"""The fast engine is the stock engine, but for its cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential.cover import measure
from tests.differential.driver import DEFAULT_SEED, Finding, explore_on_all_cores, explore_one
from tests.differential.fuzz import CASES, load_case
from tests.differential.pair import replay
from tests.differential.planted import BUGS, Bug, plant
from tests.differential.unusual import ORIGIN, PRIORITY_UPDATE
from tests.http2 import frame_factory as ff

SEQUENCES = 20_000
LEAST_STEPS = 12
# The sequences take less than a minute on two cores. That depends on the machine, and on one that
# is shared the same ones take half as long again at times: the time is printed, and what it grows
# with is held, which is the same wherever it is counted.
MOST_READS = 80
# Each of these types of frames is in at least one sequence of so many.
KINDS = (*range(ff.ALTSVC + 1), ORIGIN, PRIORITY_UPDATE)
REGULAR = 50
COVERING = 2_000

Say = Callable[[str], None]


@pytest.mark.timeout(600)
def test_random_sequences_have_the_same_outcome_with_both_engines(seed: int, say: Say) -> None:
    begin = time.monotonic()
    totals = explore_on_all_cores(seed, SEQUENCES)
    seconds = time.monotonic() - begin
    say(
        f"{totals.sequences:,} sequences of {totals.steps / totals.sequences:.1f} steps from seed"
        f" {seed}: no difference; {seconds:.0f} s, {totals.reads / totals.sequences:.0f}"
        " reads each"
    )
    assert totals.reads <= MOST_READS * totals.sequences
    assert totals.steps >= LEAST_STEPS * totals.sequences
    seldom = [kind for kind in KINDS if totals.kinds[kind] < totals.sequences // REGULAR]
    assert not seldom, "types of frames that are no regular part"


@pytest.mark.timeout(600)
def test_random_sequences_reach_every_line_and_branch_of_the_fast_engine(say: Say) -> None:
    reach = measure(DEFAULT_SEED, COVERING)
    say(
        f"{COVERING:,} sequences from seed {DEFAULT_SEED} reach {reach.percent:.2f} % of"
        f" {reach.lines} lines and {reach.branches} branches of the fast engine"
    )
    assert reach.missing == []


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_once_found_stays_mended(path: Path) -> None:
    replay(load_case(path))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.partition(":")[0])
def test_a_planted_bug_is_found(bug: Bug, seed: int, say: Say) -> None:
    broken = plant(bug)
    for number in range(SEQUENCES):
        try:
            explore_one(seed, number, broken)
        except Finding as finding:
            say(f"planted: {bug.name}; found by sequence {finding.seed}")
            return
    pytest.fail(f"{bug.name}: not found in {SEQUENCES:,} sequences from seed {seed}")
