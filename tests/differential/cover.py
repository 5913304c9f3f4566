"""Measures what of the fast engine the seeded driver alone reaches, in a process of its own.

Lines that run when the module is imported count too: it has to be imported under measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import coverage

__all__ = ["Reach", "measure"]

_ROOT = Path(__file__).parents[2]
_MODULES = ["dynamo_h2/http2/fast.py", "dynamo_h2/http2/fast_outbound.py"]


class Reach(NamedTuple):
    """What was reached of the modules.

    Args:
        percent: Of lines and branches together.
        lines: How many there are.
        branches: How many there are.
        missing: Lines that were not run, and branches as (from, to) that were not taken.
    """

    percent: float
    lines: int
    branches: int
    missing: list[object]


def measure(seed: int, sequences: int) -> Reach:
    """Run sequences in a fresh interpreter and return what they reached."""
    command = [sys.executable, "-m", "tests.differential.cover", str(seed), str(sequences)]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return Reach(*json.loads(done.stdout))


def main(seed: int, sequences: int) -> Reach:
    """Run sequences here, which must not have imported the fast engine yet."""
    watch = coverage.Coverage(data_file=None, branch=True, source=[], include=_MODULES)
    watch.start()
    from tests.differential.driver import explore

    explore(seed, range(sequences))
    watch.stop()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        watch.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"].values()
    lines = sum(found["summary"]["num_statements"] for found in files)
    branches = sum(found["summary"]["num_branches"] for found in files)
    missing = [
        each for found in files for each in (*found["missing_lines"], *found["missing_branches"])
    ]
    assert len(files) == len(_MODULES)
    return Reach(100 * (1 - len(missing) / (lines + branches)), lines, branches, missing)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
