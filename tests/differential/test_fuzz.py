"""The tools that keep what was found: they find, make it short, and keep it so that it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dynamo_h2.http2.fast import FastEngine
from tests.differential import fuzz
from tests.differential.driver import Finding, explore_one
from tests.differential.fuzz import kind_of, load_case, save_case
from tests.differential.minimise import minimise
from tests.differential.pair import Difference, replay
from tests.differential.planted import BUGS, plant
from tests.differential.steps import (
    Open,
    Ping,
    Receive,
    Request,
    Sequence,
    Step,
    from_json,
    to_json,
)
from tests.http2 import frame_factory as ff

ROOT = Path(__file__).parents[2]
SEED = "4"
# Found within a few sequences, whatever the seed: at the end of most DATA.
(BUG,) = [bug for bug in BUGS if bug.name.startswith("an off-by-one")]


@pytest.fixture(scope="module")
def broken() -> type[FastEngine]:
    return plant(BUG)


@pytest.fixture(scope="module")
def finding(broken: type[FastEngine]) -> Finding:
    for number in range(1_000):
        try:
            explore_one(int(SEED), number, broken)
        except Finding as found:
            return found
    pytest.fail(f"{BUG.name}: not found")


def test_a_finding_fails_again_where_it_was_found_and_nowhere_else(
    finding: Finding, broken: type[FastEngine]
) -> None:
    assert isinstance(finding.cause, Difference)
    assert kind_of(finding.sequence, broken) == ("Difference", finding.cause.what)
    assert kind_of(finding.sequence) is None


def test_a_saved_case_is_short_and_fails_in_the_same_way(
    finding: Finding, broken: type[FastEngine], tmp_path: Path
) -> None:
    path = save_case(finding, tmp_path / "new", broken)
    kept = load_case(path)
    assert list(path.parent.iterdir()) == [path]
    assert kind_of(kept, broken) == kind_of(finding.sequence, broken)
    assert kind_of(kept) is None
    assert len(kept.steps) < len(finding.sequence.steps)
    for at in range(len(kept.steps)):
        shorter = kept._replace(steps=kept.steps[:at] + kept.steps[at + 1 :])
        assert kind_of(shorter, broken) != kind_of(kept, broken), f"step {at} is not needed"
    assert finding.seed in json.loads(path.read_text())["found"]


def test_the_same_finding_is_saved_once(
    finding: Finding, broken: type[FastEngine], tmp_path: Path
) -> None:
    assert save_case(finding, tmp_path, broken) == save_case(finding, tmp_path, broken)
    assert len(list(tmp_path.iterdir())) == 1


def test_fuzzing_a_broken_engine_says_and_keeps_what_it_finds(
    broken: type[FastEngine], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = fuzz.main(["--seed", SEED, "--sequences", "60", "--cases", str(tmp_path)], broken)
    said = capsys.readouterr().out
    cases = list(tmp_path.glob("*.json"))
    assert found >= 1
    assert 1 <= len(cases) <= found
    assert f"seed {SEED}" in said
    assert "60 sequences, " in said
    assert f" {found} findings" in said
    for path in cases:
        assert str(path) in said
        with pytest.raises(Difference):
            replay(load_case(path), broken)
        replay(load_case(path))


def test_fuzzing_ends_after_twenty_findings(
    broken: type[FastEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "save_case", lambda *_: tmp_path)
    assert fuzz.main(["--seed", SEED, "--sequences", "5000"], broken) == 20


def test_a_clean_run_exits_with_0_and_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.differential.fuzz", "--seed", SEED]
    command += ["--sequences", "20", "--cases", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 sequences, " in done.stdout
    assert " 0 findings" in done.stdout
    assert not list(tmp_path.iterdir())


def test_minimising_leaves_what_it_takes_to_fail_and_no_more() -> None:
    ping, window_update = ff.ping(), ff.window_update(0, 5)
    noise: list[Step] = [Ping(), Open(0, 0, end_stream=True), Receive(ff.settings())]
    guilty = Receive(ping + window_update + ping, (3, 9, 20), view=True)

    def fails(sequence: Sequence) -> bool:
        return any(
            isinstance(step, Receive) and window_update in step.data for step in sequence.steps
        )

    least = minimise(Sequence(3, [*noise, guilty, *noise]), fails)
    assert least == Sequence(0, [Receive(window_update)])


def test_minimising_keeps_the_cut_that_matters() -> None:
    sequence = Sequence(0, [Receive(ff.ping(), (3, 9, 12))])
    least = minimise(
        sequence, lambda it: any(isinstance(step, Receive) and 9 in step.cuts for step in it.steps)
    )
    (step,) = least.steps
    assert isinstance(step, Receive)
    assert step.cuts == (9,)


@pytest.mark.parametrize("number", range(20))
def test_sequences_survive_being_kept(number: int) -> None:
    sequence = explore_one(int(SEED), number)
    assert from_json(json.loads(json.dumps(to_json(sequence)))) == sequence


def test_requests_that_were_kept_without_a_flush_were_looked_at_where_their_size_is_odd() -> None:
    kept = {"config": 0, "steps": [["Request", 3, 5, 5, False], ["Request", 1, 0, 40, True]]}
    assert from_json(kept).steps == [
        Request(3, 5, 5, view=False, flush="look"),
        Request(1, 0, 40, view=True, flush=""),
    ]
