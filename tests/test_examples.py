"""The examples and the demo: each is run as a stranger runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
GONE_WITHIN = 20.0


class Program:
    """A running example, and every process that it started, whatever became of their parents."""

    def __init__(self, *command: str, **environ: str) -> None:
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "EXAMPLE_MARK": self._mark, "COLUMNS": "100", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_until(self, text: str) -> None:
        """Reads what the program prints up to the line that holds this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"{text!r} was never printed")

    def processes(self) -> list[psutil.Process]:
        """The processes that inherited this program's mark and still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("EXAMPLE_MARK") == self._mark:
                    found.append(process)
        return found

    def none_left(self) -> bool:
        """Whether all processes are gone, or go within the time that is allowed."""
        give_up = time.monotonic() + GONE_WITHIN
        while self.processes():
            if time.monotonic() > give_up:
                return False
            time.sleep(0.05)
        return True


@contextlib.contextmanager
def started(*command: str, **environ: str) -> Iterator[Program]:
    program = Program(*command, **environ)
    try:
        yield program
    finally:
        for process in program.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        program.process.communicate()


def output_of(*command: str) -> str:
    """Runs a program to its end, and checks that it succeeded without a word of complaint."""
    with started(*command) as program:
        output, complaints = program.process.communicate(timeout=50)
        assert (program.process.returncode, complaints) == (0, "")
        assert program.none_left()
    return output


def test_send_request_prints_the_answer_and_the_refusal() -> None:
    assert output_of("examples.send_request").splitlines() == [
        "the worker answered: hello, worker",
        "refused with status 503: Server overloaded: the queue is full",
        "2 requests on 1 connection",
    ]


def test_token_stream_stops_the_worker_half_way_and_keeps_the_connection() -> None:
    words, *rest = output_of("examples.token_stream").splitlines()
    assert len(words.split()) == 50
    assert rest == [
        "read 50 of 100 tokens and left",
        "the worker stopped: 1 cancelled, 0 running",
        "all of it on 1 connection",
    ]


def test_upload_shows_its_progress_and_arrives_whole() -> None:
    output = output_of("examples.upload")
    assert "32.0/32.0 MiB" in output
    assert output.splitlines()[-1] == "the worker received the same bytes"


def test_tls_works_with_trust_and_only_with_trust() -> None:
    trusted, refused = output_of("examples.tls").splitlines()
    assert trusted == "over TLS and HTTP/2: a secret"
    assert "certificate verify failed" in refused


def test_rolling_restart_passes_requests_on_and_loses_none() -> None:
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in output_of("examples.rolling_restart", "--in-flight", "32").splitlines()
        if line.startswith("│")
    ]
    *workers, total = rows
    assert [state for _, state, _, _ in workers] == ["serving"] * 3
    assert all(int(answered.replace(",", "")) > 0 for _, _, answered, _ in workers)
    assert sum(int(passed_on) for *_, passed_on in workers) > 0
    assert total[1] == "failed: 0"


DEMO = ("examples.demo", "--in-flight", "16", "--streams", "4", "--tokens", "20")


def test_demo_prints_its_table() -> None:
    output = output_of(*DEMO, "--requests", "300")
    rows = {}
    for line in output.splitlines():
        if line.startswith("│"):
            title, value = line.strip("│").split("│")
            rows[title.strip()] = value.strip()
    assert rows["300 requests of 1 KiB"] == "16 in flight"
    assert rows["80 tokens"] == "4 streams at 100 tokens/s"
    assert rows["connections used"] == "1"
    assert rows["errors"] == "0"
    measured = {
        "requests per second",
        "latency, p50 · p99",
        "CPU per request",
        "time to first token, p50 · p99",
        "gap between tokens, p50 · p99",
        "bytes sent · received",
    }
    assert measured <= rows.keys()
    assert all(any(c in "123456789" for c in rows[title]) for title in measured)


@pytest.mark.parametrize("moment", ["starting a granian worker", "the worker listens"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_no_process(moment: str, number: signal.Signals) -> None:
    with started(*DEMO, "--requests", "1000000") as program:
        program.read_until(moment)
        program.process.send_signal(number)
        output, complaints = program.process.communicate(timeout=GONE_WITHIN)
        assert "stopped" in output
        assert "Traceback" not in complaints
        assert program.process.returncode == 128 + signal.SIGINT
        assert program.none_left()


def test_a_demo_in_the_background_of_a_script_is_stopped_too() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a child inherits
    try:
        with started(*DEMO, "--requests", "1000000") as program:
            program.read_until("the worker listens")
            program.process.send_signal(signal.SIGTERM)
            output, _ = program.process.communicate(timeout=GONE_WITHIN)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped" in output


def test_killed_demo_leaves_no_process() -> None:
    with started(*DEMO, "--requests", "1000000") as program:
        program.read_until("the worker listens")
        assert len(program.processes()) > 1
        program.process.kill()
        assert program.none_left()
