"""Checksums that are found without the bytes are those of the bytes."""

from __future__ import annotations

import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.format.checksum import crc32, crc32_repeated
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    ChunkState,
    build_empty_chunks,
    build_frame,
    parse_frame_header,
)

_SYNC = 0xFEDCBA98


@given(st.binary(min_size=1, max_size=32), st.integers(0, 70_000))
def test_the_crc_of_much_of_the_same(data: bytes, count: int) -> None:
    assert crc32_repeated(data, count) == zlib.crc32(data * count)


@pytest.mark.parametrize("data", [b"\0", b"\7", b"\xff\xff", b"abc", bytes(range(16))])
@pytest.mark.parametrize("count", [(1 << 20) + 1, (1 << 21) - 1, 3_000_001])
def test_the_crc_of_more(data: bytes, count: int) -> None:
    assert crc32_repeated(data, count) == crc32(data * count)


def test_the_crc_of_more_than_anybody_has() -> None:
    """64 TiB of zeros, and one by one: the CRC of a part and the rest is that of the whole."""
    start = time.perf_counter()
    whole = crc32_repeated(b"\0", 1 << 46)
    assert time.perf_counter() - start < 1
    half = crc32_repeated(b"\0" * 2, 1 << 45)
    assert whole == half == crc32_repeated(bytes(64), 1 << 40)
    assert crc32(bytes(5), whole) == crc32_repeated(b"\0", (1 << 46) + 5)


@given(st.integers(0, (1 << 32) - 300), st.integers(0, 255), st.sampled_from(ChunkState))
def test_empty_chunks_are_those_that_are_built_one_by_one(
    first: int, slot: int, state: ChunkState
) -> None:
    found = build_empty_chunks(first, 300, sync=_SYNC, slot=slot, flags=state)
    parts = [
        build_frame(b"CHNK", b"", sync=_SYNC, ordinal=first + i, slot=slot, flags=state)
        for i in range(300)
    ]
    assert found == b"".join(parts)
    header = parse_frame_header(found[-FRAME_HEADER_SIZE:], sync=_SYNC, offset=0)
    assert (header.ordinal, header.codec_slot, header.flags) == (first + 299, slot, state)


def test_no_empty_chunks_are_no_bytes() -> None:
    assert build_empty_chunks(7, 0, sync=_SYNC, slot=0, flags=ChunkState.MISSING) == b""
