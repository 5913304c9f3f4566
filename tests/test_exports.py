"""The public names: what a program may import, and nothing else."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import dynamo_h2
from dynamo_h2 import CallOptions, Http2Config, HttpRequestClient, RequestPlaneClient

NAMES = [
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

TIMES = ["timeout", "read_timeout", "write_timeout", "pool_timeout", "connect_timeout"]


def parameters(function: Any) -> list[str]:  # noqa: ANN401 - any callable
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_public_names_are_these() -> None:
    assert dynamo_h2.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name: str) -> None:
    assert hasattr(dynamo_h2, name)


def test_no_other_name_looks_public() -> None:
    seen = {
        name
        for name, value in vars(dynamo_h2).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert seen - {"annotations"} == set(NAMES)


def test_the_version_is_a_version() -> None:
    assert all(part.isdigit() for part in dynamo_h2.__version__.split("."))


def test_every_public_class_and_function_says_what_it_is() -> None:
    for name in NAMES:
        value = getattr(dynamo_h2, name)
        if inspect.isclass(value):
            assert value.__doc__
            assert value.__module__.startswith("dynamo_h2")


def test_a_client_is_made_with_these_arguments() -> None:
    given = ["ssl_context", "headers", "resolver"]
    assert parameters(HttpRequestClient) == ["config", *given]
    assert parameters(HttpRequestClient.with_config) == ["config", *given]
    assert parameters(HttpRequestClient.from_env) == given
    assert parameters(HttpRequestClient.with_timeout) == ["seconds", *given]


def test_a_request_is_made_with_these_arguments() -> None:
    common = ["method", "url", "headers", "body", "trailers", "on_informational", "options"]
    assert parameters(HttpRequestClient.request) == common
    assert parameters(HttpRequestClient.stream) == common
    assert parameters(HttpRequestClient.send_request) == [
        "address",
        "payload",
        "headers",
        "options",
    ]
    assert list(CallOptions.__annotations__) == [
        *TIMES,
        "authority",
        "server_hostname",
        "retryable",
        "urgency",
        "affinity",
    ]


def test_the_client_is_a_client_of_a_request_plane() -> None:
    client: RequestPlaneClient = HttpRequestClient(Http2Config())
    assert isinstance(client, RequestPlaneClient)
    assert client.transport_name == "http2"


def test_something_else_is_no_client_of_a_request_plane() -> None:
    assert not isinstance(object(), RequestPlaneClient)


def test_importing_the_package_imports_no_extra() -> None:
    code = (
        "import sys, dynamo_h2;"
        "print({'httpx', 'prometheus_client', 'opentelemetry', 'uvloop'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert shown.strip() == "set()"
