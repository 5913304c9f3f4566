"""The calls of the drill: what is asked, how the answer is checked, and what is written down."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

from bench.drill.app import TOKENS, receipt, token
from bench.drill.ledger import ERROR, LEFT, OK, STATUS, UNTYPED, WRONG, Call, Tried
from bench.drill.party import READ_TIMEOUT
from dynamo_h2 import DynamoH2Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from bench.drill.party import Party

PAYLOAD: Final = bytes(range(256)) * 4
UPLOAD: Final = bytes(range(251)) * 261  # about 64 KiB: more than a new stream may send at once
PIECE: Final = 8192
TIMEOUT: Final = 2.0
"""Seconds that a call may take …"""
IMPATIENT: Final = (0.01, 0.1)
"""… and where it is meant to run out of time: less than any work takes."""
PAUSE: Final = 0.1
"""Seconds that a lane rests after an error, as a router would go elsewhere."""
AGAIN: Final = 0.25
"""How many of those that failed the caller sends again by itself, with the same identifier."""
KINDS: Final = {"unary": 0.76, "upload": 0.06, "upload, once": 0.06, "tokens": 0.12}
"""Kinds of requests with their share; `once` is a body that cannot be sent a second time."""


@dataclass(slots=True)
class Target:
    """A worker as the caller knows it.

    Args:
        index: its number.
        url: its address.
        overload: how many of the next requests ask it to have no room.
        impatient: how many of the next requests have hardly any time.
        scopes: the calls in flight, each with what cancels it.
    """

    index: int
    url: str
    overload: int = 0
    impatient: int = 0
    scopes: dict[asyncio.Timeout, None] = field(default_factory=dict)


@dataclass(slots=True)
class Order:
    """One call that is to be made."""

    request_id: int
    target: Target
    kind: str
    timeout: float
    headers: dict[str, str]

    @property
    def replayable(self) -> bool:
        """Whether its body can be sent a second time."""
        return self.kind != "upload, once"


@dataclass(slots=True)
class Found:
    """What became of a call, as it goes along."""

    outcome: str = WRONG
    tried: tuple[Tried, ...] = ()
    attempts: int = 1
    late: float = 0.0
    words: str = ""


class Lanes:
    """Callers, each of which makes one call after the other to its worker.

    Args:
        party: the client.
        targets: the workers.
        seed: what all choices follow from.
        work: seconds that the workers are to take for a request.
        file: where calls are written down.
        clock: tells the seconds since the drill began.
    """

    def __init__(
        self,
        party: Party,
        targets: list[Target],
        seed: int,
        work: float,
        file: IO[str],
        clock: Callable[[], float],
    ) -> None:
        self._party = party
        self._targets = targets
        self._seed = seed
        self._work = f"{work:g}"
        self._file = file
        self._clock = clock
        self._last_id = 0
        self.made = 0
        self.open: dict[int, tuple[Order, float]] = {}
        self.stopping = False

    async def run(self, number: int) -> None:
        """Is one lane, until all are told to stop."""
        rng = random.Random(f"{self._seed}/{number}")
        target = self._targets[number % len(self._targets)]
        while not self.stopping:
            order = self._order(target, rng)
            if await self._make(order) in {OK, LEFT}:
                continue
            await asyncio.sleep(PAUSE)
            if rng.random() < AGAIN and not self.stopping:
                order.headers.pop("x-overload", None)
                order.timeout = TIMEOUT
                await self._make(order)

    def _order(self, target: Target, rng: random.Random) -> Order:
        self._last_id += 1
        kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        headers = {"request-id": str(self._last_id), "x-work": self._work}
        timeout = TIMEOUT
        if target.overload:
            target.overload -= 1
            headers["x-overload"] = "1"
        elif target.impatient:
            target.impatient -= 1
            timeout = rng.uniform(*IMPATIENT)
        return Order(self._last_id, target, kind, timeout, headers)

    async def _make(self, order: Order) -> str:
        """Makes one call and writes it down; returns how it ended."""
        begin = self._clock()
        self.open[order.request_id] = (order, begin)
        found = Found()
        try:
            await self._ask(order, found)
        finally:
            del self.open[order.request_id]
        end = self._clock()
        self.made += 1
        if order.kind != "tokens" and found.outcome != LEFT:
            found.late = end - begin - order.timeout
        call = Call(
            order.request_id,
            order.target.index,
            order.kind,
            begin,
            end,
            found.late,
            found.outcome,
            found.tried,
            found.attempts,
            order.replayable,
            found.words,
            hurried=order.timeout < TIMEOUT,
        )
        self._file.write(call.to_line())
        return found.outcome

    async def _ask(self, order: Order, found: Found) -> None:
        scopes = order.target.scopes
        try:
            async with asyncio.timeout(None) as scope:
                scopes[scope] = None
                try:
                    await self._exchange(order, found)
                finally:
                    del scopes[scope]
        except TimeoutError as error:
            if not scope.expired() or isinstance(error, DynamoH2Error):
                self._failed(error, found)
            else:
                found.outcome = LEFT
                when = scope.when()
                assert when is not None
                found.late = asyncio.get_running_loop().time() - when
        except Exception as error:  # what may come is what the drill is to find out
            self._failed(error, found)

    def _failed(self, error: Exception, found: Found) -> None:
        explained = self._party.explain(error)
        notes = getattr(error, "__notes__", ())
        found.words = "; ".join((f"{type(error).__name__}: {error}", *notes))
        if explained is None:
            found.outcome = UNTYPED
            found.tried = (Tried(type(error).__name__, None, None, None, ""),)
        else:
            found.outcome = ERROR
            found.tried, found.attempts = explained

    async def _exchange(self, order: Order, found: Found) -> None:
        if order.kind == "tokens":
            await self._read_tokens(order, found)
            return
        body, path = (PAYLOAD, "/unary") if order.kind == "unary" else (UPLOAD, "/upload")
        source = body if order.kind == "unary" else _pieces(body, order.replayable)
        url = order.target.url + path
        answer = await self._party.post(url, order.headers, source, order.timeout)
        found.tried, found.attempts = answer.tried, len(answer.tried) + 1
        expected = receipt(str(order.request_id).encode(), len(body), _CHECKSUMS[len(body)])
        _judge(answer.status, answer.body, expected, found)

    async def _read_tokens(self, order: Order, found: Found) -> None:
        url = order.target.url + "/tokens"
        last, limit = self._clock(), order.timeout
        pieces, status = [], 0
        found.late = -limit
        async for answer in self._party.stream(url, order.headers, order.timeout):
            now = self._clock()
            found.late = max(found.late, now - last - limit)
            last, limit = now, READ_TIMEOUT
            if not status:
                status = answer.status
                found.tried, found.attempts = answer.tried, len(answer.tried) + 1
            pieces.append(answer.body)
        request_id = str(order.request_id).encode()
        expected = b"".join(token(request_id, index) for index in range(TOKENS))
        _judge(status, b"".join(pieces), expected, found)


_CHECKSUMS: Final[Mapping[int, int]] = {len(body): zlib.crc32(body) for body in (PAYLOAD, UPLOAD)}


def _judge(status: int, body: bytes, expected: bytes, found: Found) -> None:
    if not 200 <= status <= 299:
        found.outcome, found.words = STATUS, str(status)
    elif body == expected:
        found.outcome = OK
    else:
        found.words = f"{status}: {body[:80]!r}"


def _pieces(body: bytes, replayable: bool) -> list[bytes] | AsyncIterator[bytes]:
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    return pieces if replayable else _once(pieces)


async def _once(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
