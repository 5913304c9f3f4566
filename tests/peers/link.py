"""A link between a client and a server, of which a test or a benchmark decides what it is like.

    async with run_link("127.0.0.1", port, delay=0.05, rate=125_000_000) as link:
        ...  # talk to link.address instead
        await link.set(rate=12_500_000)
        await link.freeze()

A process of its own relays between real sockets, so that neither side's event loop pays for it.
What it cannot do: TCP's handshake and its acknowledgements stay on this machine and take no time,
and a dial succeeds before the link knows whether the target listens (if not, a RST follows).

A `Link` belongs to no event loop and no process: what is asked of it goes over a socket of its own.

    python -m tests.peers.link --measure

prints what it carries here at most, and how exact it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, Unpack, cast

from tests.peers.link_lane import Changes, Conditions
from tests.peers.process import ROOT, Address

ANYWHERE = ("127.0.0.1", 0)
Direction = Literal["up", "down"]
"""From the client to the server, or back."""


class LinkError(RuntimeError):
    """The link did not start, or ended."""


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One direction of a link, all its connections together.

    Args:
        delivered: Bytes that came out.
        held: Bytes that are inside.
        held_peak: Bytes that were inside at most.
        waiting: Bytes of those inside that are not on the wire yet.
    """

    delivered: int
    held: int
    held_peak: int
    waiting: int


@dataclass(frozen=True, slots=True)
class LinkStats:
    """What a link has done since it runs.

    Args:
        accepted: Connections of clients.
        unreachable: Those of them for which the target did not answer.
        open: Connections that are open.
        cpu: Seconds of processor time that the relay used.
        rings: How many things its clock had to call.
        late: Seconds that they came too late, all together.
        late_most: Seconds that one of them came too late at most.
        up: From client to server.
        down: From server to client.
    """

    accepted: int
    unreachable: int
    open: int
    cpu: float
    rings: int
    late: float
    late_most: float
    up: LaneStats
    down: LaneStats


@dataclass(frozen=True, slots=True)
class Link:
    """A running link.

    Args:
        address: Where clients connect.
        control: The path of the socket that takes commands.
        pid: Its process.
        host: The address of this machine that it listens on.
    """

    address: Address
    control: str
    pid: int
    host: str = "127.0.0.1"

    @property
    def base(self) -> str:
        """What the path of a request in clear text is appended to."""
        if self.address.socket_path is not None:
            return f"unix:{self.address.socket_path}:"
        return f"http://{self.host}:{self.address.port}"

    async def set(
        self, direction: Direction | Literal["both"] = "both", **changes: Unpack[Changes]
    ) -> None:
        """Change what the link is like, from this moment.

        Bytes that wait for the wire go on at the new rate; bytes on the wire arrive as they would
        have, and nothing overtakes them.

        Raises:
            ValueError: No link can be like that.
        """
        Conditions(**changes)
        await self._ask("set", direction=direction, changes=changes)

    async def freeze(self, *, new: bool = True) -> None:
        """Let nothing pass; all sockets stay open, and nothing is lost.

        Args:
            new: Connections that are made meanwhile freeze too (their dial succeeds).
        """
        await self._ask("freeze", new=new)

    async def thaw(self) -> None:
        """Go on where the link froze, as if no time had passed."""
        await self._ask("thaw")

    async def kill_half_open(self) -> None:
        """Swallow all that the open connections carry, for good: bytes, FIN and RST, both ways.

        Neither end learns of the other any more. New connections work.
        """
        await self._ask("kill")

    async def reset_connections(self, after: int = 0, direction: Direction = "down") -> None:
        """Reset the open connections, on both sides.

        Args:
            after: Bytes that each of them lets out first, exactly; 0: at once, and what is inside
                is lost.
            direction: Which way those bytes go.
        """
        await self._ask("reset", after=after, direction=direction)

    async def close_connections(self) -> None:
        """End the open connections with a FIN to both sides, after all that is under way."""
        await self._ask("close")

    async def refuse(self) -> None:
        """Refuse new connections, as a machine without a server does."""
        await self._ask("refuse")

    async def accept(self) -> None:
        """Accept connections again, at the same address."""
        await self._ask("accept")

    async def restore(self) -> None:
        """Make it what a link is that nobody has touched; open connections are reset."""
        await self.thaw()
        await self.accept()
        await self.set(delay=0.0, rate=None, jitter=0.0, queue=None)
        await self.reset_connections()

    async def stats(self) -> LinkStats:
        """What passed until now, and how exactly."""
        found = cast("dict[str, Any]", await self._ask("stats"))
        lanes = {name: LaneStats(**found[name]) for name in ("up", "down")}
        return LinkStats(**{**found, **lanes})

    async def _ask(self, command: str, **arguments: object) -> object:
        try:
            reader, writer = await asyncio.open_unix_connection(self.control)
        except OSError as error:
            raise LinkError("the link is gone") from error
        try:
            writer.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
            answer = await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not answer:
            raise LinkError("the link ended")
        result: object = json.loads(answer)
        return result


@contextlib.asynccontextmanager
async def run_link(
    host: str,
    port: int | None = None,
    *,
    listen: tuple[str, int] = ANYWHERE,
    **conditions: Unpack[Changes],
) -> AsyncIterator[Link]:
    """Run a link for the length of an `async with` block.

    Args:
        host: Where the server listens: an IPv4 address, or without a port the path of a Unix
            socket. The link listens on the same kind of socket.
        port: Its port.
        listen: Where the link listens, if on TCP; port 0 is any that is free.
        conditions: What the link is like at first, both ways.

    Raises:
        LinkError: It did not start.
        ValueError: No link can be like that.
    """
    with _Relay(host, port, conditions, listen) as relay:
        relay.lifeline.setblocking(False)
        yield relay.link(await asyncio.get_running_loop().sock_recv(relay.lifeline, 4096))


@contextlib.contextmanager
def start_link(host: str, port: int | None = None, **conditions: Unpack[Changes]) -> Iterator[Link]:
    """Run a link for the length of a `with` block; the rest is as with `run_link`.

    Commands are coroutines here too: `asyncio.run(link.set(rate=…))` where no loop runs.
    """
    with _Relay(host, port, conditions) as relay:
        yield relay.link(relay.lifeline.recv(4096))


class _Relay:
    """The process, and the socket whose end is its end too."""

    def __init__(
        self,
        host: str,
        port: int | None,
        conditions: Changes,
        listen: tuple[str, int] = ANYWHERE,
    ) -> None:
        Conditions(**conditions)  # complains here, not there
        self._folder = tempfile.mkdtemp(prefix="link-")
        order = {
            "folder": self._folder,
            "target": host if port is None else (host, port),
            "listen": listen,
            "conditions": conditions,
        }
        self.lifeline, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for whoever uses the link, and then ends it.
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.peers.link_relay", json.dumps(order)],
                cwd=ROOT,
                stdin=theirs.fileno(),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._popen.kill()  # it has nothing to bring to an end
        self._popen.wait()
        self.lifeline.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def link(self, greeting: bytes) -> Link:
        """The link, after what the relay said first."""
        if not greeting:
            raise LinkError("the link did not start; its last words are on standard error")
        at = json.loads(greeting)["address"]
        control, pid = str(Path(self._folder, "control")), self._popen.pid
        if isinstance(at, str):
            return Link(Address(0, at), control, pid)
        return Link(Address(at[1]), control, pid, at[0])


if __name__ == "__main__":
    from tests.peers.link_measure import main

    main(sys.argv[1:])
