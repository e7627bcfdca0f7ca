"""Property fuzzed: any bytes give a value or an `MroiError`, and a value builds what it came from.

The first byte of the input picks the parser.
"""

from __future__ import annotations

import json
import struct
import zlib
from contextlib import suppress
from dataclasses import replace

from harness import run, vectors

from mroi.errors import MroiError
from mroi.format import codec_table, geom, index, metadata, records, restricted_json
from mroi.limits import Limits

LIMITS = Limits(metadata_stored=1 << 16, metadata_size=1 << 18)


def fuzz_json(data: bytes) -> None:
    """What is accepted means the same to any JSON parser, and to this one again."""
    value = restricted_json.parse_json(data, max_size=1 << 16)
    assert json.loads(data) == value
    assert restricted_json.parse_json(restricted_json.build_json(value), max_size=1 << 20) == value


def fuzz_codecs(data: bytes) -> None:
    """Slots are the same after a round trip."""
    entries = codec_table.parse_codec_table(data, offset=0)
    assert (
        codec_table.parse_codec_table(codec_table.build_codec_table(entries), offset=0) == entries
    )


def fuzz_geometry(data: bytes) -> None:
    """Every byte counts, but for what is beyond 344."""
    value = geom.parse_geom(data, offset=0)
    assert geom.build_geom(value) == struct.pack("<H", geom.GEOM_SIZE) + data[2:344]


def fuzz_index(data: bytes) -> None:
    """Every byte counts."""
    count, entry_size = struct.unpack_from("<IB", data.ljust(5, b"\0"))
    value = index.parse_index(data, count=count, start=0, stop=1 << 40, offset=0)
    assert index.build_index(value, entry_size=entry_size) == data


def fuzz_prefix(data: bytes) -> None:
    """The fields that mean something survive; the checksum is put right first."""
    data = data.ljust(records.PREFIX_SIZE, b"\0")
    body = data.ljust(records.prefix_size_of(data), b"\0")[: records.prefix_size_of(data) - 4]
    value = records.parse_prefix(body + struct.pack("<I", zlib.crc32(body)))
    first = replace(value, prefix_size=records.PREFIX_SIZE, version_minor=0)
    assert records.parse_prefix(records.build_prefix(first)) == first


def fuzz_frame_header(data: bytes) -> None:
    """A header that was accepted builds again; the checksum is put right first."""
    body = data[:28].ljust(28, b"\0")
    header = body + struct.pack("<I", zlib.crc32(body))
    sync = int.from_bytes(body[:4], "little")
    value = records.parse_frame_header(header, sync=sync, offset=0)
    assert value.stop == -(-(32 + value.length) // 8) * 8
    records.check_payload(value, b"", b"")


def fuzz_footer(data: bytes) -> None:
    """Every byte counts."""
    assert records.build_footer(records.parse_footer(data, offset=0)) == data


def fuzz_digest(data: bytes) -> None:
    """Every byte counts."""
    value = metadata.parse_digest(data, ordinal=data[1] if len(data) > 1 else 0, offset=0)
    assert metadata.build_digest(value) == data


def fuzz_inflate(data: bytes) -> None:
    """What inflates is bounded, and deflates again."""
    content = metadata.inflate_payload(data, LIMITS, offset=0)
    assert len(content) <= LIMITS.metadata_size
    assert metadata.inflate_payload(metadata.deflate_payload(content), LIMITS, offset=0) == content


TARGETS = (
    fuzz_json,
    fuzz_codecs,
    fuzz_geometry,
    fuzz_index,
    fuzz_prefix,
    fuzz_frame_header,
    fuzz_footer,
    fuzz_digest,
    fuzz_inflate,
)
KINDS = {b"GEOM": fuzz_geometry, b"CODC": fuzz_codecs, b"INDX": fuzz_index, b"dIGE": fuzz_digest,
         b"FOOT": fuzz_footer, b"jSOn": fuzz_json, b"nIFt": fuzz_inflate}  # fmt: skip


def fuzz(data: bytes) -> None:
    """One input, given to the parser that its first byte picks."""
    with suppress(MroiError):  # anything else escapes, and is a bug
        TARGETS[data[0] % len(TARGETS) if data else 0](data[1:])


def seeds() -> list[bytes]:
    """Return the frames of the vectors, each with the byte that picks its parser."""
    found = {bytes([TARGETS.index(fuzz_json)]) + b'{"a":[1,-2.5e3,"\\u00e9",null,true,{}]}'}
    for vector in vectors():
        found.add(bytes([TARGETS.index(fuzz_prefix)]) + vector[:64])
        at = 64
        while at + 32 <= len(vector):
            kind, length = struct.unpack_from("<4sQ", vector, at + 4)
            found.add(bytes([TARGETS.index(fuzz_frame_header)]) + vector[at : at + 32])
            if kind in KINDS and length < 1 << 16:
                payload = vector[at + 32 : at + 32 + length]
                found.add(bytes([TARGETS.index(KINDS[kind])]) + payload)
            at += -(-(32 + length) // 8) * 8
    return sorted(found)


if __name__ == "__main__":
    run(fuzz, seeds())
