"""The clients that are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.adapter import BASELINE, Adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS: Final = ("dynamo-h2", "h2", "hpack", "hyperframe", "uvloop")
_GRPC: Final[Mapping[str, str]] = {"bulk": "a message of gRPC is limited to 4 MiB"}
_HTTP1: Final[Mapping[str, str]] = dict.fromkeys(
    ("nghttpd", "nginx"), "it speaks HTTP/1.1, and that server is set up for HTTP/2"
)

# Those that the targets name, the one that most people use, a load generator, and this client as it
# is without the one setting that trades CPU for time.
QUICK: Final[tuple[Adapter, ...]] = (
    Adapter(name="dynamo_h2", module="dynamo", library="dynamo_h2", packages=_OURS),
    Adapter(
        name="dynamo_h2, no busy poll",
        module="dynamo",
        library="dynamo_h2",
        packages=_OURS,
        options={"busy_poll": None},
        only=frozenset({"unary-1"}),
    ),
    Adapter(name=BASELINE, module="bare_h2", library="h2", packages=_OURS[1:]),
    Adapter(name="httpx", module="httpx_", library="httpx", packages=("httpx", "httpcore", "h2")),
    Adapter(
        name="aiohttp-h1",  # one connection for each request in flight
        module="aiohttp_",
        library="aiohttp",
        packages=("aiohttp",),
        cannot=_HTTP1,
    ),
    Adapter(name="pycurl", module="pycurl_", library="pycurl", packages=("pycurl",)),
    Adapter(name="curl_cffi", module="curl_cffi_", library="curl_cffi", packages=("curl_cffi",)),
    Adapter(name="pyreqwest", module="pyreqwest_", library="pyreqwest", packages=("pyreqwest",)),
    Adapter(name="h2load", module="h2load_", program="h2load"),
)
OTHERS: Final[tuple[Adapter, ...]] = (
    Adapter(
        name="dynamo_h2, stock engine",
        module="dynamo",
        library="dynamo_h2",
        packages=_OURS,
        options={"engine": "stock"},
    ),
    Adapter(
        name="httpx2", module="httpx2_", library="httpx2", packages=("httpx2", "httpcore2", "h2")
    ),
    Adapter(
        name="niquests",
        module="niquests_",
        library="niquests",
        packages=("niquests", "urllib3-future", "jh2"),
    ),
    Adapter(
        name="grpc.aio",
        module="grpc_aio",
        library="grpc",
        packages=("grpcio",),
        cannot=_GRPC,
        own_server="grpc.aio",
    ),
    Adapter(
        name="grpclib",
        module="grpclib_",
        library="grpclib",
        packages=("grpclib", "h2"),
        cannot=_GRPC,
        own_server="grpc.aio",
    ),
)
# The same client with other settings, for what is said about these settings.
VARIANTS: Final[tuple[Adapter, ...]] = (
    Adapter(
        name="dynamo_h2, 16 KiB frames",
        module="dynamo",
        library="dynamo_h2",
        packages=_OURS,
        options={"max_frame_size": 16_384},
        only=frozenset({"download-64"}),
    ),
    Adapter(
        name="dynamo_h2, 100 streams per connection",
        module="dynamo",
        library="dynamo_h2",
        packages=_OURS,
        options={"max_concurrent_streams": 100},
        only=frozenset({"unary-1000"}),
    ),
)
CLIENTS: Final[tuple[Adapter, ...]] = (*QUICK, *OTHERS, *VARIANTS)


def find_clients(names: list[str]) -> tuple[Adapter, ...]:
    """Returns the clients of these names, in this order.

    Raises:
        LookupError: a name is unknown.
    """
    known = {client.name: client for client in CLIENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LookupError(f"unknown client {unknown[0]!r}; known are {', '.join(known)}")
    return tuple(known[name] for name in names)
