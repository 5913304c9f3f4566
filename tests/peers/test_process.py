from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.process import (
    ROOT,
    Address,
    ServerDidNotStartError,
    ServerProcess,
    accepts,
    free_port,
    running,
    speaks_http2,
)

SLEEPER = [sys.executable, "-c", "import time; time.sleep(3600)"]
LISTENER = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));\n"
    "while True: s.accept()"
)
NEVER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)"
)


def listener(address: Address) -> list[str]:
    return [sys.executable, "-c", LISTENER, str(address.port)]


def test_a_server_runs_for_the_length_of_the_block(tmp_path: Path) -> None:
    with running(listener, tmp_path, accepts) as (process, address):
        assert (process.running, accepts(address)) == (True, True)
    assert (process.running, accepts(address)) == (False, False)


def test_a_server_ends_when_the_block_fails(tmp_path: Path) -> None:
    started = []

    def fail() -> None:
        with running(listener, tmp_path, accepts) as (process, _):
            started.append(process)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fail()
    assert not started[0].running


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    def command(address: Address) -> list[str]:
        return [sys.executable, "-c", "print('no such option')"]

    server = running(command, tmp_path, accepts)
    with pytest.raises(ServerDidNotStartError, match="no such option"):
        server.__enter__()


def test_a_port_that_was_taken_meanwhile_is_tried_again(tmp_path: Path) -> None:
    tried = []

    def command(address: Address) -> list[str]:
        tried.append(address)
        return listener(address) if len(tried) == 3 else [sys.executable, "-c", "raise OSError"]

    with running(command, tmp_path, accepts) as (_, address):
        assert accepts(address)
    assert len(set(tried)) == 3


def test_a_server_that_ignores_the_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.peers.process.DOWN_WITHIN", 0.1)
    log = tmp_path / "log"
    process = ServerProcess([*SLEEPER[:2], f"{NEVER}; time.sleep(3600)"], log, {})
    process.wait_until(lambda: "up" in log.read_text())
    process.stop()
    assert not process.running


def test_a_listener_that_is_no_server_does_not_speak_http2(tmp_path: Path) -> None:
    with running(listener, tmp_path, accepts) as (process, address):
        process.kill()
        assert not speaks_http2(address)


def test_free_ports_are_free() -> None:
    assert not accepts(Address(free_port()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from tests.peers.process import ServerProcess;"
        f"server = ServerProcess({SLEEPER!r}, pathlib.Path(sys.argv[1]), {{}});"
        "print(server.pid, flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended, _, _ = select.select([server], [], [], 30)
    os.close(server)
    assert ended
