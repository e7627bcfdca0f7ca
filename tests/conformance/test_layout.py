"""The library against the executable specification: the same bytes mean the same, both ways.

Random values are built by one and parsed by the other; random bytes that the library accepts have
the declared structure.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases.sample import ITEMSIZES, SAMPLES
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reference import layout

import mroi
from mroi.format import codec_table, geom, index, metadata, records
from mroi.limits import DEFAULT_LIMITS

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
SYNC = st.integers(0, 2**32 - 1).map(lambda word: word | 0x80)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


# -- prefix, frames, footer --------------------------------------------------------------------


@st.composite
def prefixes(draw: st.DrawFn) -> dict[str, Any]:
    extra = draw(st.binary(max_size=64).map(lambda data: data[: len(data) // 8 * 8]))
    size = 64 + len(extra)
    head_size = draw(st.integers(size // 8 + 1, 2**29 - 1)) * 8
    file_size = draw(st.integers(0, 2**63))
    return {
        "version_minor": draw(st.integers(0, 255)),
        "prefix_size": size,
        "head_size": head_size,
        "incompat_flags": draw(st.integers(0, 3)),
        "compat_flags": draw(U64),
        "autoclear_flags": draw(U32),
        "sync": draw(SYNC),
        "index_offset": draw(st.integers(size, head_size - 1)) if file_size else 0,
        "file_size": file_size,
        "extra": extra,
    }


@given(prefixes())
def test_a_prefix_that_is_declared_is_parsed(values: dict[str, Any]) -> None:
    parsed = records.parse_prefix(layout.Prefix.build(values))
    for name in ("version_minor", "prefix_size", "head_size", "sync", "index_offset", "file_size"):
        assert getattr(parsed, name) == values[name]
    assert parsed.incompat == values["incompat_flags"]


@given(prefixes())
def test_a_prefix_that_is_built_is_as_declared(values: dict[str, Any]) -> None:
    prefix = records.Prefix(
        values["head_size"],
        values["sync"],
        records.Incompat(values["incompat_flags"]),
        values["index_offset"],
        values["file_size"],
    )
    data = records.build_prefix(prefix)
    found = layout.Prefix.parse(data)
    assert layout.Prefix.build(found) == data
    assert records.parse_prefix(data) == prefix
    assert (found.head_size, found.sync) == (prefix.head_size, prefix.sync)
    assert (found.index_offset, found.file_size) == (prefix.index_offset, prefix.file_size)


TYPES = st.sampled_from([b"CHNK", b"GEOM", b"jSOn", b"nIFt", b"exAm", b"NEWt", b"pADd"])


@given(SYNC, TYPES, U64, U32, U32)
def test_a_frame_header_means_the_same(
    sync: int, kind: bytes, length: int, ordinal: int, crc: int
) -> None:
    values = {
        "sync": sync,
        "type": kind,
        "length": length,
        "ordinal": ordinal,
        "codec_slot": 7 if kind == b"CHNK" else 0,
        "flags": {b"CHNK": 4, b"jSOn": 1}.get(kind, 0),
        "payload_crc": crc,
    }
    header = records.parse_frame_header(layout.FrameHeader.build(values), sync=sync, offset=64)
    for name in ("type", "length", "ordinal", "codec_slot", "flags", "payload_crc"):
        assert getattr(header, name) == values[name]


@given(SYNC, st.binary(max_size=40), U32)
def test_a_frame_that_is_built_is_as_declared(sync: int, payload: bytes, ordinal: int) -> None:
    data = records.build_frame(
        b"CHNK", payload, sync=sync, ordinal=ordinal, slot=3, flags=records.ChunkState.STORED
    )
    frame = layout.Frame.parse(data)
    assert layout.Frame.build(frame) == data
    assert (frame.header.sync, frame.header.type) == (sync, b"CHNK")
    assert (frame.header.ordinal, frame.header.codec_slot, frame.header.flags) == (ordinal, 3, 2)
    assert frame.payload == payload


@given(U64, U64, st.binary(min_size=8, max_size=8))
def test_the_footer_means_the_same(index_offset: int, size: int, digest: bytes) -> None:
    data = records.build_footer(records.Footer(index_offset, size, digest))
    values = {"index_offset": index_offset, "file_size": size, "head_digest": digest}
    assert layout.Footer.build(values) == data
    assert records.parse_footer(data, offset=0) == records.Footer(index_offset, size, digest)


# -- geometry ----------------------------------------------------------------------------------


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    ndim = draw(st.integers(1, 7))
    extents = st.one_of(st.integers(1, 9), st.integers(1, 70000))
    shape = [draw(extents) if axis < min(ndim, 3) else 1 for axis in range(3)]
    shape += [draw(st.integers(1, 4)) if axis < ndim else 1 for axis in range(3, 7)]
    start = [draw(st.integers(0, extent - 1)) for extent in shape[:3]]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=False)]
    chunk = [draw(st.integers(1, b - a)) for a, b in zip(start, stop, strict=True)]
    chunk.append(draw(st.integers(1, shape[3])))
    slice_axis = draw(st.integers(0, 2))
    whole = stop == shape[:3] and not any(start)
    background = 1 if whole else draw(st.integers(0, 4))
    code = draw(st.sampled_from(sorted(ITEMSIZES)))
    size, samples = ITEMSIZES[code], SAMPLES.get(code, 1)
    groups = -(-shape[3] // chunk[3]) * math.prod(shape[4:])
    counts = [-(-(b - a) // c) for a, b, c in zip(start, stop, chunk[:3], strict=True)]
    slabs = -(-shape[slice_axis] // chunk[slice_axis]) if background in {2, 3} else 0
    if (math.prod(counts) + slabs) * groups >= 2**32:
        chunk = [*(b - a for a, b in zip(start, stop, strict=True)), chunk[3]]
        counts = [1, 1, 1]
        slabs = -(-shape[slice_axis] // chunk[slice_axis]) if slabs else 0
    fill = draw(st.binary(min_size=size, max_size=size)) if background in {1, 4} else b""
    return {
        "ndim": ndim,
        "slice_axis": slice_axis,
        "datatype": code,
        "itemsize": size,
        "bits_stored": draw(st.integers(1, min(255, 8 * size // samples))),
        "shape": shape,
        "roi_start": start,
        "roi_stop": stop,
        "chunk_shape": chunk,
        "background": background,
        "source_kind": draw(st.sampled_from([0, 1, 2, 3, 4, 5, 255])),
        "source_flags": draw(st.integers(0, 3)),
        "xyzt_units": draw(st.integers(0, 255)),
        "slope": draw(FINITE.filter(bool)),
        "inter": draw(FINITE),
        "xform_code": draw(st.integers(0, 5)),
        "spacing": [draw(FINITE.map(abs)) if axis < max(3, ndim) else 0.0 for axis in range(7)],
        "affine": draw(st.lists(FINITE, min_size=12, max_size=12)),
        "fill": fill.ljust(32, b"\0"),
        "roi_chunks": math.prod(counts) * groups,
        "background_chunks": slabs * groups,
    }


@given(geometries())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_geometry_means_the_same(values: dict[str, Any]) -> None:
    data = layout.Geom.build(values)
    parsed = geom.parse_geom(data, offset=0)
    shape = [*parsed.shape, *[1] * (7 - len(parsed.shape))]
    spacing = [*parsed.spacing, *[0.0] * (7 - len(parsed.spacing))]
    found = {
        "ndim": parsed.ndim,
        "slice_axis": parsed.slice_axis,
        "datatype": parsed.datatype.code,
        "itemsize": parsed.itemsize,
        "bits_stored": parsed.bits_stored,
        "shape": shape,
        "roi_start": list(parsed.roi.start),
        "roi_stop": list(parsed.roi.stop),
        "chunk_shape": list(parsed.chunk_shape),
        "background": parsed.background,
        "source_kind": parsed.source_kind,
        "source_flags": parsed.source_flags,
        "xyzt_units": parsed.xyzt_units,
        "slope": parsed.slope,
        "inter": parsed.inter,
        "xform_code": parsed.xform_code,
        "spacing": spacing,
        "affine": parsed.affine[:3].ravel().tolist(),
        "fill": parsed.fill.ljust(32, b"\0"),
        "roi_chunks": parsed.grid.roi_chunks,
        "background_chunks": parsed.grid.background_chunks,
    }
    assert found == values
    assert geom.build_geom(parsed) == data


@given(geometries())
@example({"roi_start": [0] * 3, "roi_stop": [2] * 3, "affine": [1e300] * 12})
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_roi_record_means_the_same(values: dict[str, Any]) -> None:
    if "ndim" not in values:
        values = MINIMAL_GEOM | values
    parsed = geom.parse_geom(layout.Geom.build(values), offset=0)
    assert geom.has_roi_record(parsed) == (max(values["shape"][:3]) <= 32767)
    if geom.has_roi_record(parsed):
        assert geom.build_roi_record(parsed) == layout.roi_record(values)
        geom.check_roi_record(layout.roi_record(values), parsed, offset=0)


MINIMAL_GEOM: dict[str, Any] = {
    "ndim": 3,
    "slice_axis": 2,
    "datatype": 2,
    "itemsize": 1,
    "bits_stored": 8,
    "chunk_shape": [2, 2, 2, 1],
    "background": 1,
    "spacing": [0.0] * 7,
    "fill": bytes(32),
    "roi_chunks": 1,
    "background_chunks": 0,
}
MINIMAL_GEOM |= {"shape": [2, 2, 2, 1, 1, 1, 1]}


# -- codecs, index, metadata -------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,20}\.[a-z0-9]", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=6,
)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inner), default=0)
    return 0


PARAMS = st.dictionaries(TEXT, JSON, max_size=2).filter(lambda params: depth(params) <= 7)
SLOTS = st.tuples(NAMES, st.sampled_from([0, 9999, 16383]), PARAMS)


@given(st.lists(SLOTS, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_codec_table_means_the_same(slots: list[tuple[str, int, dict[str, Any]]]) -> None:
    entries = [
        layout.codec_entry(name, number, params, fidelity=1 + number % 3, role=number % 2)
        for name, number, params in slots
    ]
    data = layout.build_codec_table(entries)
    parsed = codec_table.parse_codec_table(data, offset=0)
    for entry, (name, number, params) in zip(parsed, slots, strict=True):
        assert (entry.name, entry.id, entry.parameters["params"]) == (name, number, params)
        assert (entry.fidelity, entry.role) == (1 + number % 3, number % 2)
        assert (entry.bitstream_version, entry.is_deterministic) == (1, True)
    assert codec_table.build_codec_table(parsed) == data


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), U32), min_size=1, max_size=9),
    st.sampled_from([8, 16]),
    st.booleans(),
)
def test_the_index_means_the_same(chunks: list[tuple[int, int]], size: int, crcs: bool) -> None:  # noqa: FBT001
    first = 640
    end = first + sum((32 + length + 7) // 8 * 8 for length, _ in chunks)
    header = {
        "count": len(chunks),
        "entry_size": size,
        "flags": int(crcs),
        "first": first,
        "end": end,
    }
    entries = [{"length": length, "decoded_crc": crc * crcs} for length, crc in chunks]
    data = layout.Index.build({"header": header, "entries": entries})
    parsed = index.parse_index(data, count=len(chunks), start=first, stop=end, offset=0)
    assert parsed.lengths.tolist() == [length for length, _ in chunks]
    assert (parsed.first, parsed.stop) == (first, end)
    if crcs:
        assert parsed.decoded_crcs is not None
        assert parsed.decoded_crcs.tolist() == [crc for _, crc in chunks]
    else:
        assert parsed.decoded_crcs is None
    assert index.build_index(parsed, entry_size=size) == data


@given(st.integers(1, 3), st.binary(min_size=32, max_size=32))
def test_digests_mean_the_same(scope: int, sha256: bytes) -> None:
    data = layout.Digest.build({"scope": scope, "sha256": sha256})
    parsed = metadata.parse_digest(data, ordinal=scope, offset=0)
    assert (parsed.scope, parsed.sha256) == (scope, sha256)
    assert metadata.build_digest(parsed) == data


@given(st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=2, max_size=2))
def test_slice_tables_mean_the_same(rows: list[list[float]]) -> None:
    values = MINIMAL_GEOM | {
        "roi_start": [0, 0, 0],
        "roi_stop": [2, 2, 2],
        "affine": [1.0] * 12,
    }
    parsed = geom.parse_geom(layout.Geom.build(values), offset=0)
    positions = metadata.parse_positions(layout.SlicePositions.build(rows), parsed, offset=0)
    assert positions.tolist() == rows
    pairs = [{"slope": row[0], "inter": row[1]} for row in rows]
    rescale = metadata.parse_rescale(layout.SliceRescale.build(pairs), parsed, offset=0)
    assert rescale.tolist() == [row[:2] for row in rows]


# -- whole files -------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_of_the_library_are_as_declared(tmp_path: Path, data: st.DataObject) -> None:
    """Files that are written have the declared structure, and the sync word of PFX-9."""
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    image = np.arange(math.prod(shape), dtype=np.int16).reshape(shape)
    codec = data.draw(st.sampled_from(["raw", "zstd", "deflate", "zstd:delta=true"]))
    path = tmp_path / "file.mroi"
    axis = data.draw(st.integers(0, 2))
    mroi.pack(image, path, codec=codec, slice_axis=axis, overwrite=True)
    written = path.read_bytes()
    file = layout.File.parse(written)
    assert layout.File.build(file) == written
    head = [frame for frame in file.frames if frame.offset < file.prefix.head_size]
    parts = [layout.Part(frame.header.type, frame.payload) for frame in head]
    assert file.prefix.sync == layout.Draft(parts, [], []).build_sync()
    for frame in file.frames:
        if not frame.header.flags:
            layout.parse_payload(frame.header.type, frame.payload)


PARSERS = {
    "Prefix": lambda data: records.parse_prefix(data.ljust(records.prefix_size_of(data), b"\0")),
    "FrameHeader": lambda data: records.parse_frame_header(
        data, sync=int.from_bytes(data[:4], "little"), offset=0
    ),
    "Geom": lambda data: geom.parse_geom(data, offset=0),
    "CodecTable": lambda data: codec_table.parse_codec_table(data, offset=0),
    "Index": lambda data: index.parse_index(data, count=2, start=640, stop=1 << 20, offset=0),
    "Footer": lambda data: records.parse_footer(data, offset=0),
    "Digest": lambda data: metadata.parse_digest(data, ordinal=data[1], offset=0),
}

SEEDS: dict[str, bytes] = {
    "Prefix": layout.Prefix.build({"head_size": 640, "sync": 0x80}),
    "FrameHeader": layout.FrameHeader.build(
        {"sync": 0x80, "type": b"CHNK", "length": 4, "payload_crc": 9}
    ),
    "Geom": layout.Geom.build(
        MINIMAL_GEOM | {"roi_start": [0] * 3, "roi_stop": [2] * 3, "affine": [1.0] * 12}
    ),
    "CodecTable": layout.build_codec_table([layout.codec_entry("raw", 1)] * 2),
    "Index": layout.Index.build(
        {
            "header": {"count": 2, "entry_size": 16, "flags": 1, "first": 640, "end": 720},
            "entries": [{"length": 4, "decoded_crc": 1}] * 2,
        }
    ),
    "Footer": layout.Footer.build({"index_offset": 1, "file_size": 2, "head_digest": bytes(8)}),
    "Digest": layout.Digest.build({"scope": 1, "sha256": bytes(32)}),
}
SEALED = {"Prefix", "FrameHeader"}


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(data=st.data())
def test_what_the_library_accepts_has_the_declared_structure(
    name: str, data: st.DataObject
) -> None:
    """Random changes of a good record: the library refuses with a rule, or both agree."""
    record = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(record) - 1))
        record[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    if name in SEALED and data.draw(st.booleans()):
        record[-4:] = struct.pack("<I", zlib.crc32(record[:-4]))
    found = bytes(record)
    if accepts(name, found):
        assert getattr(layout, name).build(getattr(layout, name).parse(found)) == found


def accepts(name: str, record: bytes) -> bool:
    """Whether the library takes a record; if it does not, it must name the rule."""
    try:
        PARSERS[name](record)
    except mroi.MroiError as exc:
        if not exc.rule:
            raise
        return False
    return True


def is_fixed(field: Any) -> bool:
    while hasattr(field, "subcon") and not isinstance(field, layout.Fixed):
        field = field.subcon
    return isinstance(field, layout.Fixed)


def test_every_field_is_used_by_a_vector() -> None:
    """No field of the format has the same value in all valid files, unless it is fixed."""
    seen: dict[str, set[str]] = {}

    def note(name: str, declared: Any, value: Any) -> None:
        for field in declared.subcons:
            if field.name and not is_fixed(field):
                seen.setdefault(f"{name}.{field.name}", set()).add(repr(value[field.name]))

    for path in VALID.glob("*.mroi"):
        file = layout.File.parse(path.read_bytes())
        note("Prefix", layout.Prefix.subcon, file.prefix)
        for frame in file.frames:
            note("FrameHeader", layout.FrameHeader.subcon, frame.header)
            kind = frame.header.type
            value = layout.parse_payload(kind, frame.payload) if not frame.header.flags else None
            if kind == b"GEOM":
                note("Geom", layout.Geom, value)
            elif kind == b"CODC":
                for entry in value.entries:
                    note("CodecEntry", layout.CodecEntry, entry)
            elif kind == b"INDX":
                note("IndexHeader", layout.IndexHeader, value.header)
    assert len(seen) > 50
    assert [name for name, values in seen.items() if len(values) < 2] == []


VALID = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "valid"


def power(value: int) -> str:
    assert value.bit_count() == 1
    return f"2^{value.bit_length() - 1}"


def test_the_default_limits_hold_what_the_text_recommends() -> None:
    """The table of section 12 is that of `Limits`."""
    text = (Path(__file__).resolve().parents[2] / "spec" / "mroi-1.md").read_text(encoding="utf-8")
    rows = text.split("| what | default |")[1].split("\n\n")[0].splitlines()[2:]
    table = dict(row.strip("| ").split(" | ") for row in rows)
    limits = DEFAULT_LIMITS
    assert (
        table.items()
        >= {
            "`head_size`": power(limits.head_size),
            "frames in the head; in the preface; in the tail": f"{limits.frames} each",
            "metadata frame as stored; inflated": (
                f"{power(limits.metadata_stored)}; {power(limits.metadata_size)}"
            ),
            "decoded volume": f"{power(limits.volume_size)} bytes",
            "decoded chunk": f"{power(limits.chunk_size)} bytes",
            "chunks": power(limits.chunks),
        }.items()
    )
