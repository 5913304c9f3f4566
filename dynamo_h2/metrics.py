"""What a client counts, and the snapshot of it that callers get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Counters", "Stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a client has done and holds, at one moment.

    Attributes:
        requests_sent: Requests written to a connection; each further attempt counts again.
        responses: Responses that ended well, whatever their status.
        errors: Requests that ended in an error.
        retries: Of the requests that were sent, those that had been sent before.
        bytes_sent: Bytes handed to transports, frame headers included.
        bytes_received: Bytes taken from transports.
        connections_active: Open connections with at least one stream.
        connections_idle: Open connections without a stream.
        streams_in_flight: Streams that are open now, over all connections.
        average_latency: Mean time from the call to the final response head, in seconds; 0.0
            before the first.
        connections_opened: Connections made since the client began.
        connections_closed: Connections ended since then, for whatever reason.
        busy_poll_time: Time in which the loop was kept from sleeping before an answer, in seconds;
            see ``busy_poll`` of the configuration.
        keep_alive_intervals: The intervals (seconds) of origins that asked for calm, by origin: to
            them PINGs go out less often than ``keep_alive_interval`` says.
    """

    requests_sent: int
    responses: int
    errors: int
    retries: int
    bytes_sent: int
    bytes_received: int
    connections_active: int
    connections_idle: int
    streams_in_flight: int
    average_latency: float
    connections_opened: int
    connections_closed: int
    busy_poll_time: float
    keep_alive_intervals: Mapping[str, float] = field(hash=False)


class Counters:
    """The running counts of one client: plain numbers, which the request path adds to.

    Attributes:
        requests: Requests written to a connection.
        responses: Responses that ended well.
        errors: Requests that ended in an error.
        retries: Of the requests that were sent, those that had been sent before.
        bytes_sent: Bytes handed to transports.
        bytes_received: Bytes taken from transports.
        latency_total: Sum of the latencies, in seconds.
        latency_count: How many latencies that sum holds.
        connections_opened: Connections made.
        connections_closed: Connections ended.
        busy_poll_time: Time spent polling for answers, in seconds.
    """

    __slots__ = (
        "busy_poll_time",
        "bytes_received",
        "bytes_sent",
        "connections_closed",
        "connections_opened",
        "errors",
        "latency_count",
        "latency_total",
        "requests",
        "responses",
        "retries",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.responses = 0
        self.errors = 0
        self.retries = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.latency_total = 0.0
        self.latency_count = 0
        self.connections_opened = 0
        self.connections_closed = 0
        self.busy_poll_time = 0.0

    def add_latency(self, seconds: float) -> None:
        """Count one response head that came after ``seconds``."""
        self.latency_total += seconds
        self.latency_count += 1

    def snapshot(
        self,
        *,
        connections_active: int,
        connections_idle: int,
        streams_in_flight: int,
        keep_alive_intervals: Mapping[str, float] | None = None,
    ) -> Stats:
        """Freeze the counts, together with what only the pool can tell.

        Args:
            connections_active: Open connections with at least one stream.
            connections_idle: Open connections without a stream.
            streams_in_flight: Streams that are open now.
            keep_alive_intervals: Those that differ from the configuration; None for none.
        """
        return Stats(
            requests_sent=self.requests,
            responses=self.responses,
            errors=self.errors,
            retries=self.retries,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            connections_active=connections_active,
            connections_idle=connections_idle,
            streams_in_flight=streams_in_flight,
            average_latency=self.latency_total / max(1, self.latency_count),
            connections_opened=self.connections_opened,
            connections_closed=self.connections_closed,
            busy_poll_time=self.busy_poll_time,
            keep_alive_intervals=keep_alive_intervals or {},
        )
