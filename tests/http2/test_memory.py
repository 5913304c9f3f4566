"""The memory bound: never passed, whatever comes, and whoever reads goes on."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.memory import MemoryBudget
from dynamo_h2.http2.stream import Need, Stream
from tests.http2 import frame_factory as ff
from tests.http2.connection_rig import PLENTY, resets
from tests.http2.credit_rig import FRAME, KIB, RTT, Peer

pytestmark = pytest.mark.usefixtures("each_engine")

MIB = 1024 * KIB
SIZE = 4 * MIB
CONFIG = Http2Config(
    initial_stream_window=256 * KIB,
    initial_connection_window=MIB,
    memory_budget=SIZE,
    keep_alive_interval=None,
    request_timeout=None,
    read_timeout=None,
)


class World:
    """Connections of one client, and their peers."""

    def __init__(self, config: Http2Config = CONFIG) -> None:
        self.config = config
        self.memory = MemoryBudget(config.memory_budget)
        self.peers: list[Peer] = []

    def connect(self, streams: int = 0) -> Peer:
        peer = Peer(self.config, streams, self.memory)
        self.peers.append(peer)
        return peer

    @property
    def held(self) -> int:
        return sum(peer.link.connection._credit.held for peer in self.peers)

    def check(self) -> None:
        """The bound, as promised and as it is."""
        accounts = [peer.link.connection._credit for peer in self.peers]
        assert self.held <= self.memory.leased <= self.memory.size
        assert self.memory.leased == sum(each.lease for each in accounts)
        for peer, each in zip(self.peers, accounts, strict=True):
            lying = [s.unread for s in peer.streams.values() if s.limit is None]
            assert each.unread == sum(lying)

    def fill(self, rounds: int = 12) -> None:
        """Let every peer send all that it may, while nobody reads."""
        for _ in range(rounds):
            for peer in self.peers:
                for stream_id in list(peer.left):
                    peer.send(stream_id, read=False)
                    self.check()
                self.turn(peer)

    def turn(self, peer: Peer) -> None:
        peer.take()
        peer.acknowledge()
        peer.take()
        peer.link.wait(RTT)
        peer.take()

    def read(self, peer: Peer, stream: Stream, rounds: int = 20) -> int:
        """Let one stream be read for a while; gives how many bytes came."""
        total = 0
        for _ in range(rounds):
            if stream.stream_id in peer.left and not stream.unread:
                peer.link.wait_for(stream, Need.DATA)
                peer.take()
                total += peer.send(stream.stream_id, read=False)
            while chunk := stream.read():
                assert len(chunk) <= FRAME
            stream._waiter = None
            self.turn(peer)
            self.check()
        return total


def drain(stream: Stream) -> None:
    while stream.limit is None and stream.read():
        pass


def test_stalled_streams_that_were_granted_much_do_not_hold_up_the_one_that_is_read() -> None:
    config = CONFIG.replace(
        initial_stream_window=4 * MIB, initial_connection_window=16 * MIB, memory_budget=16 * MIB
    )
    world = World(config)
    peer = world.connect(streams=101)
    world.fill()
    assert world.held > 8 * MIB
    reader = peer.streams[201]
    drain(reader)
    assert world.read(peer, reader, rounds=100) >= 40 * 64 * KIB


def test_a_stream_is_read_on_while_others_that_were_read_stall_one_by_one() -> None:
    world = World()
    peer = world.connect(streams=60)
    world.fill()
    for stream in list(peer.streams.values())[:-1]:
        drain(stream)
        world.read(peer, stream, rounds=1)
        for _ in range(3):  # its reader waits, and then goes away
            if stream.stream_id in peer.left and not stream.unread:
                peer.link.wait_for(stream, Need.DATA)
                peer.take()
                peer.send(stream.stream_id, read=False)
                stream._waiter = None
        world.check()
    last = peer.streams[119]
    drain(last)
    assert world.read(peer, last, rounds=40) > 0


def test_all_connections_share_the_budget() -> None:
    world = World()
    for _ in range(20):
        world.connect(streams=8)
        world.check()
    world.fill()
    for peer in world.peers:
        reader = peer.streams[1]
        drain(reader)
        assert world.read(peer, reader) > 0


def test_without_pressure_nothing_is_said_of_memory() -> None:
    world = World(CONFIG.replace(adaptive_window=False))
    peer = world.connect(streams=3)
    for _ in range(20):
        for stream_id in peer.left:
            peer.send(stream_id, 32 * KIB)
        kinds = {frame.kind for frame in peer.take()}
        assert ff.SETTINGS not in kinds
        assert not peer.link.connection._credit.watched


def test_windows_return_when_the_pressure_ends() -> None:
    world = World(CONFIG.replace(memory_budget=2 * MIB, adaptive_window=False))
    peer = world.connect(streams=20)
    world.fill()
    assert peer.initial == 0
    for stream in peer.streams.values():
        drain(stream)
    for _ in range(5):
        world.turn(peer)
    assert peer.initial == 256 * KIB
    for stream_id in peer.left:
        for _ in range(20):
            peer.send(stream_id, 16 * KIB)
            world.turn(peer)
    peer.check()
    assert not peer.link.connection._credit.watched
    assert peer.open().window.max_window_size == 256 * KIB


def test_unread_bytes_count_until_they_are_dropped_even_when_the_connection_is_gone() -> None:
    world = World()
    first = world.connect(streams=20)
    world.fill()
    held = world.held
    assert held > MIB
    first.link.connection.lost(None, first.link.now)
    assert world.held == held
    world.check()
    second = world.connect(streams=1)
    world.check()
    assert second.streams[1].window.max_window_size <= 256 * KIB
    for stream in first.streams.values():
        first.link.connection.cancel(stream, first.link.now)
    assert world.held == 0
    world.memory.settle()
    assert world.memory.leased == second.link.connection._credit.lease


def test_a_connection_that_is_closed_and_read_is_forgotten() -> None:
    world = World()
    for _ in range(10):
        peer = world.connect(streams=1)
        peer.send(1, 100 * KIB, read=False)
        peer.link.connection.lost(None, peer.link.now)
        drain(peer.streams[1])
    assert len(world.memory._tenants) <= 1


def test_more_bodies_than_fit_are_collected_one_after_another() -> None:
    world = World()
    peer = world.connect()
    bodies = [peer.open(limit=PLENTY, size=MIB) for _ in range(12)]
    for _ in range(600):
        for stream_id in list(peer.left):
            peer.send(stream_id)
            world.check()
        world.turn(peer)
    assert all(stream.ended and len(stream.body()) == MIB for stream in bodies)
    assert world.held == 0


def test_a_whole_body_whose_upload_goes_on_lets_the_next_be_collected() -> None:
    world = World()
    peer = world.connect()
    first = peer.open(limit=PLENTY, size=MIB, upload=True)
    bodies = [peer.open(limit=PLENTY, size=MIB) for _ in range(12)]
    for _ in range(600):
        for stream_id in list(peer.left):
            peer.send(stream_id)
            world.check()
        world.turn(peer)
    assert first.ended
    assert not first.done
    assert all(stream.ended for stream in bodies)


def test_bodies_that_were_collected_one_after_another_are_kept_by_nobody() -> None:
    world = World()
    peer = world.connect()
    bodies = [peer.open(limit=PLENTY, size=MIB) for _ in range(4)]
    kept = [weakref.ref(stream.window) for stream in bodies]
    for _ in range(200):
        for stream_id in list(peer.left):
            peer.send(stream_id)
        world.turn(peer)
    assert all(stream.ended for stream in bodies)
    bodies.clear()
    peer.streams.clear()
    gc.collect()
    assert [each() for each in kept] == [None] * 4


def test_a_connection_that_closes_when_its_memory_is_looked_after_leases_nothing_more() -> None:
    world = World()
    peer = world.connect()
    peer.open(size=MIB)
    connection, link = peer.link.connection, peer.link
    connection._credit.press()
    peer.take()
    peer.acknowledge()
    connection.drain(link.now)
    stream = peer.streams[1]
    stream.deadline = connection._deadlines.set(stream, link.now + RTT)
    # A loop that was blocked finds both due: the end of the last stream, a look at the budget.
    link.now += 1
    connection.handle_timer(link.now)
    assert connection.closed
    assert world.memory.leased == 0


def test_a_body_that_does_not_fit_ends_by_its_read_timeout() -> None:
    world = World()
    peer = world.connect()
    body = peer.open(limit=PLENTY, size=PLENTY, read_timeout=5.0)
    for _ in range(300):
        peer.send(1)
        world.turn(peer)
        world.check()
    assert body.done
    assert type(body.error).__name__ == "ReadTimeout"
    assert world.held == 0


def test_idle_connections_hold_nothing() -> None:
    world = World()
    for _ in range(40):
        peer = world.connect(streams=1)
        peer.link.feed(ff.data(1, b"", end_stream=True))
        peer.left.clear()
    world.memory.settle()
    assert world.memory.leased == 0
    for peer in world.peers[::7]:
        stream = peer.open(size=100 * KIB)
        for _ in range(10):
            peer.send(stream.stream_id)
            world.turn(peer)
            world.check()
        assert stream.ended


def test_a_connection_for_which_nothing_is_left_begins_without_windows() -> None:
    world = World(CONFIG.replace(memory_budget=MIB))
    while True:
        peer = world.connect(streams=4)
        if peer.initial == 0:
            break
        world.fill(3)
    assert peer.room[0] == 65_535
    stream = peer.streams[7]
    assert world.read(peer, stream, rounds=40) > 0


STEPS = ["send", "send", "send", "read", "ack", "take", "wait", "open", "collect", "cancel"]


def play(step: str, peer: Peer, data: st.DataObject) -> None:
    """Let one thing happen on a connection, if it can."""
    streams = [peer.streams[stream_id] for stream_id in sorted(peer.left)]
    if step in {"open", "collect"}:
        if len(streams) < 20:
            limit, size = (None, PLENTY) if step == "open" else (PLENTY, 300 * KIB)
            peer.open(limit=limit, size=size)
    elif step == "take":
        peer.take()
    elif step == "ack":
        peer.acknowledge()
    elif step == "wait":
        peer.link.wait(RTT)
    elif streams:
        stream = data.draw(st.sampled_from(streams))
        if step == "send":
            most = data.draw(st.sampled_from([1, 5_000, 100_000, PLENTY]))
            peer.send(stream.stream_id, most, read=data.draw(st.booleans()))
        elif step == "read":
            drain(stream)
        else:
            peer.link.connection.cancel(stream, peer.link.now)
            peer.left.pop(stream.stream_id)


@settings(max_examples=100)
@given(
    data=st.data(),
    size=st.integers(1, 6),
    stream_window=st.sampled_from([64 * KIB, 256 * KIB, 4 * MIB]),
    connection_window=st.sampled_from([64 * KIB, MIB, 16 * MIB]),
    adaptive=st.booleans(),
    streams=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_whatever_happens_the_bound_holds_and_readers_progress(
    data: st.DataObject,
    size: int,
    stream_window: int,
    connection_window: int,
    adaptive: bool,
    streams: list[int],
) -> None:
    world = World(
        CONFIG.replace(
            memory_budget=size * MIB,
            initial_stream_window=stream_window,
            initial_connection_window=connection_window,
            adaptive_window=adaptive,
        )
    )
    for number in streams:
        world.connect(number)
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=60)):
        play(step, data.draw(st.sampled_from(world.peers)), data)
        world.check()
    for peer in world.peers:
        world.turn(peer)
        world.turn(peer)
        peer.check()
        for stream_id in sorted(peer.left):
            stream = peer.streams[stream_id]
            if stream.limit is None:
                drain(stream)
                assert world.read(peer, stream, rounds=4) > 0
        peer.check()


def pressed() -> tuple[World, Peer]:
    """A connection under pressure, whose peer has acknowledged that."""
    world = World()
    peer = world.connect(streams=40)
    world.fill()
    assert peer.initial == 0
    return world, peer


def test_data_in_a_window_that_was_taken_back_ends_its_stream() -> None:
    world, peer = pressed()
    stream_id, stream = next(
        (number, stream) for number, stream in peer.streams.items() if peer.room[number] <= 0
    )
    peer.link.feed(ff.data(stream_id, bytes(1)))
    assert resets(peer.link.sent()) == [(stream_id, ff.FLOW_CONTROL_ERROR)]
    assert not peer.link.connection.closed
    assert stream.done
    world.check()


def test_a_peer_that_never_takes_it_back_gets_no_more_than_the_window_of_the_connection() -> None:
    world = World()
    peer = world.connect(streams=40)
    peer.slow = True
    for _ in range(20):
        for stream_id in list(peer.left):
            peer.send(stream_id, read=False)
        peer.take()
        peer.link.wait(RTT)
        world.check()
    assert peer.settings == [0]
    assert peer.room[0] == 0
    other = world.connect(streams=1)
    assert world.read(other, other.streams[1]) > 0


def test_empty_data_needs_no_window() -> None:
    world, peer = pressed()
    stream_id = next(number for number in peer.streams if peer.room[number] < 0)
    peer.link.feed(ff.data(stream_id, b"", end_stream=True))
    assert peer.streams[stream_id].ended
    assert resets(peer.link.sent()) == []
    world.check()
