"""What h2 leaves to its user, our side: settings, GOAWAY, sending; bare h2, then the engine."""

from __future__ import annotations

import struct

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import ConnectionTerminated
from h2.exceptions import (
    FrameTooLargeError,
    NoAvailableStreamIDError,
    ProtocolError,
    TooManyStreamsError,
)
from h2.settings import SettingCodes

from dynamo_h2.config import Http2Config
from dynamo_h2.errors import InvalidRequest
from dynamo_h2.http2.headers import Field, normalize_headers
from tests.http2.frame_factory import (
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GET,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    NO_ERROR,
    OK,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    Rig,
    bare,
    bare_with,
    block,
    data,
    error_of,
    frame,
    goaway,
    headers,
    ping,
    settings,
    settings_ack,
)

pytestmark = pytest.mark.usefixtures("each_engine")

MIB = 1 << 20


# Our settings


def test_a_frame_as_long_as_we_announced_is_taken() -> None:
    response = headers(1, OK) + data(1, bytes(MIB))
    stock = bare_with(MAX_FRAME_SIZE=MIB, INITIAL_WINDOW_SIZE=MIB)
    stock.increment_flow_control_window(MIB)
    assert error_of(stock, response) == FRAME_SIZE_ERROR

    calls = Rig(streams=1).feed(response)
    assert calls[-1] == ("data", 1, bytes(MIB), MIB, False)


def test_a_header_list_as_long_as_we_announced_is_taken() -> None:
    response = headers(1, OK, *[(b"x", b"v" * 1000)] * 80)
    stock = bare_with(MAX_HEADER_LIST_SIZE=MIB)
    stock.max_inbound_frame_size = MIB
    assert error_of(stock, response) == ENHANCE_YOUR_CALM

    rig = Rig(Http2Config(max_header_list_size=MIB), streams=1)
    assert rig.feed(response) == [("head", 1, 200, [(b"x", b"v" * 1000)] * 80, False)]


def test_a_table_as_large_as_we_announced_is_taken() -> None:
    grown = frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x3f" + block(OK))  # to 8192
    assert error_of(bare_with(HEADER_TABLE_SIZE=65_536), grown) == PROTOCOL_ERROR

    rig = Rig(Http2Config(header_table_size=65_536), streams=1)
    assert rig.feed(grown) == [("head", 1, 200, [], False)]
    assert rig.engine.decoder.header_table_size == 8192


def test_one_settings_frame_is_in_flight_at_a_time() -> None:
    stock = bare()
    stock.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
    stock.update_settings({SettingCodes.MAX_FRAME_SIZE: 32_768})
    stock.receive_data(settings_ack())
    assert stock.local_settings.initial_window_size == 1
    assert stock.local_settings.max_frame_size == 32_768  # though that frame is still under way

    rig = Rig()
    assert rig.engine.change_settings({INITIAL_WINDOW: 1})
    assert not rig.engine.change_settings({MAX_FRAME: 32_768})
    assert [sent.payload for sent in rig.sent()] == [struct.pack(">HI", INITIAL_WINDOW, 1)]
    assert rig.feed(settings_ack()) == [("settings_ack",)]
    assert rig.engine.local_settings.initial_window_size == 1
    assert rig.engine.change_settings({MAX_FRAME: 32_768})


def test_settings_cannot_change_before_the_first_ones_are_acknowledged() -> None:
    stock = H2Connection(H2Configuration(client_side=True))
    stock.initiate_connection()
    stock.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
    stock.receive_data(settings() + settings_ack())
    assert stock.local_settings.initial_window_size == 1

    rig = Rig(pairs=None)
    assert not rig.engine.change_settings({INITIAL_WINDOW: 1})


def test_an_ack_that_nobody_asked_for_is_an_error() -> None:
    assert error_of(bare(), settings_ack()) is None

    assert Rig().connection_error(settings_ack()) == PROTOCOL_ERROR


# GOAWAY


def test_goaway_lets_streams_up_to_its_id_finish() -> None:
    stock = bare(streams=2)
    stock.receive_data(goaway(1))
    assert stock.state_machine.state is ConnectionState.CLOSED
    assert error_of(stock, headers(1, OK)) == PROTOCOL_ERROR

    rig = Rig(streams=2)
    assert rig.feed(goaway(1, REFUSED_STREAM, b"bye")) == [("goaway", 1, REFUSED_STREAM, b"bye")]
    assert rig.feed(headers(1, OK), data(1, b"x", end_stream=True)) == [
        ("head", 1, 200, [], False),
        ("data", 1, b"x", 1, True),
    ]


def test_goaway_keeps_what_is_queued() -> None:
    stock = bare()
    stock.ping(b"12345678")
    stock.receive_data(goaway(0))
    assert stock.data_to_send() == b""

    rig = Rig()
    rig.engine.ping(b"12345678")
    rig.feed(goaway(0))
    assert [sent.kind for sent in rig.sent()] == [PING]


def test_uploads_go_on_after_goaway() -> None:
    stock = bare()
    stock.send_headers(1, GET)
    stock.receive_data(goaway(1))
    with pytest.raises(ProtocolError):
        stock.send_data(1, b"x")

    rig = Rig()
    rig.open(end_stream=False)
    rig.feed(goaway(1))
    rig.engine.send_data(1, b"x")
    rig.engine.grant(1, 5)
    rig.engine.reset(1, NO_ERROR)
    assert [sent.kind for sent in rig.sent()] == [HEADERS, DATA, 8, RST_STREAM]


def test_the_lowest_id_of_all_goaways_counts() -> None:
    stock = bare(streams=3)
    event = stock.receive_data(goaway(1) + goaway(5))[-1]
    assert isinstance(event, ConnectionTerminated)
    assert event.last_stream_id == 5

    rig = Rig(streams=3)
    assert [call[1] for call in rig.feed(goaway(2**31 - 1), goaway(1), goaway(5))] == [
        2**31 - 1,
        1,
        1,
    ]


def test_no_stream_opens_after_goaway() -> None:
    rig = Rig()
    rig.feed(goaway(2**31 - 1))
    with pytest.raises(ProtocolError, match="GOAWAY"):
        rig.open()


def test_our_own_goaway_lets_streams_finish() -> None:
    stock = bare(streams=1)
    stock.close_connection()
    assert error_of(stock, headers(1, OK)) == PROTOCOL_ERROR

    rig = Rig(streams=1)
    rig.engine.goaway(NO_ERROR, b"done")
    assert rig.sent()[0].payload == bytes(8) + b"done"
    assert rig.feed(headers(1, OK, end_stream=True)) == [("head", 1, 200, [], True)]


# Sending


def test_data_that_does_not_fit_a_frame_is_refused_and_not_split() -> None:
    stock = bare()
    stock.send_headers(1, GET)
    with pytest.raises(FrameTooLargeError):
        stock.send_data(1, bytes(20_000))

    rig = Rig()
    rig.open(end_stream=False)
    rig.sent()
    with pytest.raises(FrameTooLargeError):
        rig.engine.send_data(1, bytes(20_000))
    assert rig.sent() == []
    assert rig.engine.send_window(1) == 65_535
    rig.engine.send_data(1, bytes(16_384))
    assert rig.engine.send_window(1) == 65_535 - 16_384


def test_a_bad_field_is_found_before_the_encoder_is_touched() -> None:
    bad: list[Field] = [(b"x-trace", b"1"), (b"te", b"gzip")]
    stock = bare()
    with pytest.raises(ProtocolError):
        stock.send_headers(1, GET + bad)
    assert stock.encoder.header_table.dynamic_entries  # the peer's table has nothing of this
    assert stock.data_to_send() == b""

    with pytest.raises(InvalidRequest):
        normalize_headers(bad)


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\0b", b" a", b"a "])
def test_no_field_can_smuggle_a_control_character_out(value: bytes) -> None:
    stock = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    stock.initiate_connection()
    stock.send_headers(1, [*GET, (b"x", value)])  # as it must be called to be fast

    with pytest.raises(InvalidRequest):
        normalize_headers([(b"x", value)])


@pytest.mark.parametrize("obstacle", ["limit", "goaway", "ids", "failed"])
def test_a_stream_that_cannot_open_leaves_the_encoder_alone(obstacle: str) -> None:
    rig = Rig(streams=1, pairs=((3, 1),) if obstacle == "limit" else ())
    entries = list(rig.engine.encoder.header_table.dynamic_entries)
    expected: type[ProtocolError] = ProtocolError
    if obstacle == "limit":
        expected = TooManyStreamsError
    elif obstacle == "goaway":
        rig.feed(goaway(1))
    elif obstacle == "ids":
        rig.engine.highest_outbound_stream_id = 2**31 - 1
        expected = NoAvailableStreamIDError
    else:
        rig.connection_error(goaway(0)[:-1] + b"\0", ping(b"short"))
    with pytest.raises(expected):
        rig.open("POST", (b"x-new", b"1"))
    assert list(rig.engine.encoder.header_table.dynamic_entries) == entries
    assert rig.sent() == []
    assert rig.engine.open_streams == 1


def test_secrets_are_never_indexed() -> None:
    raw = H2Configuration(client_side=True, normalize_outbound_headers=False)
    stock = H2Connection(raw)
    stock.initiate_connection()
    stock.data_to_send()
    secret = (b"authorization", b"Bearer x")
    stock.send_headers(1, [*GET, secret])
    assert secret in stock.encoder.header_table.dynamic_entries

    rig = Rig()
    rig.open("GET", secret, (b"cookie", b"a=b"))
    fields = list(hpack.Decoder().decode(rig.sent()[0].payload, raw=True))
    assert [field for field in fields if not field.indexable] == [secret, (b"cookie", b"a=b")]
    assert not {secret, (b"cookie", b"a=b")} & set(rig.engine.encoder.header_table.dynamic_entries)


def test_the_request_method_survives_trailers() -> None:
    stock = bare()
    stock.send_headers(1, [(b":method", b"HEAD"), *GET[1:]])
    stock.send_headers(1, [(b"x", b"y")], end_stream=True)
    head = headers(1, OK, (b"content-length", b"100"))
    assert error_of(stock, head + data(1, end_stream=True)) == PROTOCOL_ERROR

    rig = Rig()
    rig.open("HEAD", end_stream=False)
    rig.engine.send_trailers(1, [(b"x", b"y")])
    assert rig.feed(head, data(1, end_stream=True))[-1] == ("data", 1, b"", 0, True)
