"""A peer that dies without a word: when it is doubted, when it is given up, and what follows."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.flow.app import SMALL
from bench.flow.sampler import protocols
from bench.flow.servers import server
from bench.flow.simulated import Peer, Simulation
from bench.flow.stage import link_to
from dynamo_h2 import Http2Config, HttpRequestClient, KeepAliveTimeout, TransportError
from dynamo_h2.http2.keepalive import JITTER, PATIENCE, SUSPECT_AFTER

if TYPE_CHECKING:
    from bench.flow.record import Record
    from dynamo_h2.http2.connection import Connection
    from tests.peers.link import Link

NAME: Final = "dead"
TITLE: Final = "A peer that dies"
RTT: Final = 0.02
INTERVAL: Final = 3.0
TIMEOUT: Final = 2.0
STREAMS: Final = 20
TOLERANCE: Final = 0.1
LATER: Final = 0.1  # seconds that the suspicion may come after its time
EVERY: Final = 0.005


async def run(record: Record, *, quick: bool) -> None:
    """Plays it on a simulated clock with the usual times, and on a link with short ones."""
    record.notes.append(
        f"On a link of {RTT * 1e3:.0f} ms that freezes while {STREAMS} streams are open; new "
        "connections work. The interval of each connection is lengthened by up to "
        f"{JITTER:.0%} at random, which is a part of the ± {TOLERANCE:.0%}."
    )
    for jitter in (0.0, 1.0):
        _simulate(record, jitter)
    with server() as url:
        async with link_to(url, rtt=RTT, rate=None) as link:
            await _freeze(record, link)


def _simulate(record: Record, jitter: float) -> None:
    config = Http2Config()
    assert config.keep_alive_interval is not None
    found = Simulation(config, Peer(delay=0.05, dies_at=100.0), jitter=jitter).run(200.0)
    silent = found.died_at - found.last_byte_at
    expected = config.keep_alive_interval + config.keep_alive_timeout
    doubt = found.suspect_at - found.last_ping_before(found.suspect_at)
    record.rows.append(
        {
            "where": f"simulated clock, jitter {jitter:.0f}",
            "suspect after the PING, s": round(doubt, 3),
            "dead after the last byte, s": round(silent, 2),
            "interval + time-out, s": expected,
            "streams": "1 of 1 failed",
        }
    )
    _judge_times(record, f"simulated, jitter {jitter:.0f}", silent / expected, doubt, found.srtt)


def _judge_times(record: Record, where: str, share: float, doubt: float, srtt: float) -> None:
    record.judge(
        f"{where}: found dead after interval + time-out ± {TOLERANCE:.0%}",
        f"{share:.1%} of it",
        kept=abs(share - 1) <= TOLERANCE,
    )
    bound = max(SUSPECT_AFTER, PATIENCE * srtt) + LATER
    record.judge(
        f"{where}: suspect at most {bound * 1e3:.0f} ms after the PING",
        f"{doubt * 1e3:.0f} ms",
        kept=doubt <= bound,
    )


async def _freeze(record: Record, link: Link) -> None:
    config = Http2Config(
        keep_alive_interval=INTERVAL, keep_alive_timeout=TIMEOUT, request_timeout=None
    )
    async with HttpRequestClient(config) as client:
        tasks = [asyncio.create_task(_wait_for_tokens(client, link)) for _ in range(STREAMS)]
        await asyncio.sleep(1.0)
        connection = next(protocols(client)).connection
        await link.freeze(new=False)
        pinged, suspected = await _until_suspect(connection)
        answer = await client.send_request(f"{link.base}/echo", SMALL)
        avoided = client.stats().connections_opened == 2 and not connection.closed
        ends = await asyncio.gather(*tasks)
        silent = [at - connection._keep_alive.last_received for at, _ in ends]
        after = await client.send_request(f"{link.base}/echo", SMALL)
        opened = client.stats().connections_opened
    right = sum(type(error) is KeepAliveTimeout and error.processed is None for _, error in ends)
    expected = INTERVAL + TIMEOUT
    record.rows.append(
        {
            "where": "link that freezes",
            "suspect after the PING, s": round(suspected - pinged, 3),
            "dead after the last byte, s": round(max(silent), 2),
            "interval + time-out, s": expected,
            "streams": f"{right} of {STREAMS} with KeepAliveTimeout",
        }
    )
    share = max(silent, key=lambda seconds: abs(seconds - expected)) / expected
    _judge_times(record, "link", share, suspected - pinged, connection._keep_alive.srtt)
    record.judge(
        "every stream ends in KeepAliveTimeout, processed None",
        f"{right} of {STREAMS}",
        kept=right == STREAMS,
    )
    record.judge(
        "a new request avoids the suspect",
        f"answered {answer!r} on another connection" if avoided else "it went to the suspect",
        kept=avoided and answer == SMALL,
    )
    record.judge(
        "after the death requests go on, on the new connection",
        f"{after!r}, {opened} connections in all",
        kept=after == SMALL and opened == 2,
    )


async def _wait_for_tokens(
    client: HttpRequestClient, link: Link
) -> tuple[float, TransportError | None]:
    """Reads a stream until it fails; returns when that was, and how."""
    try:
        async with client.stream("GET", f"{link.base}/tokens?count=600&interval_ms=100") as tokens:
            async for _ in tokens:
                pass
    except TransportError as error:
        return monotonic(), error
    return monotonic(), None


async def _until_suspect(connection: Connection) -> tuple[float, float]:
    """Returns when the PING was written, and when it made the peer suspect."""
    pinged = None
    while not connection.suspect:
        if connection.closed:
            raise RuntimeError("the connection ended before it was suspect")
        pinged = connection._keep_alive._sent_at
        await asyncio.sleep(EVERY)
    suspected = monotonic()
    return connection._keep_alive._sent_at or pinged or suspected, suspected
