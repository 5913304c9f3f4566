"""Servers as child processes: up when they answer, gone for sure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = Path(__file__).with_name("launch.py")
UP_WITHIN = 20.0
"""Seconds: a loaded machine starts an interpreter with uvloop and an app in a few."""
DOWN_WITHIN = 5.0
ATTEMPTS = 3
"""A free port may be taken between finding it and binding it."""


class Address(NamedTuple):
    """Where a server listens: a port of 127.0.0.1, or the path of a Unix socket."""

    port: int
    socket_path: str | None = None

    def connect(self) -> socket.socket:
        """Open a blocking connection with a short time limit."""
        if self.socket_path is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=1)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(1)
        try:
            sock.connect(self.socket_path)
        except OSError:
            sock.close()
            raise
        return sock


class ServerDidNotStartError(RuntimeError):
    """The server ended, or did not answer in time; the message holds what it said."""


@contextlib.contextmanager
def open_lifeline() -> Iterator[int]:
    """Open what ends when this process does; yields its number, for `LAUNCH` to inherit."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


class ServerProcess:
    """A running server, the leader of its own process group.

    Args:
        command: The program and its arguments.
        log: The file that takes what it prints.
        environ: Variables to set besides ours.
    """

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.log = log
        self._holding = contextlib.ExitStack()
        with log.open("wb") as output:
            lifeline = self._holding.enter_context(open_lifeline())
            self._popen = subprocess.Popen(
                [sys.executable, str(LAUNCH), str(lifeline), *command],
                cwd=ROOT,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lifeline],
            )

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash does: nothing is said on its connections."""
        self.signal(signal.SIGKILL)
        self._popen.wait()
        self._holding.close()

    def stop(self) -> None:
        """End it in order, or by force when it takes its time."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(DOWN_WITHIN)
        self.kill()

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Wait until the server answers.

        Raises:
            ServerDidNotStartError: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + UP_WITHIN
        while not answers():
            if not self.running or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")
                raise ServerDidNotStartError(f"{self._popen.args!r} said:\n{said}")
            time.sleep(0.02)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(address: Address) -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError), address.connect():
        return True
    return False


def speaks_http2(address: Address) -> bool:
    """Whether the server there answers the connection preface (RFC 9113 §3.4)."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    with contextlib.suppress(OSError), address.connect() as sock:
        sock.sendall(preface)
        return len(sock.recv(9)) > 0
    return False


@contextlib.contextmanager
def running(
    command: Callable[[Address], Sequence[str]],
    directory: Path,
    answers: Callable[[Address], bool] = speaks_http2,
    *,
    unix: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Iterator[tuple[ServerProcess, Address]]:
    """Run a server on a free port (or a Unix socket) for the length of a `with` block.

    Args:
        command: Makes the command for an address; may write configuration on the way.
        directory: For its log, and for the socket.
        answers: Tells whether the server at an address is up.
        unix: Listen on a Unix socket.
        environ: Variables to set besides ours.

    Raises:
        ServerDidNotStartError: It did not start, with a fresh port each time.
    """
    process, address = _start(command, directory, answers, unix, environ or {})
    try:
        yield process, address
    finally:
        process.stop()


def _start(
    command: Callable[[Address], Sequence[str]],
    directory: Path,
    answers: Callable[[Address], bool],
    unix: bool,
    environ: Mapping[str, str],
) -> tuple[ServerProcess, Address]:
    for attempt in range(1, ATTEMPTS + 1):
        address = Address(0, str(directory / "socket")) if unix else Address(free_port())
        process = ServerProcess(command(address), directory / "log", environ)
        try:
            process.wait_until(lambda: answers(address))  # noqa: B023 - called before the next turn
        except BaseException as error:
            process.kill()
            if attempt == ATTEMPTS or not isinstance(error, ServerDidNotStartError):
                raise
        else:
            return process, address
    raise AssertionError("unreachable")
