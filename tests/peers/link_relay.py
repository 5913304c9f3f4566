"""The relay itself, a process of its own: `python -m tests.peers.link_relay <order as JSON>`.

Its standard input is a socket: there it says that it is up, and when the other end closes, for
whatever reason, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import resource
import shutil
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from tests.peers.link_clock import Clock
from tests.peers.link_lane import Changes, Conditions, Lane
from tests.peers.link_pump import Connection, Gate, close_with_reset, prepare

BACKLOG: Final = 1024
DIAL_WITHIN: Final = 2.0
"""Seconds that a command waits for dials at most, so as to meet all connections that clients have;
those to a target that takes longer escape it."""


class Relay:
    """Listens for clients, and connects each to the target.

    Args:
        loop: The running loop.
        folder: Where its sockets are, if they are Unix sockets.
        target: A host and port, or the path of a Unix socket.
        listen: Where it listens itself, if on TCP.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: Path,
        target: tuple[str, int] | str,
        listen: tuple[str, int],
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._target = target
        self._clock = Clock(loop)
        self._gates = {
            "up": Gate(Lane(Conditions(), seed=1), self._clock),
            "down": Gate(Lane(Conditions(), seed=2), self._clock),
        }
        self._connections: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._frozen_since: float | None = None
        self._accepted = 0
        self._unreachable = 0
        wish = str(folder / "link") if isinstance(target, str) else listen
        self._reserve = self._bind(wish)  # nobody else gets the port while we do not listen
        self.address = self._reserve.getsockname()
        self._listener: socket.socket | None = None
        self.accept()

    # Commands

    def set(self, direction: str, changes: Changes) -> None:
        """Change what the link is like."""
        gates = [g for name, g in self._gates.items() if direction in {name, "both"}]
        changed = [replace(gate.lane.conditions, **changes) for gate in gates]
        for gate, conditions in zip(gates, changed, strict=True):
            gate.change(conditions)
        if self._listener is not None:  # clients' sockets are made with its buffer
            prepare(self._listener, self._gates["up"].lane.conditions.buffer)
        for pump in [pump for connection in self._connections for pump in connection.pumps]:
            pump.change()

    def freeze(self, new: bool) -> None:
        """Let nothing pass on the connections that are open, and (new) accept none."""
        if new and self._frozen_since is None:
            self._frozen_since = time.monotonic()
            self._watch_listener(False)
        for connection in self._connections:
            for pump in connection.pumps:
                pump.freeze()

    def thaw(self) -> None:
        """Go on where it stopped."""
        if self._frozen_since is not None:
            since, self._frozen_since = self._frozen_since, None
            for gate in self._gates.values():
                gate.lane.stand_still(since, time.monotonic() - since)
            self._watch_listener(True)
        for connection in tuple(self._connections):
            for pump in connection.pumps:
                pump.thaw()

    def kill(self) -> None:
        """Leave the open connections half-open for good."""
        for connection in tuple(self._connections):
            connection.kill()

    def reset(self, after: int, direction: str) -> None:
        """Reset the open connections, each after so many bytes more in one direction."""
        for connection in tuple(self._connections):
            if after == 0:
                connection.reset()
            else:
                pump = connection.up if direction == "up" else connection.down
                pump.cut(after, connection.reset)

    def close(self) -> None:
        """End the open connections in order."""
        for connection in tuple(self._connections):
            connection.finish()

    def refuse(self) -> None:
        """Refuse new connections."""
        if self._listener is not None:
            self._watch_listener(False)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Accept new connections."""
        if self._listener is None:
            self._listener = self._bind(self.address)
            self._listener.listen(BACKLOG)
            self._watch_listener(self._frozen_since is None)

    def stats(self) -> dict[str, object]:
        """What passed, and how well."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "accepted": self._accepted,
            "unreachable": self._unreachable,
            "open": len(self._connections),
            "cpu": usage.ru_utime + usage.ru_stime,
            "rings": self._clock.rings,
            "late": self._clock.late,
            "late_most": self._clock.late_most,
            **{name: self._lane_stats(gate.lane) for name, gate in self._gates.items()},
        }

    def _lane_stats(self, lane: Lane) -> dict[str, int]:
        return {
            "delivered": lane.delivered,
            "held": lane.held,
            "held_peak": lane.held_peak,
            "waiting": int(lane.backlog(time.monotonic())),
        }

    # Connections

    async def dialled(self) -> None:
        """Wait until the connections that were accepted have their other half."""
        if self._dials:
            await asyncio.wait(self._dials, timeout=DIAL_WITHIN)

    def _bind(self, address: tuple[str, int] | str) -> socket.socket:
        if isinstance(address, str):
            Path(address).unlink(missing_ok=True)
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        prepare(sock, self._gates["up"].lane.conditions.buffer)
        return sock

    def _watch_listener(self, watch: bool) -> None:
        if self._listener is not None and watch:
            self._loop.add_reader(self._listener, self._on_client)
        elif self._listener is not None:
            self._loop.remove_reader(self._listener)

    def _on_client(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):  # it left already
            client, _ = self._listener.accept()
            self._accepted += 1
            client.setblocking(False)  # the rest it has from the listener
            dial = self._loop.create_task(self._connect(client))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    async def _connect(self, client: socket.socket) -> None:
        kind = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        server = socket.socket(kind)
        prepare(server, self._gates["down"].lane.conditions.buffer)
        try:
            await self._loop.sock_connect(server, self._target)
        except OSError:
            self._unreachable += 1
            server.close()
            close_with_reset(client)
            return
        up, down = self._gates["up"], self._gates["down"]
        connection = Connection(up, down, client, server, self._connections.discard)
        self._connections.add(connection)


async def answer(relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what one line asks for, such as `{"do": "freeze", "new": true}`, and answer with one."""
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        order = json.loads(await reader.readline())
        await relay.dialled()
        result = getattr(relay, order.pop("do"))(**order)
        writer.write(json.dumps(result).encode() + b"\n")
        await writer.drain()


async def main() -> None:
    """Run until nobody holds the other end of our standard input."""
    order = json.loads(sys.argv[1])
    folder, target = Path(order["folder"]), order["target"]
    loop = asyncio.get_running_loop()
    listen = tuple(order["listen"])
    relay = Relay(loop, folder, target if isinstance(target, str) else tuple(target), listen)
    relay.set("both", order["conditions"])
    await asyncio.start_unix_server(functools.partial(answer, relay), folder / "control")
    lifeline = socket.socket(fileno=0)
    lifeline.setblocking(False)
    gc.freeze()
    await loop.sock_sendall(lifeline, json.dumps({"address": relay.address}).encode())
    await loop.sock_recv(lifeline, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # nothing is worth a word on the connections that are open


if __name__ == "__main__":
    uvloop.run(main())
