"""INDX: what each byte means, and what is refused under which rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.format.index import INDEX_HEADER_SIZE, Index, build_index, index_size, parse_index
from tests.format.laws import cuts, flips, patched, refusal, rules_broken

INDEX = (
    b"\x03\x00\x00\x00"  # count = 3
    b"\x08"  # entry_size = 8
    b"\x01"  # flags: decoded CRCs are there
    b"\x00\x00"  # reserved
    b"\x80\x02\x00\x00\x00\x00\x00\x00"  # first = 640
    b"\xf8\x02\x00\x00\x00\x00\x00\x00"  # end = 760
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # reserved2
    b"\x04\x00\x00\x00\x11\xf7\x4a\x38"  # length = 4, decoded_crc
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # length = 0: a missing chunk
    b"\x09\x00\x00\x00\x7f\xec\x95\x15"  # length = 9, decoded_crc
)
WIDE = (
    b"\x01\x00\x00\x00"  # count = 1
    b"\x10"  # entry_size = 16
    b"\x00"  # flags: no decoded CRCs
    b"\x00\x00"  # reserved
    b"\x80\x02\x00\x00\x00\x00\x00\x00"  # first = 640
    b"\xa8\x02\x00\x00\x01\x00\x00\x00"  # end = 2^32 + 680
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # reserved2
    b"\x05\x00\x00\x00\x01\x00\x00\x00"  # length = 2^32 + 5
    b"\x00\x00\x00\x00"  # decoded_crc
    b"\x00\x00\x00\x00"  # zero
)


def parse(data: bytes) -> Index:
    return parse_index(data, count=3, start=640, stop=1 << 20, offset=800)


def parse_wide(data: bytes) -> Index:
    return parse_index(data, count=1, start=640, stop=1 << 40, offset=800)


def build(index: Index) -> bytes:
    return build_index(index, entry_size=8)


def build_wide(index: Index) -> bytes:
    return build_index(index, entry_size=16)


def test_bytes_of_an_index() -> None:
    index = parse(INDEX)
    assert index.lengths.tolist() == [4, 0, 9]
    assert index.offsets.tolist() == [640, 680, 712, 760]
    assert (index.first, index.stop, index.stored_size) == (640, 760, 13)
    assert index.decoded_crcs is not None
    assert index.decoded_crcs.tolist() == [0x384AF711, 0, 0x1595EC7F]
    assert build(index) == INDEX
    assert len(INDEX) == index_size(3, 8) == INDEX_HEADER_SIZE + 24


def test_bytes_of_an_index_of_large_chunks() -> None:
    index = parse_wide(WIDE)
    assert index.lengths.tolist() == [2**32 + 5]
    assert index.offsets.tolist() == [640, 2**32 + 680]
    assert index.decoded_crcs is None
    assert build_wide(index) == WIDE


LENGTHS = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 40), min_size=1, max_size=20)


@given(LENGTHS, st.integers(1, 1 << 30), st.sampled_from([8, 16]), st.data())
def test_an_index_is_read_back(
    lengths: list[int], place: int, entry_size: int, data: st.DataObject
) -> None:
    crcs = None
    if data.draw(st.booleans()):
        number = st.integers(0, 2**32 - 1)
        crcs = np.array([data.draw(number) for _ in lengths], np.uint32)
    index = Index(8 * place, np.array(lengths, np.int64), crcs)
    payload = build_index(index, entry_size=entry_size)
    start = data.draw(st.integers(0, index.first))
    stop = data.draw(st.integers(index.stop, 1 << 62))
    found = parse_index(payload, count=len(lengths), start=start, stop=stop, offset=0)
    assert found.first == index.first
    assert found.lengths.tolist() == lengths
    assert (found.decoded_crcs is None) == (crcs is None)
    assert crcs is None or found.decoded_crcs.tolist() == crcs.tolist()
    at = index.first
    for length, offset in zip(lengths, found.offsets.tolist(), strict=False):
        assert at == offset
        at += -(-(32 + length) // 8) * 8
    assert at == found.stop


def test_a_changed_index_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(INDEX), parse, build, INDEX)
    assert found == {"IDX-1", "IDX-2", "IDX-4"}
    found = rules_broken(flips(WIDE), parse_wide, build_wide, WIDE)
    assert found == {"IDX-1", "IDX-2", "IDX-4"}


@given(st.data())
def test_any_changed_index_means_what_it_says_or_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(INDEX) - 1))
    new = data.draw(st.binary(min_size=1, max_size=min(8, len(INDEX) - at)))
    changed = patched(INDEX, at, new)
    assert rules_broken([changed], parse, build, INDEX) <= {"IDX-1", "IDX-2", "IDX-4"}


def test_entries_have_8_or_16_bytes() -> None:
    for size in (0, 4, 12, 24, 255):
        data = patched(INDEX, 4, bytes([size]))[:INDEX_HEADER_SIZE] + bytes(3 * size)
        found = refusal(parse, patched(data, 16, (640 + 3 * 32).to_bytes(8, "little")))
        assert found.rule == "IDX-1"


def test_an_index_of_another_size_is_refused() -> None:
    for data in (*cuts(INDEX), INDEX + b"\0", INDEX + INDEX[-8:]):
        found = refusal(parse, data)
        assert (found.rule, found.offset) == ("IDX-1", 800)


FAULTS = [
    (0, b"\x02", "IDX-1"),  # count
    (0, b"\x00", "IDX-1"),
    (4, b"\x00", "IDX-1"),  # entry_size
    (4, b"\x10", "IDX-1"),
    (4, b"\x0c", "IDX-1"),  # 12
    (5, b"\x02", "IDX-1"),  # flags
    (5, b"\x00", "IDX-4"),  # CRCs that are not there
    (6, b"\x01", "IDX-1"),
    (31, b"\x01", "IDX-1"),
    (8, b"\x78\x02", "IDX-2"),  # first, in the head
    (8, b"\x84\x02" + bytes(6) + b"\xfc\x02", "IDX-2"),  # first and end, no multiples of 8
    (8, b"\x88\x02", "IDX-2"),  # first, not where the lengths lead from
    (16, b"\xf0\x02", "IDX-2"),  # end
    (16, b"\x78\x02", "IDX-2"),  # end, before first
    (16, b"\xff\xff\xff\xff\xff\xff\xff\xff", "IDX-2"),
    (32, b"\x01\x01\x00\x00", "IDX-2"),  # a length
]


@pytest.mark.parametrize(("at", "new", "rule"), FAULTS)
def test_an_index_that_breaks_a_rule(at: int, new: bytes, rule: str) -> None:
    found = refusal(parse, patched(INDEX, at, new))
    assert (found.rule, found.offset) == (rule, 800)


def test_reserved_bytes_of_an_entry_are_zero() -> None:
    assert refusal(parse_wide, patched(WIDE, 44, b"\x01")).rule == "IDX-1"
    assert refusal(parse_wide, patched(WIDE, 47, b"\x80")).rule == "IDX-1"


def test_chunks_after_the_end_of_the_file_are_refused() -> None:
    for stop, fits in ((760, True), (759, False)):

        def parse_until(data: bytes, stop: int = stop) -> Index:
            return parse_index(data, count=3, start=640, stop=stop, offset=0)

        if fits:
            assert parse_until(INDEX).stop == stop
        else:
            assert refusal(parse_until, INDEX).rule == "IDX-2"


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**63 - 8, 2**62])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_sum_of_lengths_wraps(length: int, count: int) -> None:
    """Lengths whose sum is small modulo 2^64."""
    entries = (length.to_bytes(8, "little") + bytes(8)) * count
    end = (640 + count * ((length + 39) // 8 * 8)) % 2**64
    header = count.to_bytes(4, "little") + b"\x10\x00\x00\x00" + (640).to_bytes(8, "little")
    data = header + end.to_bytes(8, "little") + bytes(8) + entries
    found = refusal(
        lambda data: parse_index(data, count=count, start=640, stop=1 << 61, offset=0), data
    )
    assert found.rule == "IDX-2"
