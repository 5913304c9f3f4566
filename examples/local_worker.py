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
    command += ["--host", "127.0.0.1", "--port", str(port), *options, app]
    with process_group(command) as process:
        wait_for_port(process, port)
        yield f"{scheme}://127.0.0.1:{port}"


@contextlib.contextmanager
def process_group(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a process group of its own, and ends the group afterwards."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent(),
    )
    try:
        yield process
    finally:
        _end(process)


def free_port() -> int:
    """Returns a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until the process accepts connections on the port.

    Raises:
        RuntimeError: the process ended, or `START_TIMEOUT` seconds passed.
    """
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the worker did not listen within {START_TIMEOUT:.0f} s")


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


def _die_with_parent() -> Callable[[], None] | None:
    """Returns what a child runs first to get SIGTERM when this process dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask
