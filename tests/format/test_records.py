"""Prefix, frames and footer: what each byte means, and what is refused under which rule."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.errors import ChecksumError, FormatError
from mroi.format.records import (
    FOOTER_SIZE,
    FRAME_HEADER_SIZE,
    PREFIX_SIZE,
    ChunkState,
    Footer,
    FrameHeader,
    Incompat,
    Prefix,
    align,
    build_footer,
    build_frame,
    build_prefix,
    check_payload,
    parse_footer,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from tests.format.laws import cuts, flips, patched, refusal, rules_broken, sealed

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
SYNC = 0x7856_34F2

# -- prefix ------------------------------------------------------------------------------------

PREFIX = (
    b"\x89MROI\r\n\n"  # magic
    b"\x01"  # version_major = 1
    b"\x00"  # version_minor = 0
    b"\x40\x00"  # prefix_size = 64
    b"\x80\x02\x00\x00"  # head_size = 640
    b"\x02\x00\x00\x00\x00\x00\x00\x00"  # incompat_flags = BACKGROUND_PLANE
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # compat_flags
    b"\x00\x00\x00\x00"  # autoclear_flags
    b"\xf2\x34\x56\x78"  # sync
    b"\x50\x02\x00\x00\x00\x00\x00\x00"  # index_offset = 592
    b"\xe8\x03\x00\x00\x00\x00\x00\x00"  # file_size = 1000
    b"\x01"  # checksum_id = 1
    b"\x00\x00\x00"  # reserved
    b"\xc6\xc3\xbb\x24"  # prefix_crc
)
PREFIX_VALUE = Prefix(640, SYNC, Incompat.BACKGROUND_PLANE, 592, 1000)


def test_bytes_of_a_prefix() -> None:
    assert len(PREFIX) == PREFIX_SIZE == 64
    assert parse_prefix(PREFIX) == PREFIX_VALUE
    assert build_prefix(PREFIX_VALUE) == PREFIX


@given(
    head=st.integers(9, (1 << 29) - 1),
    sync=U32,
    incompat=st.integers(0, 3),
    file_size=U64,
    data=st.data(),
)
def test_a_prefix_is_read_back(
    head: int, sync: int, incompat: int, file_size: int, data: st.DataObject
) -> None:
    index = data.draw(st.just(0) | st.integers(64, 8 * head - 1)) if file_size else 0
    prefix = Prefix(8 * head, sync | 0x80, Incompat(incompat), index, file_size)
    assert parse_prefix(build_prefix(prefix)) == prefix


def read_prefix(data: bytes) -> Prefix:
    """Parse as readers do, who take as many bytes as the first twelve say."""
    return parse_prefix(data.ljust(prefix_size_of(data[:12]), b"\0"))


def test_a_changed_prefix_is_noticed() -> None:
    found = rules_broken(flips(PREFIX), read_prefix, build_prefix, PREFIX)
    assert found == {"PFX-1", "PFX-2", "PFX-3", "PFX-4"}


def test_a_changed_prefix_of_right_crc_means_what_it_says_or_is_refused() -> None:
    changed = map(sealed, flips(PREFIX))
    found = rules_broken(changed, read_prefix, build_prefix, PREFIX)
    # all but PFX-11, which takes more than one bit; PFX-4 is of a prefix that is longer now
    assert found == {f"PFX-{number}" for number in range(1, 11)}


PREFIX_FAULTS = [
    (0, b"\x8a", "PFX-1", 0),
    (0, b"\x1f\x8b", "PFX-1", 0),
    (8, b"\x02", "PFX-2", 8),
    (8, b"\x00", "PFX-2", 8),
    (10, b"\x38\x00", "PFX-3", 10),  # 56
    (10, b"\x44\x00", "PFX-3", 10),  # 68
    (10, b"\x08\x10", "PFX-3", 10),  # 4104
    (56, b"\x00", "PFX-5", 56),
    (56, b"\x02", "PFX-5", 56),
    (57, b"\x00\x00\x01", "PFX-6", 57),
    (16, b"\x04", "PFX-7", 16),
    (16, b"\x02\x00\x00\x00\x00\x00\x00\x80", "PFX-7", 16),
    (12, b"\x84\x02", "PFX-8", 12),  # 644
    (12, b"\x40\x00", "PFX-8", 12),  # 64: no head
    (36, b"\x7f", "PFX-9", 36),
    (40, b"\x38\x00", "PFX-10", 40),  # 56: in the prefix
    (40, b"\x80\x02", "PFX-10", 40),  # 640: after the head
    (48, bytes(8), "PFX-11", 48),
]


@pytest.mark.parametrize(("at", "new", "rule", "offset"), PREFIX_FAULTS)
def test_a_prefix_that_breaks_a_rule(at: int, new: bytes, rule: str, offset: int) -> None:
    found = refusal(parse_prefix, sealed(patched(PREFIX, at, new)))
    assert (found.rule, found.offset) == (rule, offset)


def test_later_minor_versions_are_read() -> None:
    later = patched(PREFIX, 9, b"\x07")  # version_minor
    later = patched(later, 24, b"\xff" * 8)  # compat_flags
    later = patched(later, 32, b"\xff" * 4)  # autoclear_flags
    assert parse_prefix(sealed(later)) == replace(PREFIX_VALUE, version_minor=7)


@pytest.mark.parametrize("more", [8, 64, 4032])
def test_a_longer_prefix_is_read_and_its_end_ignored(more: int) -> None:
    size = 64 + more
    body = patched(PREFIX, 10, size.to_bytes(2, "little"))[:60]
    long = sealed(patched(body, 12, (size + 8).to_bytes(4, "little")) + b"\xff" * more + bytes(4))
    long = sealed(patched(long, 40, bytes(8)))  # no index in the head
    assert prefix_size_of(long[:12]) == len(long) == size
    assert parse_prefix(long).prefix_size == size
    assert parse_prefix(long + b"the head").head_size == size + 8
    assert refusal(parse_prefix, long[:-1] + b"?").rule == "PFX-4"


# -- frame headers -----------------------------------------------------------------------------

HEADER = (
    b"\xf2\x34\x56\x78"  # sync
    b"CHNK"  # type
    b"\x03\x00\x00\x00\x00\x00\x00\x00"  # length = 3
    b"\x05\x00\x00\x00"  # ordinal = 5
    b"\x01"  # codec_slot = 1
    b"\x02"  # flags = STORED
    b"\x00\x00"  # reserved
    b"\xc2\x41\x24\x35"  # payload_crc
    b"\xf5\x7f\xd7\x02"  # header_crc
)
FRAME = (
    HEADER + b"abc"  # payload
    b"\x00\x00\x00\x00\x00"  # padding
)


def parse_header(data: bytes) -> FrameHeader:
    return parse_frame_header(data, sync=SYNC, offset=640)


def build_header(header: FrameHeader) -> bytes:
    """Return the bytes of a header, whatever payload it is of."""
    fields = (
        SYNC.to_bytes(4, "little"),
        header.type,
        header.length.to_bytes(8, "little"),
        header.ordinal.to_bytes(4, "little"),
        bytes([header.codec_slot, header.flags, 0, 0]),
        header.payload_crc.to_bytes(4, "little"),
    )
    return sealed(b"".join(fields) + bytes(4))


def test_bytes_of_a_frame() -> None:
    header = parse_header(HEADER)
    assert header == FrameHeader(b"CHNK", 3, zlib.crc32(b"abc"), 5, 1, ChunkState.STORED)
    assert (header.offset, header.size, header.stop) == (640, 40, 680)
    assert build_frame(b"CHNK", b"abc", sync=SYNC, ordinal=5, slot=1, flags=2) == FRAME
    check_payload(header, FRAME[32:35], FRAME[35:])


TYPES = st.sampled_from([b"CHNK", b"GEOM", b"INDX", b"jSOn", b"nIFt", b"exAm", b"dIGE"])


@given(TYPES, st.binary(max_size=40), U32, st.integers(0, 255), st.sampled_from(ChunkState))
def test_a_frame_is_read_back(
    kind: bytes, payload: bytes, ordinal: int, slot: int, state: ChunkState
) -> None:
    is_chunk = kind == b"CHNK"
    slot, flags = (slot, int(state)) if is_chunk else (0, 0)
    frame = build_frame(kind, payload, sync=SYNC, ordinal=ordinal, slot=slot, flags=flags)
    header = parse_header(frame[:FRAME_HEADER_SIZE])
    expected = FrameHeader(kind, len(payload), zlib.crc32(payload), ordinal, slot, flags)
    assert header == expected
    assert header.size == len(frame) == align(32 + len(payload))
    stop = FRAME_HEADER_SIZE + len(payload)
    check_payload(header, frame[FRAME_HEADER_SIZE:stop], frame[stop:])


def test_a_changed_header_is_noticed() -> None:
    assert rules_broken(flips(HEADER), parse_header, build_header, HEADER) == {"FRM-1"}


def test_a_changed_header_of_right_crc_means_what_it_says_or_is_refused() -> None:
    changed = map(sealed, flips(HEADER))
    found = rules_broken(changed, parse_header, build_header, HEADER)
    assert found == {"FRM-2", "FRM-3", "FRM-4", "FRM-5"}


HEADER_FAULTS = [
    (0, b"\xf3", "FRM-2", 640),
    (4, b"CH K", "FRM-3", 644),
    (4, b"CHnK", "FRM-3", 644),
    (4, b"1HNK", "FRM-3", 644),
    (4, b"\xc3\x84NK", "FRM-3", 644),
    (4, b"GEOM", "FRM-4", 660),  # with a codec slot
    (22, b"\x01", "FRM-4", 660),
    (23, b"\x80", "FRM-4", 660),
    (21, b"\x03", "FRM-5", 661),
    (21, b"\x08", "FRM-5", 661),
]


@pytest.mark.parametrize(("at", "new", "rule", "offset"), HEADER_FAULTS)
def test_a_header_that_breaks_a_rule(at: int, new: bytes, rule: str, offset: int) -> None:
    found = refusal(parse_header, sealed(patched(HEADER, at, new)))
    assert (found.rule, found.offset) == (rule, offset)


@pytest.mark.parametrize(
    ("kind", "legal"),
    [
        (b"CHNK", {0, 1, 2, 4}),
        (b"GEOM", {0}),
        (b"INDX", {0}),
        (b"PRIV", {0}),
        (b"jSOn", {0, 1}),
        (b"nIFt", {0, 1}),
        (b"exAm", {0, 1}),
        (b"rOIB", {0}),
        (b"dIGE", {0}),
        (b"sLPo", {0}),
        (b"oVRW", {0}),
        (b"pADd", {0}),
    ],
)
def test_flags_of_each_type(kind: bytes, legal: set[int]) -> None:
    found, refused = set(), set()
    for flags in range(256):
        frame = build_frame(kind, b"", sync=SYNC, flags=flags)
        try:
            assert parse_header(frame).flags == flags
        except FormatError as exc:
            refused.add(exc.rule)
        else:
            found.add(flags)
    assert (found, refused) == (legal, {"FRM-5"})


def test_the_first_letter_says_whether_a_frame_is_critical() -> None:
    found = {kind: FrameHeader(kind, 0, 0).is_critical for kind in (b"GEOM", b"PRIV", b"jSOn")}
    assert found == {b"GEOM": True, b"PRIV": True, b"jSOn": False}


def test_a_frame_is_called_by_its_type_and_number() -> None:
    assert str(FrameHeader(b"CHNK", 0, 0, 0)) == "CHNK 0"
    assert str(FrameHeader(b"GEOM", 0, 0)) == "GEOM"
    assert str(FrameHeader(b"nIFt", 0, 0, 2)) == "nIFt 2"


def test_a_changed_payload_is_noticed() -> None:
    header = parse_header(HEADER)
    for payload in (*flips(b"abc"), *cuts(b"abc"), b"abcd"):
        with pytest.raises(ChecksumError) as caught:
            check_payload(header, payload, bytes(5))
        assert (caught.value.rule, caught.value.offset) == ("FRM-6", 672)


@pytest.mark.parametrize("at", range(5))
def test_padding_is_zero(at: int) -> None:
    with pytest.raises(FormatError) as caught:
        check_payload(parse_header(HEADER), b"abc", patched(bytes(5), at, b"\x01"))
    assert (caught.value.rule, caught.value.offset) == ("FRM-7", 675)


@given(st.integers(0, 1 << 62))
def test_sizes_are_rounded_up_to_eight(size: int) -> None:
    assert align(size) % 8 == 0
    assert 0 <= align(size) - size < 8


# -- footer ------------------------------------------------------------------------------------

FOOTER = (
    b"\x50\x02\x00\x00\x00\x00\x00\x00"  # index_offset = 592
    b"\xe8\x03\x00\x00\x00\x00\x00\x00"  # file_size = 1000
    b"\x01\x02\x03\x04\x05\x06\x07\x08"  # head_digest
    b"\n\n\rIORM\x89"  # magic
)
FOOTER_VALUE = Footer(592, 1000, bytes(range(1, 9)))


def parse_footer_at(data: bytes) -> Footer:
    return parse_footer(data, offset=968)


def test_bytes_of_a_footer() -> None:
    assert parse_footer_at(FOOTER) == FOOTER_VALUE
    assert build_footer(FOOTER_VALUE) == FOOTER
    assert len(build_frame(b"FOOT", FOOTER, sync=SYNC)) == FOOTER_SIZE == 64


@given(U64, U64, st.binary(min_size=8, max_size=8))
def test_a_footer_is_read_back(index_offset: int, file_size: int, digest: bytes) -> None:
    footer = Footer(index_offset, file_size, digest)
    assert parse_footer_at(build_footer(footer)) == footer


def test_a_changed_footer_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(FOOTER), parse_footer_at, build_footer, FOOTER)
    assert found == {"FOT-1"}


def test_a_footer_of_another_size_is_refused() -> None:
    for data in (*cuts(FOOTER), FOOTER + b"\0", FOOTER + FOOTER):
        found = refusal(parse_footer_at, data)
        assert (found.rule, found.offset) == ("FOT-1", 968)
