"""Peers to test against: real servers, and one that does exactly what a test tells it.

A behaviour that every server should show is tested over all that can show it:

    @pytest.mark.parametrize("peer", servers_with("echo"), indirect=True)
    async def test_a_body_comes_back_as_it_went_out(peer: Peer) -> None: ...
"""

from __future__ import annotations

from tests.peers.servers import Peer, servers_with
from tests.peers.tls import Certificates

__all__ = ["Certificates", "Peer", "servers_with"]
