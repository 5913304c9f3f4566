"""What a link carries here, and how exactly: `python -m tests.peers.link --measure`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tests.peers.link import Direction, Link, start_link

PATIENCE: Final = 30.0
SECONDS: Final = 2.0
"""How long each row is measured."""
RATES: Final = (100e3, 1e6, 12.5e6, 125e6)
DELAYS: Final = (0.0005, 0.005, 0.01, 0.05, 0.1)
"""One way, in seconds."""
BLOCK: Final = 1 << 20


@contextlib.contextmanager
def joined(link: Link, listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and its server, with the link between them."""
    with link.address.connect() as client:
        server, _ = listener.accept()
        with server:
            for sock in (client, server):
                sock.settimeout(PATIENCE)
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client, server


@contextlib.contextmanager
def sending(sender: socket.socket) -> Iterator[None]:
    """Send as much as goes for the length of the block; the connection ends with it."""
    thread = threading.Thread(target=_send, args=(sender,))
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sender.shutdown(socket.SHUT_RDWR)
        thread.join()


def _send(sender: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            sender.sendall(bytes(BLOCK))


def receive_for(receiver: socket.socket, seconds: float) -> list[tuple[float, int]]:
    """Receive for some seconds; return when how many bytes were there."""
    buffer = bytearray(BLOCK)
    received = receiver.recv_into(buffer)
    log = [(time.perf_counter(), received)]
    while log[-1][0] - log[0][0] < seconds:
        received += receiver.recv_into(buffer)
        log.append((time.perf_counter(), received))
    return log


def typical_rate(log: Sequence[tuple[float, int]]) -> float:
    """Bytes per second: the median over all stretches of half the time.

    A machine that stands still for a moment spoils those that begin or end there, and no others.
    """
    half = len(log) // 2
    pairs = zip(log, log[half:], strict=False)
    return statistics.median((n1 - n0) / (t1 - t0) for (t0, n0), (t1, n1) in pairs)


def round_trips(client: socket.socket, server: socket.socket, count: int) -> list[float]:
    """Seconds that single bytes take there and back, in ascending order."""
    echo = threading.Thread(target=_echo, args=(server, count))
    echo.start()
    took = []
    for _ in range(count):
        start = time.perf_counter()
        client.sendall(b"x")
        client.recv(1)
        took.append(time.perf_counter() - start)
    echo.join()
    return sorted(took)


def _echo(server: socket.socket, count: int) -> None:
    for _ in range(count):
        server.sendall(server.recv(1))


def carried(link: Link, listener: socket.socket, *directions: Direction) -> tuple[float, float]:
    """Bytes per second, and seconds of processor time that the relay needs for one.

    Args:
        link: The link.
        listener: Its target.
        directions: Which ways bytes go at the same time.
    """
    with contextlib.ExitStack() as stack:
        logs: list[list[tuple[float, int]]] = []
        before = asyncio.run(link.stats())
        threads = []
        for direction in directions:
            client, server = stack.enter_context(joined(link, listener))
            sender, receiver = (client, server) if direction == "up" else (server, client)
            stack.enter_context(sending(sender))
            threads.append(threading.Thread(target=_log, args=(receiver, logs)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        after = asyncio.run(link.stats())
    done = after.up.delivered + after.down.delivered - before.up.delivered - before.down.delivered
    return sum(map(typical_rate, logs)), (after.cpu - before.cpu) / done


def _log(receiver: socket.socket, logs: list[list[tuple[float, int]]]) -> None:
    logs.append(receive_for(receiver, SECONDS))


def report_most(link: Link, listener: socket.socket) -> None:
    """Print what the link carries without a rate."""
    print("at most      bytes/s   processor s/GB   on a core of its own")
    ways: dict[str, tuple[Direction, ...]] = {"one way": ("down",), "both ways": ("up", "down")}
    for name, directions in ways.items():
        rate, cost = carried(link, listener, *directions)
        print(f"{name:9} {rate:10.3g} {cost * 1e9:16.2f} {1 / cost:22.3g}")


def report_rates(link: Link, listener: socket.socket) -> None:
    """Print how well the link keeps a rate."""
    print("\nrate set, bytes/s   delay, s   kept   processor")
    for rate in RATES:
        for delay in (0.0, 0.1):
            asyncio.run(link.set(rate=rate, delay=delay))
            kept, cost = carried(link, listener, "down")
            print(f"{rate:17.4g} {delay:10} {kept / rate:6.1%} {cost * kept:11.1%}")
    asyncio.run(link.set(rate=None, delay=0.0))


def report_delays(link: Link, listener: socket.socket) -> None:
    """Print how well the link keeps a delay."""
    with joined(link, listener) as (client, server):
        base = statistics.median(round_trips(client, server, 300))
        print(f"\ndelay set, s   least   median   99 %   (without: {base * 1e6:.0f} µs and back)")
        for delay in DELAYS:
            asyncio.run(link.set(delay=delay))
            count = max(20, int(SECONDS / delay / 2))
            kept = [(took - base) / 2 / delay for took in round_trips(client, server, count)]
            least, median, most = kept[0], kept[count // 2], kept[count * 99 // 100]
            print(f"{delay:12} {least:7.1%} {median:8.1%} {most:6.1%}")
        asyncio.run(link.set(delay=0.0))


def main(arguments: Sequence[str]) -> None:
    """Print it all; takes half a minute."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.link", description=__doc__)
    parser.add_argument("--measure", action="store_true", required=True, help="print the figures")
    parser.parse_args(arguments)
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{cores} cores with a load of {load:.1f} from all that runs here\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        with start_link(host, port) as link:
            report_most(link, listener)
            report_rates(link, listener)
            report_delays(link, listener)
