"""The short form of the drill: everything breaks for some seconds, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.drill.results import Result

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
