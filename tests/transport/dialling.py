"""Dials that fail, and resolvers that know what they are told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dynamo_h2.errors import ConnectError
from dynamo_h2.origin import Origin
from dynamo_h2.transport.connect import Dialer
from dynamo_h2.transport.sockets import AddressInfo, Resolver
from tests.transport.listening import Recorder

NAME = "worker.example"


def answering(*infos: AddressInfo) -> Resolver:
    """A resolver that knows one answer."""

    async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        assert host == NAME
        return infos

    return resolve


def failing(error: Exception) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
        raise error

    return resolve


def never() -> Recorder:
    pytest.fail("a protocol was made for a connection that is not good")


async def refusal(
    dialer: Dialer, origin: Origin, *, server_hostname: str | None = None
) -> ConnectError:
    """Dial in vain, and check what is the same for every failure."""
    with pytest.raises(ConnectError) as caught:
        await dialer.dial(origin, never, server_hostname=server_hostname)
    error = caught.value
    assert type(error) is ConnectError
    assert error.processed is False
    assert error.origin == str(origin)
    assert str(error).startswith(f"cannot connect to {origin}: ")
    return error


def reason(error: ConnectError) -> str:
    return str(error).removeprefix(f"cannot connect to {error.origin}: ")
