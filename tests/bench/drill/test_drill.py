"""The short form of the drill: everything breaks for some seconds, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.drill.results import Result
from tests.peers.process import LAUNCH
from tests.test_examples import Program, started

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(150)
def test_the_short_drill_passes(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    loop, engine = pytestconfig.getoption("loop"), pytestconfig.getoption("engine")
    options = ["--short", "--out", str(tmp_path), "--loop", loop, "--engine", engine]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bench.drill", *options],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    result = Result.load(tmp_path / "short-1.json")
    assert result.passed
    assert result.settings["engine"] == engine
    assert result.figures["faults"] == len(result.faults) > 40
    assert "FAILED" not in done.stdout
    assert "The schedule of seed 1:" in done.stdout
    assert (tmp_path / "short-1.svg").stat().st_size > 10_000


@contextlib.contextmanager
def under_way(folder: Path) -> Iterator[Program]:
    """A short drill whose caller has begun to make calls."""
    options = ("--short", "--out", str(folder))
    with started("bench.drill", *options, TMPDIR=str(folder)) as program:
        program.read_until("starting the workers")
        give_up = time.monotonic() + 30
        while not list(folder.glob("drill-*/calls.tsv")):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_drill_leaves_no_process_and_no_file(
    number: signal.Signals, tmp_path: Path
) -> None:
    with under_way(tmp_path) as program:
        program.process.send_signal(number)
        output, complaints = program.process.communicate(timeout=30)
        assert "stopped" in output
        assert "Traceback" not in complaints
        assert program.process.returncode == 128 + signal.SIGINT
        assert program.none_left()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_drill_leaves_no_process(tmp_path: Path) -> None:
    with under_way(tmp_path) as program:
        processes = program.processes()
        assert len(processes) > 12
        commands = {each.pid: each.cmdline() for each in processes}
        leader = next(
            pid
            for pid, command in commands.items()
            if "hypercorn" in command and str(LAUNCH) not in command
        )
        os.killpg(os.getpgid(leader), signal.SIGSTOP)
        program.process.kill()
        assert program.none_left()
