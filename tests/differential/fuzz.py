"""Runs sequences for as long as it is told, and keeps each one on which the engines differ.

`python -m tests.differential.fuzz --seconds 600` starts from a random seed, which it prints; a
counter-example is made as short as can be and becomes a file in ``tests/differential/cases``, which
the test suite replays from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
import time
from pathlib import Path

from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from tests.differential.driver import Finding, explore_one
from tests.differential.minimise import minimise
from tests.differential.pair import Difference, replay
from tests.differential.steps import Sequence, from_json, to_json

__all__ = ["CASES", "kind_of", "load_case", "main", "save_case"]

CASES = Path(__file__).parent / "cases"
_REPORT_EVERY = 10_000
# It goes on after a finding, but not for ever: many have one cause.
_MOST_FINDINGS = 20


def kind_of(sequence: Sequence, fast: type[Engine] = FastEngine) -> tuple[str, str] | None:
    """How a sequence fails, None when it does not."""
    try:
        replay(sequence, fast)
    except Exception as error:  # whatever it is, it is what is looked for
        return _kind(error)
    return None


def _kind(error: Exception) -> tuple[str, str]:
    return type(error).__name__, error.what if isinstance(error, Difference) else ""


def save_case(finding: Finding, directory: Path = CASES, fast: type[Engine] = FastEngine) -> Path:
    """Keep a finding, made as short as can be, as a file of JSON."""
    kind = _kind(finding.cause)
    sequence = minimise(finding.sequence, lambda candidate: kind_of(candidate, fast) == kind)
    text = as_text({"found": f"{finding.seed}: {' '.join(kind).strip()}", **to_json(sequence)})
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text)
    return path


def as_text(kept: dict[str, object]) -> str:
    """JSON with a line for each step."""
    steps = kept["steps"]
    assert isinstance(steps, list)
    head = json.dumps({**kept, "steps": []}).removesuffix("]}")
    return head + "\n" + ",\n".join(json.dumps(step) for step in steps) + "\n]}\n"


def load_case(path: Path) -> Sequence:
    """Read what `save_case` wrote."""
    return from_json(json.loads(path.read_text()))


def main(arguments: list[str] | None = None, fast: type[Engine] = FastEngine) -> int:
    """Run; return the number of findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to run")
    parser.add_argument("--sequences", type=int, help="run so many instead")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--cases", type=Path, default=CASES, help="where findings are kept")
    options = parser.parse_args(arguments)
    _say(f"seed {options.seed}")
    begin = time.monotonic()
    sequences = steps = findings = 0
    while findings < _MOST_FINDINGS:
        elapsed = time.monotonic() - begin
        if sequences >= options.sequences if options.sequences else elapsed >= options.seconds:
            break
        try:
            steps += len(explore_one(options.seed, sequences, fast).steps)
        except Finding as finding:
            findings += 1
            _say(f"{finding}\nkept as {save_case(finding, options.cases, fast)}")
        sequences += 1
        if sequences % _REPORT_EVERY == 0:
            _report(sequences, steps, findings, time.monotonic() - begin)
    _report(sequences, steps, findings, time.monotonic() - begin)
    return findings


def _report(sequences: int, steps: int, findings: int, seconds: float) -> None:
    _say(
        f"{sequences:,} sequences, {steps:,} steps, {findings} findings, {seconds:.0f} s,"
        f" {sequences / seconds:.0f} sequences/s"
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
