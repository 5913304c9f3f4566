"""A hundred hosts on one machine: addresses of the loopback network, all on one port."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

HOST_ADDRESSES: Final = tuple(f"127.0.1.{number}" for number in range(1, 101))


def host_urls(url: str) -> list[str]:
    """Returns the URLs of all hosts, from that of one of them."""
    port = urlsplit(url).port
    return [f"http://{address}:{port}" for address in HOST_ADDRESSES]
