"""Runs sequences out of seeds: as many as wanted, each a world of its own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Final, NamedTuple

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from dynamo_h2.http2.frames import HEADER_LENGTH
from tests.differential.chooser import Chooser
from tests.differential.pair import Pair
from tests.differential.pools import CONFIGS
from tests.differential.steps import Burst, Open, Receive, Sequence, Step
from tests.differential.wire import frames_of
from tests.http2.frame_factory import settings

__all__ = ["DEFAULT_SEED", "Finding", "Totals", "explore", "explore_on_all_cores", "explore_one"]

DEFAULT_SEED: Final = 9113

_SHORTEST, _LONGEST = 12, 28
# How many sequences a core is given at a time.
_SHARE: Final = 500
# So often a connection is old already: it has had more streams than an engine remembers.
_OLD_EVERY: Final = 1_000
_LONG_LIFE: Final[tuple[Step, ...]] = (
    Receive(settings()),
    Open(0, 0, end_stream=True),
    Burst(2_050),
)
# How many sequences have a peer whose bytes are damaged.
_HOSTILE: Final = 0.3
# How the peer's bytes come, by turns: at every boundary in one sequence of ten.
_TEN: Final = ("byte", "few", "few", *["whole"] * 7)
_CUTTINGS: Final = (*_TEN, *_TEN[:-1], "payload")
# How many sequences that have come to their end go on with what ends the connection.
_ENDING: Final = 0.5
# How many steps follow after the connection has failed: it has to stay failed.
_STEPS_AFTER_FAILURE: Final = 2


class Finding(Exception):
    """A sequence on which the engines differ, or one of them raises what it must not.

    Args:
        sequence: Runs into it.
        seed: Made it, as "seed:number".
    """

    def __init__(self, sequence: Sequence, seed: str, cause: Exception) -> None:
        super().__init__(f"sequence {seed}, step {len(sequence.steps)}: {cause!r}")
        self.sequence = sequence
        self.seed = seed
        self.cause = cause


class Totals(NamedTuple):
    """What was run.

    Args:
        sequences: How many.
        steps: Of all of them.
        reads: How often the peer's bytes came; most of the time goes into these.
        kinds: In how many of them the peer began a frame of a type.
    """

    sequences: int
    steps: int
    reads: int
    kinds: Counter[int]


def explore_one(seed: int, number: int, fast: type[Engine] = FastEngine) -> Sequence:
    """Make and run one sequence.

    Args:
        seed: The seed of the run.
        number: Which sequence of it.
        fast: The engine that is held against the stock one.

    Raises:
        Finding: The engines differ.
    """
    random = Random(f"{seed}:{number}")
    cutting = _CUTTINGS[number % len(_CUTTINGS)]
    config = random.randrange(len(CONFIGS))
    hostile, huffman = random.random() < _HOSTILE, CONFIGS[config].huffman
    chooser = Chooser(random, hostile=hostile, cutting=cutting, huffman=huffman)
    steps: list[Step] = []

    def run(step: Step) -> None:
        steps.append(step)
        pair.run(step)

    try:
        pair = Pair(config, fast)
        if number % _OLD_EVERY == 0:
            for step in _LONG_LIFE:
                run(step)
        left = random.randint(_SHORTEST, _LONGEST)
        while left:
            run(chooser.step(pair.stock, pair.inbound.partial))
            left = min(left, _STEPS_AFTER_FAILURE) if pair.stock.failed else left
            left -= 1
        if not pair.stock.failed and random.random() < _ENDING:
            run(chooser.ending(pair.stock))
            for _ in range(_STEPS_AFTER_FAILURE):
                run(chooser.step(pair.stock, pair.inbound.partial))
    except Exception as error:
        raise Finding(Sequence(config, steps), f"{seed}:{number}", error) from error
    return Sequence(config, steps)


def explore(seed: int, numbers: range, fast: type[Engine] = FastEngine) -> Totals:
    steps = reads = 0
    kinds = Counter[int]()
    for number in numbers:
        sequence = explore_one(seed, number, fast)
        steps += len(sequence.steps)
        received = [step for step in sequence.steps if isinstance(step, Receive)]
        reads += sum(len(step.cuts) + 1 for step in received)
        kinds.update(_kinds(b"".join([step.data for step in received])))
    return Totals(len(numbers), steps, reads, kinds)


def explore_on_all_cores(seed: int, sequences: int) -> Totals:
    """Make and run the first sequences of a seed, each core its share.

    Raises:
        Finding: The engines differ on one of them.
    """
    shares = [range(at, min(at + _SHARE, sequences)) for at in range(0, sequences, _SHARE)]
    # Not by fork: what a test runner has open is none of theirs.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_explore_share, itertools.repeat(seed), shares))
    failed = [number for number in found if isinstance(number, int)]
    for number in failed:
        explore_one(seed, number)
    assert not failed, f"they fail only at times: {failed}"
    each = [totals for totals in found if not isinstance(totals, int)]
    kinds = sum((totals.kinds for totals in each), Counter[int]())
    steps, reads = sum(totals.steps for totals in each), sum(totals.reads for totals in each)
    return Totals(sequences, steps, reads, kinds)


def _explore_share(seed: int, numbers: range) -> Totals | int:
    """Run a share; returns the number of a sequence on which the engines differ, if there is one.

    The number says it all: what such a sequence raises is not made to cross to another process.
    """
    try:
        return explore(seed, numbers)
    except Finding as finding:
        return int(finding.seed.partition(":")[2])


def _kinds(received: bytes) -> set[int]:
    return {frame[3] for frame in frames_of(received) if len(frame) >= HEADER_LENGTH}
