"""An HTTP/2 client transport for request planes, in pure asyncio on the h2 state machine."""

from __future__ import annotations

from dynamo_h2.call import UNSET, CallOptions, Timeout
from dynamo_h2.client import HttpRequestClient, RequestPlaneClient
from dynamo_h2.config import Http2Config, UnknownVariableWarning
from dynamo_h2.errors import (
    ClientClosed,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    DynamoH2Error,
    InvalidRequest,
    KeepAliveTimeout,
    LocalProtocolError,
    Overloaded,
    PoolTimeout,
    ReadTimeout,
    RemoteProtocolError,
    RequestTimeout,
    ResponseTooLarge,
    StatusError,
    StreamReset,
    TransportError,
    WriteTimeout,
    WrongEventLoop,
)
from dynamo_h2.metrics import Stats
from dynamo_h2.response import Attempt, Headers, Response, StreamResponse
from dynamo_h2.sse import ServerSentEvent

__version__ = "0.1.0"

__all__ = [
    "UNSET",
    "Attempt",
    "CallOptions",
    "ClientClosed",
    "ConfigError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "DynamoH2Error",
    "Headers",
    "Http2Config",
    "HttpRequestClient",
    "InvalidRequest",
    "KeepAliveTimeout",
    "LocalProtocolError",
    "Overloaded",
    "PoolTimeout",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestPlaneClient",
    "RequestTimeout",
    "Response",
    "ResponseTooLarge",
    "ServerSentEvent",
    "Stats",
    "StatusError",
    "StreamReset",
    "StreamResponse",
    "Timeout",
    "TransportError",
    "UnknownVariableWarning",
    "WriteTimeout",
    "WrongEventLoop",
]
