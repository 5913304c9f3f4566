from __future__ import annotations

import hpack
import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_h2.http2.frames import PeerError
from dynamo_h2.http2.headers import SENSITIVE, VOLATILE, Field
from dynamo_h2.http2.hpack_cache import (
    BlockDecoder,
    HeadCache,
    KnownHead,
    RequestEncoder,
    StatelessEncoder,
    known_head,
)

# Encoding


@pytest.mark.parametrize("name", sorted(VOLATILE))
def test_what_differs_in_every_request_is_a_literal_without_indexing(name: bytes) -> None:
    encoder = RequestEncoder(4096)
    block = encoder.encode([(name, b"1")])
    assert block[0] & 0xF0 == 0x00
    assert not encoder.header_table.dynamic_entries
    assert list(hpack.Decoder().decode(block, raw=True)) == [(name, b"1")]


@pytest.mark.parametrize("name", sorted(SENSITIVE))
def test_a_secret_is_a_literal_that_nobody_may_index(name: bytes) -> None:
    encoder = RequestEncoder(4096)
    block = encoder.encode([(name, b"1")])
    assert block[0] & 0xF0 == 0x10
    assert not encoder.header_table.dynamic_entries
    (field,) = hpack.Decoder().decode(block, raw=True)
    assert field == (name, b"1")
    assert not field.indexable


def test_a_caller_can_make_any_field_a_secret() -> None:
    encoder = RequestEncoder(4096)
    block = encoder.encode([hpack.NeverIndexedHeaderTuple(b"x-key", b"1")])
    assert block[0] == 0x10
    assert not encoder.header_table.dynamic_entries


def test_names_come_from_the_static_table_where_it_has_them() -> None:
    encoder = RequestEncoder(4096)
    assert encoder.encode([(b"content-length", b"10")]) == b"\x0f\x0d\x0210"
    assert encoder.encode([(b"authorization", b"x")]) == b"\x1f\x08\x01x"


def test_what_repeats_is_indexed() -> None:
    encoder = RequestEncoder(4096)
    field = (b"x-model", b"large")
    assert len(encoder.encode([field])) > 10
    assert len(encoder.encode([field])) == 1


def test_huffman_codes_are_used_on_demand() -> None:
    for huffman in (False, True):
        encoder = RequestEncoder(4096, huffman=huffman)
        block = encoder.encode([(b"x-model", b"large"), (b"request-id", b"aaaa")])
        assert (b"large" not in block) is huffman
        assert (b"aaaa" not in block) is huffman
        assert list(hpack.Decoder().decode(block, raw=True)) == [
            (b"x-model", b"large"),
            (b"request-id", b"aaaa"),
        ]


def updates(encoder: RequestEncoder) -> list[int]:
    """The table sizes that are signalled before the next block."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 2**31
    block, sizes = encoder.encode([]), []
    while block:
        consumed = decoder._update_encoding_context(block)
        sizes.append(decoder.header_table_size)
        block = block[consumed:]
    return sizes


@pytest.mark.parametrize(
    ("announced", "signalled"),
    [
        ([4096], []),
        ([0], [0]),
        ([0, 0], [0]),
        ([1024, 4096], [1024, 4096]),
        ([0, 4096, 1024], [0, 1024]),
        ([2048, 1024, 512, 1024, 2048], [512, 2048]),
        ([2**32 - 1], [8192]),
        ([8192, 4096], [4096]),
        ([100, 50], [50]),
    ],
)
def test_the_smallest_and_the_final_table_size_are_signalled(
    announced: list[int], signalled: list[int]
) -> None:
    encoder = RequestEncoder(8192)
    for size in announced:
        encoder.header_table_size = size
    assert updates(encoder) == signalled
    assert updates(encoder) == []


def test_a_table_of_ours_that_is_smaller_than_the_default_is_signalled() -> None:
    encoder = RequestEncoder(100)
    encoder.header_table_size = 4096
    assert encoder.header_table_size == 100
    assert updates(encoder) == [100]


# Decoding


def decoder(limit: int = 65_536) -> BlockDecoder:
    return BlockDecoder(limit)


def code_of(block: bytes, limit: int = 65_536) -> ErrorCodes:
    with pytest.raises(PeerError) as caught:
        decoder(limit).decode_block(block)
    return caught.value.error_code


def test_an_empty_block_has_no_fields() -> None:
    assert decoder().decode_block(b"") == []


def test_a_list_too_long_leaves_the_table_right() -> None:
    ours = decoder(200)
    encoder = hpack.Encoder()
    long = [(b"x-a", b"1"), (b"x-b", b"v" * 100), (b"x-c", b"v" * 100), (b"x-d", b"4")]
    assert ours.decode_block(encoder.encode(long)) is None
    assert ours.decode_block(encoder.encode(long[:2])) == long[:2]
    assert ours.header_table.dynamic_entries == encoder.header_table.dynamic_entries


def test_a_list_many_times_too_long_is_given_up() -> None:
    entry = hpack.Encoder().encode([(b"x", b"v" * 3000)], huffman=False)
    within = entry + b"\xbe" * 20
    assert decoder(16_384).decode_block(within) is None
    assert code_of(entry + b"\xbe" * 22, 16_384) == ErrorCodes.ENHANCE_YOUR_CALM
    assert code_of(entry + b"\xbe" * 22, 1) == ErrorCodes.ENHANCE_YOUR_CALM
    assert decoder().decode_block(entry + b"\xbe" * 20) is not None


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # an index past the table
        b"\x7f\x80",  # an integer that is cut off
        b"\xff\x80\x80\x80\x80\x80\x01",  # an integer that is too long
        b"\x00",  # no name
        b"\x00\x01",  # a name that is cut off
        b"\x00\x01a",  # no value
        b"\x00\x01a\x02b",  # a value that is cut off
        b"\x0f\x80\x01\x00",  # the name of an index past the table
        b"\x00\x81\xff\x00",  # seven bits of Huffman padding and more
        b"\x88\x20",  # a table size update after a field
        b"\x3f\xe2\x1f",  # a larger table than allowed
        b"\x20\x20\x20",  # three table size updates
        b"\x3f",  # an update that is cut off
    ],
)
def test_a_broken_block_is_a_compression_error(block: bytes) -> None:
    assert code_of(block) == ErrorCodes.COMPRESSION_ERROR


def test_the_peer_must_shrink_its_table_to_what_we_announced() -> None:
    ours = decoder()
    ours.max_allowed_table_size = 100
    with pytest.raises(PeerError):
        ours.decode_block(b"\x88")
    assert ours.decode_block(b"\x3f\x45\x88") == [(b":status", b"200")]


names = st.sampled_from([b":status", b"date", b"x-a", b"x-b", b"cookie", b""])
values = st.one_of(st.sampled_from([b"200", b"", b"a"]), st.binary(max_size=200))
lists: st.SearchStrategy[list[Field]] = st.lists(st.tuples(names, values), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(lists, st.booleans(), st.sampled_from([None, 0, 60, 4096])), max_size=6))
def test_every_block_of_hpack_is_decoded_as_hpack_does(
    blocks: list[tuple[list[Field], bool, int | None]],
) -> None:
    encoder, stock, ours = hpack.Encoder(), hpack.Decoder(), decoder()
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        assert ours.decode_block(block) == list(stock.decode(block, raw=True)) == fields
        assert ours.header_table.dynamic_entries == stock.header_table.dynamic_entries
        assert ours.header_table.maxsize == stock.header_table.maxsize


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused_as_hpack_does(block: bytes) -> None:
    expected: list[Field] | None
    got: list[Field] | None
    try:
        expected = [(name, value) for name, value in hpack.Decoder().decode(block, raw=True)]
    except hpack.HPACKError:
        expected = None
    try:
        got = decoder().decode_block(block)
    except PeerError as error:
        # The one thing that we refuse and hpack does not.
        got = expected if "more than two table size updates" in str(error) else None
    assert got == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(lists, max_size=6), st.booleans())
def test_hpack_decodes_what_we_encode(blocks: list[list[Field]], huffman: bool) -> None:
    encoder, stock = RequestEncoder(4096, huffman=huffman), hpack.Decoder()
    for fields in blocks:
        assert list(stock.decode(encoder.encode(fields), raw=True)) == fields
        assert encoder.header_table.dynamic_entries == stock.header_table.dynamic_entries


# Encoding without a table

names = st.sampled_from(
    [
        *(b":method", b":path", b":authority", b"accept-encoding", b"content-length", b"x-model"),
        *(b"authorization", b"cookie", b"set-cookie", b"x-" + b"n" * 130, b"traceparent"),
    ]
)
values = st.one_of(
    st.sampled_from([b"", b"GET", b"POST", b"/", b"gzip, deflate", b"v" * 126, b"v" * 127]),
    st.binary(max_size=300),
)


@settings(max_examples=300)
@given(
    blocks=st.lists(st.lists(st.tuples(names, values), max_size=6), min_size=1, max_size=3),
    huffman=st.booleans(),
    table=st.lists(st.tuples(names, values), max_size=4),
)
def test_what_is_encoded_without_a_table_means_the_same_with_any(
    blocks: list[list[Field]], huffman: bool, table: list[Field]
) -> None:
    encoder = StatelessEncoder(huffman=huffman)
    for fields in blocks:
        encoded = encoder.encode(fields)
        assert encoder.encode(fields) == encoded
        for entries in ([], table):
            decoder = hpack.Decoder()
            for entry in entries:
                decoder.header_table.add(*entry)
            before = list(decoder.header_table.dynamic_entries)
            decoded = list(decoder.decode(encoded, raw=True))
            assert [tuple(field) for field in decoded] == fields
            assert [field.indexable for field in decoded] == [
                name not in SENSITIVE for name, _ in fields
            ]
            assert list(decoder.header_table.dynamic_entries) == before


def test_what_the_static_table_has_is_one_byte_but_for_secrets() -> None:
    encoder = StatelessEncoder()
    assert encoder.encode([(b":method", b"POST"), (b"accept-encoding", b"gzip, deflate")]) == (
        b"\x83\x90"
    )
    assert encoder.encode([(b"cookie", b"")]) == b"\x1f\x11\x00"


def test_fields_that_are_kept_are_bounded() -> None:
    encoder = StatelessEncoder()
    fields = [(b"x-model", b"%d" % number) for number in range(1000)]
    block = encoder.encode([*fields, (b"x-long", bytes(129))])
    assert 0 < len(encoder._kept) <= 128
    assert max(map(len, encoder._kept.values())) < 20
    assert [tuple(field) for field in hpack.Decoder().decode(block, raw=True)][:-1] == fields


@pytest.mark.parametrize("huffman", [False, True])
def test_nothing_is_kept_of_secrets_and_of_what_differs_in_every_request(huffman: bool) -> None:
    encoder = StatelessEncoder(huffman=huffman)
    for name in VOLATILE | SENSITIVE:
        encoder.encode([(name, b""), (name, b"12"), (name, bytes(200))])
    assert encoder._kept == {}


@pytest.mark.parametrize("huffman", [False, True])
def test_what_the_caller_repeats_is_encoded_once(
    huffman: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = StatelessEncoder(huffman=huffman)
    fields = [(b"x-model", b"large"), (b"accept", b"text/event-stream"), (b"x-empty", b"")]
    block = encoder.encode(fields)
    monkeypatch.setattr(StatelessEncoder, "_encode", None)
    assert encoder.encode([(bytes(name), bytes(value)) for name, value in fields]) == block


# Heads that were seen before


def learnt(block: bytes, cache: HeadCache, ours: BlockDecoder) -> KnownHead | None:
    """What ``cache`` knows of a block after it was decoded."""
    cache.get(block, ours.generation)
    head = known_head(ours.decode_block(block))
    if head is not None:
        cache.put(block, head, ours.generation)
    return cache.get(block, ours.generation)


def test_a_head_is_known_once_it_was_decoded() -> None:
    block = hpack.Encoder().encode(
        [hpack.HeaderTuple(b":status", b"200"), hpack.NeverIndexedHeaderTuple(b"server", b"x")]
    )
    head = learnt(block, HeadCache(), decoder())
    assert head == KnownHead(200, [(b"server", b"x")], None)
    with_length = b"\x88\x0f\x0d\x015"
    head = learnt(with_length, HeadCache(), decoder())
    assert head == KnownHead(200, [(b"content-length", b"5")], 5)


@pytest.mark.parametrize(
    "block",
    [
        b"\x08\x03103",  # interim
        b"\x08\x03abc",  # no status
        b"\x90",  # trailers
        b"\x88\x0f\x0d\x01x",  # a content-length that is none
        b"\x88\x40\x01x\x01y",  # it changes the table
        b"\x20\x88",  # so does this
        b"\x88" + b"\x00\x01x\x7f\xff\x07" + b"v" * 1150,  # longer than a plain head is
        b"",
    ],
)
def test_what_will_not_be_the_same_again_is_not_kept(block: bytes) -> None:
    assert learnt(block, HeadCache(), decoder()) is None


def test_a_list_too_long_is_not_kept_as_the_one_before_it() -> None:
    ours, cache = decoder(40), HeadCache()
    assert learnt(b"\x88", cache, ours) is None
    ours, cache = decoder(50), HeadCache()
    assert learnt(b"\x88", cache, ours) is not None
    assert learnt(b"\x88\x90", cache, ours) is None


def test_every_head_is_forgotten_when_the_table_changes() -> None:
    ours, cache = decoder(), HeadCache()
    assert learnt(b"\x88", cache, ours) is not None
    ours.decode_block(b"\x88\x40\x01x\x01y")
    assert cache.get(b"\x88", ours.generation) is None
    assert learnt(b"\x88\xbe", cache, ours) == KnownHead(200, [(b"x", b"y")], None)


def test_heads_that_are_kept_are_bounded() -> None:
    ours, cache = decoder(), HeadCache()
    for number in range(300):
        assert learnt(b"\x88\x00\x01x\x03%03d" % number, cache, ours) is not None
        assert len(cache.heads) <= 256
