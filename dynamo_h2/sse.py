"""Lines and server-sent events out of bytes, sans I/O (WHATWG HTML, "Server-sent events").

Bytes come in pieces of any size and the result is the same for every way of cutting them. Nothing
waits: an event is given out with the line end that completes it, even where that is a CR of which
nobody knows yet whether a LF follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from dynamo_h2.errors import ResponseTooLarge

__all__ = ["LineDecoder", "ServerSentEvent", "SseDecoder"]

_T = TypeVar("_T")

# Token streams have events of a few hundred bytes; images and audio in base64 still fit in here.
MAX_SIZE = 16 * 1024 * 1024

# More digits of milliseconds than this are no time to wait, and only work for int().
_RETRY_DIGITS = 15


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream.

    Attributes:
        event: Its type, "message" when it names none.
        data: Its data lines, joined by LF.
        id: The last event id at this point of the stream; an id stays until another one is set.
        retry: The reconnection time that came with this event, in ms, or None.
    """

    event: str
    data: str
    id: str
    retry: int | None


class _Bounded:
    """What the decoders share: an error that waits until all that came before it is handed out."""

    __slots__ = ("error", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.error: ResponseTooLarge | None = None

    def _deliver(self, items: list[_T]) -> list[_T]:
        if self.error is not None and not items:
            raise self.error
        return items


class LineDecoder(_Bounded):
    """Cuts bytes into lines of text, at LF, CR LF and CR, and decodes them as UTF-8.

    What is not UTF-8 becomes U+FFFD. Cutting comes first: no byte of a longer character is a line
    end.

    Args:
        max_size: The longest line, in bytes.

    Attributes:
        error: What ended the decoding, when a line was too long; every later call raises it.
    """

    __slots__ = ("_after_cr", "_partial")

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        super().__init__(max_size)
        self._partial = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, without their ends.

        Raises:
            ResponseTooLarge: A line is too long, and no complete one came before it; when some
                did, they are returned, and the next call raises.
        """
        self._deliver([])
        return self._deliver(self.cut(data))

    def finish(self) -> list[str]:
        """Return the last line, when no line end follows it.

        Raises:
            ResponseTooLarge: As for `feed`.
        """
        last, self._partial = self._partial, bytearray()
        return self._deliver([last.decode("utf-8", "replace")] if last else [])

    def cut(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, and set `error` instead of raising it."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        # bytes.splitlines knows CR, LF and CR LF alone; that of str knows many more.
        pieces = data.splitlines()
        ended = data[-1] in b"\r\n"
        self._after_cr = data[-1] == 0x0D
        if self._partial:
            # A line in many small pieces grows in place: each byte is copied once.
            self._partial += pieces[0]
            pieces[0] = b""
            if len(pieces) > 1 or ended:
                pieces[0], self._partial = bytes(self._partial), bytearray()
        if not ended:
            self._partial += pieces.pop()
        self._check(pieces)
        return [piece.decode("utf-8", "replace") for piece in pieces]

    def _check(self, pieces: list[bytes]) -> None:
        """Cut ``pieces`` off before the first one that is too long."""
        for i, piece in enumerate(pieces):
            if len(piece) > self.max_size:
                del pieces[i:]
                self._fail()
                return
        if len(self._partial) > self.max_size:
            self._fail()

    def _fail(self) -> None:
        self._partial = bytearray()
        self.error = ResponseTooLarge(f"a line of the response is over {self.max_size} bytes")


class SseDecoder(_Bounded):
    """Decodes one event stream.

    Args:
        max_size: The longest line, in bytes, and the longest data of one event, in characters.

    Attributes:
        last_event_id: What a client would send as ``Last-Event-ID`` when it reconnects.
        retry: The last reconnection time of the stream, in ms, or None.
        error: What ended the decoding, when something was too long; every later call raises it.
    """

    __slots__ = (
        "_data",
        "_data_size",
        "_event_retry",
        "_first",
        "_lines",
        "_type",
        "last_event_id",
        "retry",
    )

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        super().__init__(max_size)
        self.last_event_id = ""
        self.retry: int | None = None
        self._lines = LineDecoder(max_size)
        self._first = True
        self._data: list[str] = []
        self._data_size = 0
        self._type = ""
        self._event_retry: int | None = None

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes.

        Raises:
            ResponseTooLarge: A line or an event is too long, and no event came before it; when
                some did, they are returned, and the next call raises.
        """
        self._deliver([])
        events: list[ServerSentEvent] = []
        for line in self._lines.cut(data):
            event = self._take(line)
            if event is not None:
                events.append(event)
            if self.error is not None:
                return self._deliver(events)
        self.error = self._lines.error
        return self._deliver(events)

    def finish(self) -> list[ServerSentEvent]:
        """Return nothing: an event without its blank line is incomplete, and discarded.

        Raises:
            ResponseTooLarge: As for `feed`.
        """
        return self._deliver([])

    def _take(self, line: str) -> ServerSentEvent | None:
        if self._first:
            self._first = False
            line = line.removeprefix("\ufeff")
        if line:
            self._set(line)
            return None
        event = self._event() if self._data else None
        self._clear()
        return event

    def _set(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._add(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self.last_event_id = value
        elif name == "retry" and _is_time(value):
            self.retry = self._event_retry = int(value)

    def _add(self, value: str) -> None:
        self._data.append(value)
        self._data_size += len(value) + 1
        if self._data_size > self.max_size + 1:
            self._clear()
            self.error = ResponseTooLarge(
                f"the data of a server-sent event is over {self.max_size} characters"
            )

    def _event(self) -> ServerSentEvent:
        return ServerSentEvent(
            self._type or "message", "\n".join(self._data), self.last_event_id, self._event_retry
        )

    def _clear(self) -> None:
        self._data = []
        self._data_size = 0
        self._type = ""
        self._event_retry = None


def _is_time(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= _RETRY_DIGITS
