"""Which connection a request goes to, with connections that carry nothing."""

from __future__ import annotations

import asyncio
import random
import sys
from types import FrameType

import pytest

from dynamo_h2 import Http2Config
from dynamo_h2.metrics import Counters
from dynamo_h2.transport import choice as choice_module
from dynamo_h2.transport.choice import FEW, Choice
from dynamo_h2.transport.protocol import ClientProtocol
from dynamo_h2.transport.sockets import Address

HERE = Address(2, ("127.0.0.1", 80))


def connection(capacity: int = 100) -> ClientProtocol:
    """A connection whose load the test sets by the slots that are reserved."""
    protocol = ClientProtocol(
        Http2Config(), "http://worker", on_state=lambda *_: None, counters=Counters()
    )
    protocol.connection.capacity = capacity
    return protocol


def among(count: int, capacity: int = 100) -> tuple[Choice, list[ClientProtocol]]:
    """A choice among so many good connections."""
    choice = Choice()
    protocols = [connection(capacity) for _ in range(count)]
    for protocol in protocols:
        choice.add(protocol, HERE)
        choice.settled(protocol)
    return choice, protocols


def take(choice: Choice) -> ClientProtocol | None:
    """Take a slot of the least loaded one."""
    protocol = choice.least_loaded(None)
    if protocol is not None:
        protocol.reserved += 1
        choice.moved(protocol)
    return protocol


def give_back(choice: Choice, protocol: ClientProtocol, count: int = 1) -> None:
    protocol.reserved -= count
    choice.moved(protocol)


def calls_of_a_slot(count: int) -> int:
    """How many calls, of Python and of C, it takes to take and give back a slot."""
    choice, protocols = among(count)
    chooser = random.Random(count)
    for _ in range(50 * count):
        take(choice)
    for protocol in protocols:
        give_back(choice, protocol, chooser.randrange(1, 40))
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(note)
    for _ in range(100):
        taken = take(choice)
        assert taken is not None
        give_back(choice, taken)
    sys.setprofile(None)
    return calls


async def test_a_thousand_connections_take_no_longer_than_a_few_more_than_a_few() -> None:
    assert calls_of_a_slot(1000) <= calls_of_a_slot(FEW + 1) + 100
    assert calls_of_a_slot(1) < calls_of_a_slot(2) < calls_of_a_slot(FEW)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("few", [0, 3, FEW])
async def test_it_is_always_the_least_loaded_with_a_free_slot(
    seed: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_module, "FEW", few)
    chooser = random.Random(seed)
    choice = Choice()
    everyone: list[ClientProtocol] = []
    for _ in range(2_000):
        match chooser.randrange(12):
            case 0 if len(everyone) < 12:
                everyone.append(connection(chooser.randrange(6)))
                choice.add(everyone[-1], HERE)
            case 1 if everyone:
                choice.settled(chooser.choice(everyone))
            case 2 if everyone:
                choice.suspect(chooser.choice(everyone))
            case 3 if everyone:
                choice.trust(chooser.choice(everyone))
            case 4 if everyone and chooser.random() < 0.3:
                gone = everyone.pop(chooser.randrange(len(everyone)))
                assert choice.remove(gone) is HERE
            case 5 if everyone:
                changed = chooser.choice(everyone)
                changed.connection.capacity = chooser.randrange(6)
                choice.moved(changed)
            case 6 | 7 if any(each.reserved for each in everyone):
                loaded = chooser.choice([each for each in everyone if each.reserved])
                give_back(choice, loaded, chooser.randint(1, loaded.reserved))
            case _:
                take(choice)
        check(choice, everyone, chooser)


def check(choice: Choice, everyone: list[ClientProtocol], chooser: random.Random) -> None:
    """Compare with what looking at all of them says."""
    avoid = chooser.choice([None, *everyone])
    free = [
        each
        for each in everyone
        if each not in choice.suspects and each.load < each.connection.capacity
    ]
    assert {each for each in everyone if choice.has_room(each)} == {
        each for each in free if each not in choice.unready or not choice.suspects
    }
    proved = [each for each in free if each not in choice.unready and each is not avoid]
    ahead = [each for each in free if each in choice.unready and each is not avoid]
    expected = proved or ([] if choice.suspects else ahead)
    best = choice.least_loaded(avoid)
    if not expected:
        assert best is None
    else:
        assert best in expected
        assert best.load == min(each.load for each in expected)
    assert set(choice.barred) == {each for each in everyone if not each.connection.capacity}


@pytest.mark.parametrize("count", [3, FEW + 1])
async def test_equals_take_turns_where_there_are_several_places(count: int) -> None:
    choice, protocols = among(count)
    choice.take_turns = True
    taken = []
    for _ in range(2 * count):
        protocol = take(choice)
        assert protocol is not None
        taken.append(protocol)
        give_back(choice, protocol)
    assert taken[:count] == taken[count:]
    assert set(taken) == set(protocols)


@pytest.mark.parametrize("count", [3, FEW + 1])
async def test_else_who_is_not_needed_stays_idle(count: int) -> None:
    choice, _ = among(count)
    first = take(choice)
    assert first is not None
    give_back(choice, first)
    assert [choice.least_loaded(None) for _ in range(3)] == [first] * 3
    assert choice.surplus(count) is None
    assert choice.surplus(count - 1) not in (first, None)


async def test_nothing_is_written_ahead_where_another_has_room() -> None:
    choice, (old,) = among(1, capacity=1)
    new = connection()
    choice.add(new, HERE)
    assert [take(choice), take(choice)] == [old, new]
    give_back(choice, old)
    assert take(choice) is old


async def test_who_has_gone_is_not_taken_for_anything() -> None:
    choice, (gone, stays) = among(2)
    assert choice.remove(gone) is HERE
    assert choice.remove(gone) is None
    for note in (choice.suspect, choice.trust, choice.settled, choice.moved):
        note(gone)
    assert choice.only is stays
    await asyncio.sleep(0)
