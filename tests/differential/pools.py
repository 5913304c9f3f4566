"""What sequences are made of: configurations, request heads, fields and bodies, all by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.headers import Field, RequestHead, build_head

__all__ = ["BODY", "CONFIGS", "FIELDS", "FIRST_WINDOWS", "HEADS", "TRAILERS"]

# Windows and lists are small in most of them, so that limits are reached within a few frames.
CONFIGS: Final[Sequence[Http2Config]] = (
    Http2Config(),
    Http2Config(
        max_frame_size=16_384,
        initial_stream_window=300,
        initial_connection_window=70_000,
        max_header_list_size=400,
    ),
    Http2Config(
        max_frame_size=16_384,
        initial_stream_window=20_000,
        initial_connection_window=66_000,
        header_table_size=0,
    ),
    Http2Config(max_frame_size=20_000, header_table_size=200, huffman=True),
    Http2Config(max_concurrent_streams=3, initial_stream_window=50),
    Http2Config(max_frame_size=16_384, initial_connection_window=70_000),
    Http2Config(initial_stream_window=300),
)

FIRST_WINDOWS: Final[Mapping[int, int]] = {5: 0, 6: 1_000}
"""What the first SETTINGS say of INITIAL_WINDOW_SIZE, where it is not what the configuration says.

A connection begins with a window of 0 while memory is short.
"""

_REST: Final = 16_336  # with which such a head is one frame of 16,384 bytes
_LONG: Field = (b"x-long", b"v" * 200)


def _head(method: str, *fields: Field) -> RequestHead:
    return build_head(method, "http", "worker:8000", "/v1/rpc/generate", fields)


HEADS: Final[Sequence[RequestHead]] = (
    _head("POST", (b"content-type", b"application/octet-stream")),
    _head("GET"),
    _head("HEAD"),
    _head("POST", (b"x-model", b"large"), (b"authorization", b"Bearer secret")),
    _head("GET", (b"accept-encoding", b"gzip, deflate"), (b"cookie", b"a=b"), _LONG),
    # Longer than a frame may be at first: it takes CONTINUATION.
    _head("POST", (b"x-huge", b"h" * 17_000)),
    # As long as it may be, and one byte longer, where literals are not Huffman-coded.
    _head("GET", (b"x-just-fits", b"f" * _REST)),
    _head("GET", (b"x-just-fits", b"f" * (_REST + 1))),
)

FIELDS: Final[Sequence[tuple[Field, ...]]] = (
    (),
    ((b"content-length", b"5"), (b"request-id", b"8f14e45f")),
    ((b"x-frontend-send-ts-ns", b"1753300000000000000"), (b"traceparent", b"00-1-2-01")),
    ((b"x-new", b"entry"), (b"authorization", b"Bearer other")),
    ((b"x-long", b"w" * 130), (b"x-model", b"large")),
    (
        (b"accept", b""),
        (b"content-type", b"application/json"),
        (b"set-cookie", b"c=d"),
        (b"cookie", b""),
    ),
)

TRAILERS: Final[Sequence[tuple[Field, ...]]] = (
    (),
    ((b"x-sha256", b"0123456789abcdef"),),
    ((b"x-model", b"large"), (b"x-new", b"entry")),
)

# Bodies are cut from this one.
BODY: Final = bytes(range(256)) * 160
