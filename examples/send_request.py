"""A request to a worker, and what happens when the worker is overloaded.

python -m examples.send_request
"""

from __future__ import annotations

import uvloop

from dynamo_h2 import HttpRequestClient, Overloaded
from examples.local_worker import local_worker


async def main(url: str) -> None:
    """Sends a payload and gets it back, then one that the worker refuses."""
    async with HttpRequestClient.from_env() as client:
        reply = await client.send_request(f"{url}/echo", b"hello, worker")
        print("the worker answered:", reply.decode())

        try:
            await client.send_request(f"{url}/overloaded", b"one too many")
        except Overloaded as error:
            print(f"refused with status {error.status}:", error.body.decode())

        stats = client.stats()
        print(f"{stats.requests_sent} requests on {stats.connections_opened} connection")


if __name__ == "__main__":
    with local_worker() as worker_url:
        uvloop.run(main(worker_url))
