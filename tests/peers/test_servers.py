from __future__ import annotations

import httpx
import pytest

from tests.peers import Peer, servers_with


@pytest.mark.parametrize("peer", servers_with("bytes"), indirect=True)
async def test_it_answers(peer: Peer) -> None:
    verify = peer.certificates.client_context() if peer.certificates else True
    async with httpx.AsyncClient(http1=False, http2=True, verify=verify) as client:
        answer = await client.get(peer.url("/bytes/1000"))
    assert answer.status_code == 200
