"""A granian worker on this machine for as long as a `with` block lasts.

    with local_worker() as url:
        ...

The worker gets a process group of its own, so that Ctrl-C reaches only this program, which then
ends the whole group. Where the kernel can do it (Linux), the worker is also told to stop when this
program dies without saying so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1


@contextlib.contextmanager
def local_worker(
    *options: str,
    app: str = "examples.worker:app",
    interface: str = "asgi",
    scheme: str = "http",
) -> Iterator[str]:
    """Runs granian with one worker on uvloop, and yields its URL once it accepts connections.

    Args:
        options: more options for granian's command line; a later one wins.
        app: the application, as `module:name`.
        interface: what granian calls the application with: `asgi` or `rsgi`.
        scheme: `https` when the options bring a certificate.

    Raises:
        RuntimeError: the worker ended, or did not listen in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", interface, "--http", "2"]
    command += ["--loop", "uvloop", "--workers", "1", "--log-level", "error"]
    command += ["--workers-kill-timeout", "1"]  # a worker that has just started misses the signal
    command += ["--host", "127.0.0.1", "--port", str(port), *options, app]
    with process_group(command) as process:
        wait_for_port(process, port)
        yield f"{scheme}://127.0.0.1:{port}"


@contextlib.contextmanager
def process_group(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a process group of its own, and ends the group afterwards."""
    with contextlib.ExitStack() as cleaning:
        with _signals_held_back() as mask:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_in_child(mask),
            )
            cleaning.callback(_end, process)
        yield process


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int, host: str = "127.0.0.1") -> None:
    """Waits until the process accepts connections on the port.

    Raises:
        RuntimeError: the process ended, or `START_TIMEOUT` seconds passed.
    """
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1.0):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the worker did not listen within {START_TIMEOUT:.0f} s")


@contextlib.contextmanager
def _signals_held_back() -> Iterator[set[int]]:
    """Delays Ctrl-C, which could else hit between a fork and the promise to clean up after it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to stop; kills whatever is left of its group."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _in_child(mask: set[int]) -> Callable[[], None]:
    """Returns what a child runs first: it gets SIGTERM when this process dies (on Linux)."""
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None
    parent = os.getpid()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the kernel was asked
                os._exit(1)

    return prepare
