"""What the engine tells, and whom: one method per event."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dynamo_h2.http2.headers import Field

__all__ = ["Receiver"]


class Receiver(Protocol):
    """Is told what arrives on a connection: one call per event, in the order of the frames.

    A method may call the engine back, except for ``receive``. When it raises a `ProtocolError`,
    that is a connection error, as if the engine had found it. Lists of fields must not be changed.
    """

    __slots__ = ()

    @abstractmethod
    def on_settings(self, previous_initial_window: int) -> None:
        """The peer's SETTINGS were applied; its INITIAL_WINDOW_SIZE was that many bytes before."""

    @abstractmethod
    def on_settings_ack(self) -> None:
        """Our last SETTINGS were acknowledged and applied."""

    @abstractmethod
    def on_head(self, stream_id: int, status: int, fields: list[Field], end_stream: bool) -> None:
        """A final response began; ``fields`` are without ``:status``."""

    @abstractmethod
    def on_informational(self, stream_id: int, status: int, fields: list[Field]) -> None:
        """A 1xx response arrived; ``fields`` are without ``:status``."""

    @abstractmethod
    def on_data(
        self, stream_id: int, data: bytes | memoryview, flow_length: int, end_stream: bool
    ) -> None:
        """DATA arrived; ``flow_length`` bytes of credit, padding included, are owed for it."""

    @abstractmethod
    def on_late_data(self, flow_length: int) -> None:
        """DATA arrived that nobody wants: that many bytes of connection credit are owed."""

    @abstractmethod
    def on_late(self, frame_type: int) -> None:
        """HEADERS, RST_STREAM or WINDOW_UPDATE arrived for a stream that is gone."""

    @abstractmethod
    def on_trailers(self, stream_id: int, fields: list[Field]) -> None:
        """Trailers arrived, and with them the end of the response."""

    @abstractmethod
    def on_reset(self, stream_id: int, code: int) -> None:
        """The peer reset a stream that was open on at least one side."""

    @abstractmethod
    def on_stream_error(self, stream_id: int, code: int, reason: str) -> None:
        """The peer broke a rule on this stream; it is closed, and its RST_STREAM is queued."""

    @abstractmethod
    def on_window_update(self, stream_id: int) -> None:
        """The peer raised the send window of a stream, or of the connection (0)."""

    @abstractmethod
    def on_ping(self) -> None:
        """A PING arrived; its ACK is queued."""

    @abstractmethod
    def on_ping_ack(self, payload: bytes) -> None:
        """The ACK of a PING arrived, asked for or not."""

    @abstractmethod
    def on_goaway(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """GOAWAY arrived; ``last_stream_id`` is the lowest of all so far."""

    @abstractmethod
    def on_other(self, frame_type: int) -> None:
        """A frame arrived that changes nothing: PRIORITY, or of an unknown type."""
