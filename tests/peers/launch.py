"""Run a command that ends when the process that started it does, however that one ended.

    python launch.py PARENT_PID COMMAND…

On Linux the kernel sends SIGTERM to the command when its parent dies; elsewhere it just runs. A
script of its own, because code between fork and exec of a process with threads is not safe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was told to watch it
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
