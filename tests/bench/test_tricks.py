"""The tricks of the request path: each can be taken out, and without it the client is right too."""

from __future__ import annotations

import random
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import tricks
from bench.scenes import (
    ANSWER,
    ANSWER_ON_ONE_CORE,
    CONNECTION,
    DOWNLOAD,
    FIRST_ANSWER,
    LONE_REQUEST,
    LONE_TOKEN,
    MADE,
    REQUEST,
    REQUEST_WITH_FIELDS,
    TOKEN_READ,
    UPLOADED,
    Scene,
)
from bench.tricks import LEAST_ROUNDS, TRICKS, Gain, Trick, count_calls, measure, rewritten, row
from dynamo_h2.http2 import fast, stream

SCENES = [
    REQUEST,
    LONE_REQUEST,
    REQUEST_WITH_FIELDS,
    MADE,
    CONNECTION,
    FIRST_ANSWER,
    ANSWER,
    ANSWER_ON_ONE_CORE,
    TOKEN_READ,
    LONE_TOKEN,
    DOWNLOAD,
    UPLOADED,
]
# The loop turns there for as long as an answer takes: so many calls there are.
TURNING = (ANSWER, ANSWER_ON_ONE_CORE)
PACKAGE = Path(fast.__file__).parents[1]

# The tricks are those of the fast engine.
pytestmark = pytest.mark.released_defaults


def short(scene: Scene) -> Scene:
    """The same with few repetitions, in whole requests, rounds of streams, reads and uploads."""
    return replace(scene, block=scene.block // 4)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.unit)
async def test_a_scene_repeats_what_it_says(scene: Scene) -> None:
    async with scene.open() as repeat:
        await repeat(scene.block // 4)
        first = await count_calls(scene, repeat)
        again = await count_calls(scene, repeat)
        assert again == pytest.approx(first, rel=0.1) or scene in TURNING
        assert first > 5


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
async def test_the_client_makes_more_calls_without_a_trick(trick: Trick) -> None:
    scene = trick.scene
    async with scene.open() as repeat:
        await repeat(scene.block // 4)
        calls = await count_calls(scene, repeat)
        with trick.off():
            await repeat(scene.block // 4)
            without = await count_calls(scene, repeat)
        assert without > calls + 0.5 or not trick.saves_calls
        again = await count_calls(scene, repeat)
        assert again == pytest.approx(calls, rel=0.1) or scene in TURNING


async def test_a_trick_is_measured_beside_the_spread_of_the_same_code() -> None:
    # Longer than all the rest: nothing else that goes on here takes as much.
    slow = rewritten(stream, "ReceiveHalf.read", ("size = ", "[None] * 300_000; size = "))
    few = replace(TOKEN_READ, block=TOKEN_READ.block // 16)
    found = await measure(Trick("", few, slow), 5, random.Random(1))
    assert found.gain > 0
    assert found.whole > 0
    assert found.spread >= 0
    assert found.counts


def test_a_gain_inside_the_spread_counts_as_none() -> None:
    inside = Gain(calls=5, calls_without=6, gain=0.1, spread=0.1, whole=2)
    assert not inside.counts
    assert inside._replace(gain=0.11).counts
    trick = Trick("name", REQUEST, AbstractContextManager)
    assert row(trick, inside) == (
        "name", "request", "6.0 → 5.0", "2.10 → 2.00", "0.10", "±0.10", "none",
    )  # fmt: skip


def test_source_that_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(LookupError, match="has 'nowhere' 0 times"):
        rewritten(fast, "FastEngine._end", ("nowhere", ""))()


def test_too_few_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tricks.main(["--rounds", str(LEAST_ROUNDS - 1)])
    assert f"at least {LEAST_ROUNDS}" in capsys.readouterr().err


def test_the_command_prints_a_row_for_each_trick(capsys: pytest.CaptureFixture[str]) -> None:
    assert tricks.main(["--only", "END_STREAM", "--rounds", str(LEAST_ROUNDS)]) == 0
    assert "END_STREAM sets the state" in capsys.readouterr().out


def test_the_source_says_what_each_trick_saves_beyond_the_spread() -> None:
    source = " ".join(
        re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")
    )
    saved = (
        r"(?:[Ss]aves \d+ calls? and|[Tt]akes \d+ calls? and saves) ([\d.]+) of ([\d.]+) µs per"
        r" [^;]+; A/A ±([\d.]+\d)"
    )
    told = [[float(figure) for figure in found] for found in re.findall(saved, source)]
    assert len(told) >= len(TRICKS)
    assert [figures for figures in told if not figures[2] < figures[0] < figures[1]] == []
