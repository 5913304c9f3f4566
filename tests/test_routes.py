"""What is remembered of the addresses in use, and for how long."""

from __future__ import annotations

import pytest

from dynamo_h2 import HttpRequestClient, InvalidRequest, routes
from dynamo_h2.routes import LOOK_AT, Route, Routes


async def test_addresses_in_use_are_found_by_themselves_however_many_there_are() -> None:
    async with HttpRequestClient() as client:
        known, pool = Routes(None), client._open_pool()
        found: dict[str, Route] = {}
        for number in range(2 * LOOK_AT + 1):
            address = f"worker/{number}"
            found[address] = known.find(pool, "POST", address, (), True)
        assert known.plain == found


async def test_a_host_that_is_forgotten_leaves_no_address_behind() -> None:
    async with HttpRequestClient() as client:
        known, pool = Routes(None), client._open_pool()
        gone = known.find(pool, "POST", "gone/", (), True)
        gone.host.forgotten = True
        for number in range(LOOK_AT):
            known.find(pool, "POST", f"worker/{number}", (), True)
        assert len(known.plain) == LOOK_AT
        assert gone not in known.plain.values()


async def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "REMEMBERED", LOOK_AT)
    async with HttpRequestClient() as client:
        known, pool = Routes(None), client._open_pool()
        for number in range(3 * LOOK_AT):
            known.find(pool, "POST", f"worker/{number}", (), True)
        assert len(known.plain) == LOOK_AT


async def test_only_the_same_request_is_found_by_its_address() -> None:
    async with HttpRequestClient() as client:
        known, pool = Routes(None), client._open_pool()
        address = "worker/"
        known.find(pool, "GET", address, (), True)
        known.find(pool, "POST", address, (), False)
        known.find(pool, "POST", address, (), True, "other")
        known.find(pool, "POST", address, (), True, None, "other")
        known.find(pool, "POST", address, ((b"content-type", b"text/plain"),), True)
        assert not known.plain
        plain = known.find(pool, "POST", address, (), True)
        assert known.plain == {address: plain}


@pytest.mark.parametrize("body", [b"", b"body", "text"])
async def test_an_address_that_cannot_even_be_looked_up_is_refused(body: bytes | str) -> None:
    async with HttpRequestClient() as client:
        with pytest.raises(InvalidRequest, match="must be a str, not list"):
            await client.send_request([], body)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="must be a str, not list"):
            await client.request("POST", [], body=body)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["method", "authority", "server_hostname"])
@pytest.mark.parametrize("value", [["worker"], 5, b"worker"])
async def test_a_name_that_is_no_text_is_refused(name: str, value: object) -> None:
    call = {"method": "POST", "url": "worker/", name: value}
    async with HttpRequestClient() as client:
        with pytest.raises(
            InvalidRequest, match=f"{name} must be a str, not {type(value).__name__}"
        ):
            await client.request(**call)  # type: ignore[arg-type]
