"""Run a command in a process group that ends when the process that started it does.

    python launch.py LIFELINE COMMAND…

LIFELINE is the number of a file descriptor: the end for reading of a pipe whose other end the
starting process alone has open. When that process is gone, however it ended, the kernel closes its
end, and a guard, a process outside of the group, ends the group: the command and all that it
started, also what stands still or takes its time.

A script of its own, because code between fork and exec of a process with threads is not safe.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

# How long the group may take to end in order, and how often it is looked at, in seconds.
PATIENCE = 5.0
PERIOD = 0.2


def main() -> None:
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    group = os.getpid()
    if os.getpgrp() != group:
        os.setpgid(0, 0)
    if os.fork() == 0:
        guard(lifeline, group)
        os._exit(0)
    os.close(lifeline)
    os.execvp(command[0], command)


def guard(lifeline: int, group: int) -> None:
    """Wait for the end of the lifeline, and end the group then; or for that of the command."""
    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # whoever reads what the command prints is not to wait for us
        os.dup2(silence, stream)
    while not select.select([lifeline], [], [], PERIOD)[0]:
        if os.getppid() != group:
            return
    give_up = time.monotonic() + PATIENCE
    try:
        os.killpg(group, signal.SIGTERM)
        os.killpg(group, signal.SIGCONT)
        while time.monotonic() < give_up:
            os.killpg(group, 0)
            time.sleep(PERIOD)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
