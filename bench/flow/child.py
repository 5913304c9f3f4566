"""One client at one job, in a process of its own: ``python -m bench.flow.child '<order>'``.

It prints a line of JSON for everything that it has to tell. First it says that it is ready, and
waits for a line on its input, and so it does at the end: whoever runs it can look at its memory
before and after.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from bench.child import describe
from bench.flow.app import SMALL
from bench.flow.jobs import JOBS
from bench.flow.setups import SETUPS


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is asked to do.

    Args:
        setup: the name of the client and its settings.
        job: a name out of ``JOBS``.
        url: the server, as ``http://host:port``.
        options: further options of our client.
        arguments: keywords of the job.
    """

    setup: str
    job: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the child's argument."""
        return json.dumps(asdict(self))


def tell(**message: object) -> None:
    """Prints a message for whoever runs this."""
    print(json.dumps(message), flush=True)


async def carry_out(order: Order) -> None:
    """Does the job, and tells the result; whatever a client raises is its failure."""
    setup = SETUPS[order.setup].with_options(**order.options)
    try:
        async with setup.adapter.client(1000) as client:
            if setup.name != "grpc.aio":
                assert await client.send("GET", f"{order.url}/small") == SMALL
            gc.collect()
            tell(ready=True)
            await asyncio.to_thread(sys.stdin.readline)
            tell(result=await JOBS[order.job](client, order.url, **order.arguments))
            await asyncio.to_thread(sys.stdin.readline)
    except Exception as error:  # the libraries' own exceptions have no common base
        tell(failure=describe(error))


if __name__ == "__main__":
    uvloop.run(carry_out(Order(**json.loads(sys.argv[1]))))
