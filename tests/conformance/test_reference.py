"""The reference reader, on files built here by hand from the text of the specification.

`build` writes each byte with `struct`; it shares no code with the reader or with the library.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import math
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

DECODE = Path(__file__).parents[2] / "spec" / "reference" / "decode.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mroi_reference_decode", DECODE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


decode = load()

# ---------------------------------------------------------------- files from the text

SYNC = 0x524F49E5
ITEMSIZE = {2: 1, 4: 2, 16: 4, 128: 3, 2048: 32}
AFFINE = (-1.5, 0, 0, 90, 0, 0.1, 1e39, -126, 0, -0.0, 2, -72)


def align8(n: int) -> int:
    return (n + 7) // 8 * 8


def frame(kind: bytes, payload: bytes, ordinal: int = 0, slot: int = 0, flags: int = 0) -> bytes:
    head = struct.pack("<I4sQIBBHI", SYNC, kind, len(payload), ordinal, slot, flags, 0,
                       zlib.crc32(payload))  # fmt: skip
    head += struct.pack("<I", zlib.crc32(head))
    return head + payload + bytes(-len(payload) % 8)


def prefix(head_size: int, flags: int, index_offset: int, file_size: int) -> bytes:
    raw = struct.pack("<8sBBHIQQIIQQB3s", b"\x89MROI\r\n\n", 1, 0, 64, head_size, flags, 0, 0, SYNC,
                      index_offset, file_size, 1, bytes(3))  # fmt: skip
    return raw + struct.pack("<I", zlib.crc32(raw))


def codec_entry(number: int, name: bytes, role: int, fidelity: int = 1) -> bytes:
    steps = b"" if name == b"raw" else b'"delta":false,"shuffle":false'
    params = b'{"encoder":{},"filters":[],"impl":"by hand","params":{%s}}' % steps
    raw = struct.pack("<H4BHII", number, fidelity, 1, len(name), role, 1, len(params), 0)
    raw += name + params
    return raw + bytes(-len(raw) % 8)


class Sample:
    """A volume of random elements and the geometry of its file; `fields` go into `GEOM`."""

    def __init__(self, seed: int = 1, **fields: Any) -> None:
        f: dict[str, Any] = {
            "ndim": 3, "slice_axis": 2, "datatype": 4, "shape": (4, 3, 5),
            "roi": ((1, 3), (0, 2), (1, 4)), "chunk": (2, 2, 2), "span": 1, "background": 1,
            "fill": 7, "kind": 0, "source_flags": 0,
        }  # fmt: skip
        f |= fields
        self.f = f
        self.size = ITEMSIZE[f["datatype"]]
        self.shape = (*f["shape"], *[1] * (7 - len(f["shape"])))
        self.volumes = math.prod(self.shape[3:])
        self.fill = bytes([f["fill"]]) * self.size
        self.fast, self.slow = (a for a in range(3) if a != f["slice_axis"])
        rng = random.Random(seed)
        self.elements = {}
        for e, k, j, i in itertools.product(
            range(self.volumes), *(range(n) for n in self.shape[2::-1])
        ):
            inside = all(a <= v < b for v, (a, b) in zip((i, j, k), f["roi"], strict=True))
            random_element = bytes(rng.choices(range(0, 256, 51), k=self.size))
            keep = inside or f["background"] in {2, 3}
            self.elements[e, i, j, k] = random_element if keep else self.fill

    @property
    def volume(self) -> bytes:
        """x fastest, then y, z, the others."""
        order = sorted(self.elements, key=lambda at: (at[0], at[3], at[2], at[1]))
        return b"".join(self.elements[at] for at in order)

    def scan(self, e: int, box: list[tuple[int, int]], *, outside: bool = False) -> bytes:
        """Elements of a box in scan order; or only those outside the ROI."""
        out = []
        s = self.f["slice_axis"]
        for a, b, c in itertools.product(
            *(range(*box[axis]) for axis in (s, self.slow, self.fast))
        ):
            at = [0, 0, 0]
            at[s], at[self.slow], at[self.fast] = a, b, c
            inside = all(lo <= v < hi for v, (lo, hi) in zip(at, self.f["roi"], strict=True))
            if not (outside and inside):
                out.append(self.elements[(e, *at)])
        return b"".join(out)

    def roi(self) -> list[bytes]:
        """Decoded chunks of the ROI in the order of their ordinals."""
        s = self.f["slice_axis"]
        cuts = [
            [(a, min(a + c, hi)) for a in range(lo, hi, c)]
            for (lo, hi), c in zip(self.f["roi"], self.f["chunk"], strict=True)
        ]
        out = []
        for group in self.groups():
            for a, b, c in itertools.product(cuts[s], cuts[self.slow], cuts[self.fast]):
                box = [(0, 0)] * 3
                box[s], box[self.slow], box[self.fast] = a, b, c
                out.append(b"".join(self.scan(e, box) for e in group))
        self.roi_chunks = len(out)
        return out

    def groups(self) -> list[range]:
        """Volumes that share chunks: up to `span` neighbours along axis 3."""
        series, span = self.shape[3], self.f["span"]
        return [
            range(e, min(e + span, first + series))
            for first in range(0, self.volumes, series)
            for e in range(first, first + series, span)
        ]

    def chunks(self) -> list[bytes]:
        """Decoded chunks in the order of their ordinals."""
        s, out = self.f["slice_axis"], self.roi()
        if self.f["background"] in {2, 3}:
            step = self.f["chunk"][s]
            for group, a in itertools.product(self.groups(), range(0, self.shape[s], step)):
                box = [(0, n) for n in self.shape[:3]]
                box[s] = (a, min(a + step, self.shape[s]))
                out.append(b"".join(self.scan(e, box, outside=True) for e in group))
        return out

    def geom(self, chunk_count: int) -> bytes:
        f = self.f
        starts, stops = zip(*f["roi"], strict=True)
        fill = self.fill if f["background"] in {1, 4} else b""
        raw = struct.pack("<HBBHBB", 344, f["ndim"], f["slice_axis"], f["datatype"], self.size, 8)
        raw += struct.pack("<7Q3Q3Q4I", *self.shape, *starts, *stops, *f["chunk"], f["span"])
        raw += struct.pack(
            "<4Bh2xdd", f["background"], f["kind"], f["source_flags"], 10, 1, 1.0, 0.0
        )
        spacing = [1.0 if axis < max(f["ndim"], 3) else 0.0 for axis in range(7)]
        raw += struct.pack("<7d12d32s", *spacing, *AFFINE, fill)
        return raw + struct.pack("<2I", self.roi_chunks, chunk_count - self.roi_chunks)

    def record(self) -> bytes:
        bounds = [bound for lo, hi in self.f["roi"] for bound in (lo, hi - 1)]
        matrix = (-1.5, 0, 0, 0, 0.1, math.inf, 0, -0.0, 2)
        return struct.pack("<9h9f", *bounds, *self.shape[:3], *matrix)


def encode(decoded: bytes, size: int, slot: int, way: str) -> tuple[int, int, bytes]:
    """Return slot, flags, payload of a chunk."""
    if way == "missing":
        return slot, 4, b""
    elements = {decoded[i : i + size] for i in range(0, len(decoded), size)}
    if len(elements) == 1:
        return slot, 1, elements.pop()
    if way == "stored" or not decoded:
        return slot, 2, decoded
    return (slot, 0, decoded) if way == "raw" else (slot + 1, 0, zlib.compress(decoded))


def build(
    sample: Sample,
    ways: tuple[str, ...] = ("deflate", "stored", "raw"),
    head: tuple[bytes, ...] = (),
    tail: tuple[bytes, ...] = (),
    *,
    front: bool = False,
    entry_size: int = 8,
    crcs: bool = True,
) -> bytes:
    chunks = sample.chunks()
    background = sample.f["background"] in {2, 3}
    entries = codec_entry(1, b"raw", 0) + codec_entry(3, b"deflate", 0)
    if background:
        entries += codec_entry(1, b"raw", 1) + codec_entry(3, b"deflate", 1)
    codc = struct.pack("<HHI", 4 if background else 2, 0, 0) + entries
    frames = [frame(b"rOIB", sample.record()), frame(b"GEOM", sample.geom(len(chunks)))]
    frames += [frame(b"CODC", codc), *head]
    index_size = align8(32 + 32 + len(chunks) * entry_size)
    head_size = 64 + len(b"".join(frames)) + (index_size if front else 0)
    body, entries = b"", b""
    for ordinal, decoded in enumerate(chunks):
        way = ways[ordinal % len(ways)]
        slot = 2 if ordinal >= sample.roi_chunks else 0
        slot, flags, payload = encode(decoded, sample.size, slot, way)
        body += frame(b"CHNK", payload, ordinal, slot, flags)
        crc = zlib.crc32(decoded) if crcs and flags != 4 else 0
        entries += struct.pack("<II" if entry_size == 8 else "<QIxxxx", len(payload), crc)
    end = head_size + len(body)
    index = struct.pack("<IBBHQQQ", len(chunks), entry_size, int(crcs), 0, head_size, end, 0)
    index_frame = frame(b"INDX", index + entries)
    frames += [index_frame] if front else []
    after = ([] if front else [index_frame]) + list(tail)
    size = end + len(b"".join(after)) + 64
    index_offset = head_size - index_size if front else end
    digest = hashlib.sha256(b"".join(frames)).digest()[:8]
    foot = struct.pack("<QQ8s8s", index_offset, size, digest, b"\n\n\rIORM\x89")
    flags = ("missing" in ways) | (2 * background)
    start = prefix(head_size, flags, index_offset if front else 0, size if front else 0)
    return b"".join([start, *frames, body, *after, frame(b"FOOT", foot)])


def digest(scope: int, data: bytes) -> bytes:
    payload = struct.pack("<BB6x", 1, scope) + hashlib.sha256(data).digest()
    return frame(b"dIGE", payload, scope)


def small() -> bytes:
    return build(Sample(shape=(3, 2, 2), roi=((1, 3), (0, 2), (0, 2)), chunk=(2, 2, 1)))


SAMPLES = {
    "tail index": (Sample(), {}),
    "front index": (Sample(slice_axis=0, chunk=(1, 2, 3)), {"front": True}),
    "wide entries": (Sample(slice_axis=1, background=4), {"entry_size": 16, "crcs": False}),
    "residue": (Sample(background=2, fill=0), {"front": True}),
    "residue along x, 5D": (
        Sample(
            ndim=5, shape=(4, 3, 5, 3, 2), slice_axis=0, datatype=128, background=3, fill=0, span=2
        ), {},
    ),
    "residue, a slab inside": (
        Sample(background=2, fill=0, roi=((0, 4), (0, 3), (1, 4)), chunk=(4, 3, 1)), {},
    ),
    "the ROI is the volume": (
        Sample(roi=((0, 4), (0, 3), (0, 5)), chunk=(3, 2, 2), fill=0, datatype=2048), {},
    ),
    "constant": (Sample(datatype=2, roi=((1, 2), (1, 2), (1, 2)), chunk=(1, 1, 1)), {}),
}  # fmt: skip


def refusal(data: bytes, *, opening: bool = False) -> Any:
    with pytest.raises(decode.Refused) as caught:
        decode.open_bytes(data) if opening else decode.verify(data)
    return caught.value


def drain(parts: Any) -> list[Any]:
    return list(decode.read_stream(parts))


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("name", SAMPLES)
def test_the_volume_is_what_was_put_in(name: str) -> None:
    sample, options = SAMPLES[name]
    data = build(sample, **options)
    assert decode.verify(data).volume() == sample.volume


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("step", [1, 37, 10**6])
def test_a_stream_gives_the_same_chunks(name: str, step: int) -> None:
    sample, options = SAMPLES[name]
    data = build(sample, **options)
    head, *chunks = drain(data[i : i + step] for i in range(0, len(data), step))
    assert [decoded for _, decoded in chunks] == sample.chunks()
    assert head.geometry.shape == sample.shape


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    shape = draw(st.lists(st.integers(1, 4), min_size=3, max_size=5))
    roi = []
    for extent in shape[:3]:
        lo = draw(st.integers(0, extent - 1))
        roi.append((lo, draw(st.integers(lo + 1, extent))))
    whole = all((0, n) == side for n, side in zip(shape, roi, strict=False))
    background = 1 if whole else draw(st.sampled_from([1, 2, 3, 4]))
    return Sample(
        draw(st.integers(0, 9)),
        ndim=len(shape),
        shape=tuple(shape),
        roi=tuple(roi),
        chunk=tuple(draw(st.integers(1, hi - lo)) for lo, hi in roi),
        span=draw(st.integers(1, (*shape, 1)[3])),
        slice_axis=draw(st.integers(0, 2)),
        background=background,
        fill=draw(st.integers(0, 255)) if background in {1, 4} else 0,
        datatype=draw(st.sampled_from(sorted(ITEMSIZE))),
    )


OPTIONS = st.fixed_dictionaries(
    {"front": st.booleans(), "entry_size": st.sampled_from([8, 16]), "crcs": st.booleans()}
)


@settings(deadline=None)
@given(samples(), OPTIONS)
def test_any_geometry(sample: Sample, options: dict[str, Any]) -> None:
    data = build(sample, **options)
    assert decode.verify(data).volume() == sample.volume


@pytest.mark.parametrize("options", [{"front": False}, {"front": True}])
def test_every_truncation_is_refused(options: dict[str, Any]) -> None:
    data = build(Sample(), **options)
    for size in range(len(data)):
        assert refusal(data[:size], opening=True).rule == "LAY-4"
        with pytest.raises(decode.Refused) as caught:
            drain([data[:size]])
        assert caught.value.rule == "LAY-4"


@pytest.mark.parametrize("options", [{"front": False}, {"front": True}])
def test_bytes_after_the_end_are_refused(options: dict[str, Any]) -> None:
    data = build(Sample(), **options)
    for more in (b"\0", data, data[-64:], bytes(64)):
        refusal(data + more, opening=True)
        with pytest.raises(decode.Refused, match="LAY-1"):
            drain([data, more])


def test_every_change_of_one_byte_is_refused() -> None:
    data = small()
    for at, flip in itertools.product(range(len(data)), (1, 0x20, 0x80, 0xFF)):
        changed = bytearray(data)
        changed[at] ^= flip
        refusal(bytes(changed))
        with pytest.raises(decode.Refused):
            drain([bytes(changed)])


def repair(data: bytearray) -> bytes:
    """Make all CRCs and the digest of the head right again, as far as frames can be followed."""
    head_size = int.from_bytes(data[12:16], "little")
    for digest_too in (False, True):
        if digest_too and data[-60:-56] == b"FOOT":
            data[-16:-8] = hashlib.sha256(data[64:head_size]).digest()[:8]
        at = 64
        while at + 32 <= len(data):
            length = int.from_bytes(data[at + 8 : at + 16], "little")
            crc = zlib.crc32(data[at + 32 : at + 32 + length])
            data[at + 24 : at + 28] = struct.pack("<I", crc)
            data[at + 28 : at + 32] = struct.pack("<I", zlib.crc32(data[at : at + 28]))
            at += align8(32 + length)
    data[60:64] = struct.pack("<I", zlib.crc32(data[:60]))
    return bytes(data)


def patched(data: bytes, at: int, form: str, *values: Any) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + form, changed, at, *values)
    return repair(changed)


def answers(data: bytes) -> None:
    """Whatever the bytes: a result, `Refused` or `Unavailable`."""
    for read in (
        decode.verify,
        decode.salvage,
        lambda data: decode.open_bytes(data).volume(b"\1" * 2, b"\2" * 2),
        lambda data: drain([data]),
    ):
        with contextlib.suppress(decode.Refused, decode.Unavailable):
            read(data)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_wrong_bytes_under_right_crcs_never_surprise(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["tail index", "front index", "residue"]))
    whole = WITH_METADATA[name]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        new = data.draw(
            st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=8, max_size=8))
        )
        changed[at : at + len(new)] = new
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decode.LIMITS, "volume", 1 << 16)
        answers(repair(changed))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_never_surprises(noise: bytes) -> None:
    answers(noise)
    answers(small()[:200] + noise)


NIFTI = struct.pack("<i", 348) + bytes(36) + struct.pack("<8h", 3, 4, 3, 5, 1, 1, 1, 1)
NIFTI += bytes(14) + struct.pack("<h", 4) + bytes(36) + struct.pack("<f", 352) + bytes(240)


def metadata(sample: Sample) -> tuple[bytes, ...]:
    source = NIFTI + sample.volume + b"after"
    return (
        frame(b"nIFt", NIFTI),
        frame(b"nIFt", b"after", 1),
        frame(b"sLPo", struct.pack("<15d", *range(15))),
        frame(b"SLSC", struct.pack("<10d", *[1.5, 2.0] * 5)),
        frame(b"jSOn", b'{"tool":"by hand","roi":{"a":[1,-2.5e3,"\\ud83d\\ude00"]}}'),
        frame(b"dCMh", struct.pack("<IIQ", 4, 0, 3) + b"abc"),
        frame(b"xyZw", b"private", 77),
        frame(b"pADd", bytes(8), 5),
        digest(1, b"".join(sample.roi())),
        digest(2, sample.volume),
        digest(3, source),
    )


WITH_METADATA = {
    name: build(Sample(kind=1, **fields), head=metadata(Sample(**fields)), **options)
    for name, fields, options in (
        ("tail index", {}, {}),
        ("front index", {"chunk": (1, 2, 3), "roi": ((1, 3), (0, 3), (0, 4))}, {"front": True}),
        ("residue", {"background": 2, "fill": 0}, {"front": True}),
    )
}


@pytest.mark.parametrize("name", WITH_METADATA)
def test_metadata_is_checked(name: str) -> None:
    assert decode.verify(WITH_METADATA[name]).content("nIFt", 1) == b"after"


BAD_JSON = {
    b'{"a":1,"a":2}': "JSN-2", b'{"a":"\\ud800"}': "JSN-2", b'{"a":NaN}': "JSN-3", b"[]": "JSN-1",
    b'{"a":9007199254740992}': "JSN-3", b'{"a":1e999}': "JSN-3", b'\xef\xbb\xbf{}': "JSN-1",
    b'{"a":' * 8 + b"1" + b"}" * 8: "", b'{"a":' * 9 + b"1" + b"}" * 9: "JSN-4", b"{} 1": "JSN-1",
    b"[" * 100000: "JSN-4", b'{"a":"[[[[[[[[[["}': "", b'{"a":01}': "JSN-1", b'{"\xff":1}': "JSN-1",
    b'{"a":' + b"9" * 5000 + b"}": "JSN-3", b"": "JSN-1", b'{"a":9007199254740991}': "",
}  # fmt: skip
BAD_FRAMES = {
    frame(b"pADd", b"\1"): "MET-4",
    frame(b"dIGE", bytes(40), 1): "MET-2",
    frame(b"dIGE", digest(1, b"")[32:], 2): "MET-2",
    digest(1, b"other"): "MET-2",
    digest(2, b"other"): "MET-2",
    frame(b"sLPo", bytes(8)): "MET-3",
    frame(b"sLPo", struct.pack("<15d", math.nan, *range(14))): "MET-3",
    frame(b"dCMh", struct.pack("<IIQ", 5, 0, 0)): "DCM-1",
    frame(b"dCMh", struct.pack("<IIQ", 0, 0, 1)): "DCM-1",
    frame(b"jSOn", b"{}", 0, 0, 1): "FRM-11",
    frame(b"jSOn", b"{}", 1): "FRM-10",
    frame(b"nIFt", b"", 5): "FRM-10",
    frame(b"nIFt", NIFTI, 0, 0, 2): "FRM-5",
    frame(b"xYZw", b"", 0, 0, 2): "FRM-5",
    frame(b"xyzw", b""): "FRM-3",
    frame(b"XYZW", b""): "FRM-9",
    frame(b"GEOM", b"", 1): "FRM-10",
    frame(b"rOIB", bytes(54)): "FRM-10",
    frame(b"CHNK", b""): "FRM-9",
    frame(b"xYZw", b"", 0, 1): "FRM-4",
} | {frame(b"jSOn", text): rule for text, rule in BAD_JSON.items() if rule}


@pytest.mark.parametrize(("bad", "rule"), BAD_FRAMES.items())
def test_a_bad_frame_names_its_rule(bad: bytes, rule: str) -> None:
    assert refusal(build(Sample(), head=(bad,))).rule == rule


@pytest.mark.parametrize("text", [text for text, rule in BAD_JSON.items() if not rule])
def test_legal_json_passes(text: bytes) -> None:
    decode.verify(build(Sample(), tail=(frame(b"jSOn", text),)))


@pytest.mark.parametrize("size", [0, 1, 300, 70_000, 200_000])
def test_a_compressed_payload_is_exactly_one_frame_of_known_size(size: int) -> None:
    text = b'{"tool":"' + random.Random(size).randbytes(size).hex().encode() + b'"}'
    whole = zstandard.ZstdCompressor(write_checksum=size > 300).compress(text)
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(text)

    def open_with(payload: bytes) -> Any:
        return decode.open_bytes(build(Sample(), tail=(frame(b"jSOn", payload, flags=1),)))

    kept = open_with(whole).tail[1]
    assert decode.zstd_content_size(kept) == len(text)
    with contextlib.suppress(decode.Unavailable):  # no compression.zstd before Python 3.14
        assert decode.content(kept) == text
    for wrong in (streamed, whole[:-1], whole + b"\0", whole + whole, text, b""):
        with pytest.raises(decode.Refused, match="FRM-11"):
            open_with(wrong)


def test_missing_chunks_have_no_voxels_unless_asked_for() -> None:
    sample = Sample()
    file = decode.verify(build(sample, ("deflate", "missing")))
    assert file.chunk(1)[1] is None
    with pytest.raises(decode.Refused, match="CHK-10"):
        file.volume()
    assert file.volume(missing=b"??").count(b"??") == len(sample.chunks()[1]) // 2


def test_an_omitted_background_has_no_voxels_unless_asked_for() -> None:
    sample = Sample(background=0, fill=0)
    file = decode.verify(build(sample))
    with pytest.raises(decode.Refused, match="BKG-1"):
        file.volume()
    assert file.volume(omitted=b"\0\0") == sample.volume


@pytest.mark.parametrize("options", [{"front": False}, {"front": True}])
def test_salvage_gives_what_is_whole_and_nothing_else(options: dict[str, Any]) -> None:
    sample = Sample(chunk=(1, 1, 1), roi=((0, 3), (0, 3), (0, 4)))
    data, chunks = build(sample, **options), sample.chunks()
    head_size = int.from_bytes(data[12:16], "little")
    for at in range(head_size, len(data), 13):
        changed = bytearray(data)
        changed[at] ^= 0x55
        cut = data[:at]
        for damaged in (bytes(changed), cut):
            _, found = decode.salvage(damaged)
            assert all(a in (None, b) for a, b in zip(found, chunks, strict=True))
            if damaged is not cut:
                assert found.count(None) <= 1
    assert decode.salvage(data)[1] == chunks


def test_overlapping_frames_do_not_keep_salvage_busy() -> None:
    data = small()
    start = int.from_bytes(data[12:16], "little")
    size = 1 << 15
    headers = b""
    for at in range(0, size, 32):
        head = struct.pack("<I4sQIBBHI", SYNC, b"pADd", size - at - 32, at, 0, 0, 0, 1)
        headers += head + struct.pack("<I", zlib.crc32(head))
    with pytest.raises(decode.Refused, match="LIM-1"):
        decode.salvage(data[:start] + headers)


def payload_at(data: bytes, kind: bytes) -> int:
    return data.index(kind) + 28


def test_a_volume_that_is_too_large_is_refused_before_it_takes_memory() -> None:
    data = build(Sample(datatype=2, roi=((1, 2), (1, 2), (1, 2)), chunk=(1, 1, 1)))
    data = patched(data, payload_at(data, b"GEOM") + 8, "2Q", 32767, 32767)
    data = patched(data, payload_at(data, b"rOIB") + 12, "2h", 32767, 32767)
    assert decode.open_bytes(data).head.geometry.shape[:3] == (32767, 32767, 5)
    assert refusal(data).rule == "LIM-1"


def test_an_unknown_codec_hides_only_the_voxels() -> None:
    data = build(Sample()).replace(b"deflate", b"org.x.c")
    data = patched(data, data.index(b"org.x.c") - 16, "H", 0)
    file = decode.open_bytes(data)
    assert file.head.geometry.shape[:3] == (4, 3, 5)
    with pytest.raises(decode.Unavailable, match=r"org\.x\.c"):
        file.volume()


def test_only_chunks_stand_among_the_chunks() -> None:
    data = build(Sample(), ("raw",))
    at = data.index(b"CHNK", data.index(b"CHNK") + 4)
    assert refusal(patched(data, at, "4s", b"xYZw")).rule == "LAY-3"


WRONG_FIELDS = [  # frame, offset in its payload, format, value, rule
    (b"GEOM", 0, "H", 352, "GEO-1"), (b"GEOM", 2, "B", 0, "GEO-2"), (b"GEOM", 2, "B", 8, "GEO-2"),
    (b"GEOM", 2, "B", 2, "GEO-2"), (b"GEOM", 8, "Q", 0, "GEO-2"), (b"GEOM", 8, "Q", 2**41, "GEO-2"),
    (b"GEOM", 3, "B", 3, "GEO-3"), (b"GEOM", 4, "H", 0, "GEO-4"), (b"GEOM", 6, "B", 3, "GEO-4"),
    (b"GEOM", 7, "B", 0, "GEO-5"), (b"GEOM", 7, "B", 17, "GEO-5"), (b"GEOM", 88, "Q", 1, "GEO-6"),
    (b"GEOM", 88, "Q", 5, "GEO-6"), (b"GEOM", 112, "I", 0, "GEO-7"),
    (b"GEOM", 112, "I", 3, "GEO-7"), (b"GEOM", 124, "I", 0, "GEO-7"),
    (b"GEOM", 124, "I", 2, "GEO-7"),
    (b"GEOM", 128, "B", 5, "GEO-8"),
    (b"GEOM", 128, "B", 2, "GEO-12"), (b"GEOM", 129, "B", 6, "GEO-9"),
    (b"GEOM", 130, "B", 4, "GEO-9"), (b"GEOM", 132, "h", -1, "GEO-9"),
    (b"GEOM", 136, "d", 0.0, "GEO-10"), (b"GEOM", 136, "d", math.inf, "GEO-10"),
    (b"GEOM", 144, "d", math.nan, "GEO-10"), (b"GEOM", 208, "d", math.nan, "GEO-11"),
    (b"GEOM", 152, "d", -1.0, "GEO-11"), (b"GEOM", 152, "d", math.nan, "GEO-11"),
    (b"GEOM", 306, "B", 1, "GEO-12"), (b"GEOM", 336, "I", 5, "GEO-13"),
    (b"GEOM", 340, "I", 1, "GEO-13"), (b"GEOM", 134, "B", 1, "GEO-14"),
    (b"rOIB", 0, "h", 0, "ROI-2"), (b"rOIB", 18, "f", 0, "ROI-3"), (b"rOIB", 46, "f", 0.0, "ROI-3"),
    (b"CODC", 0, "H", 0, "CDC-1"), (b"CODC", 0, "H", 17, "CDC-1"), (b"CODC", 2, "H", 1, "CDC-1"),
    (b"CODC", 0, "H", 1, "CDC-1"), (b"CODC", 0, "H", 3, "CDC-1"), (b"CODC", 8, "H", 2, "CDC-4"),
    (b"CODC", 8, "H", 0, "CDC-3"), (b"CODC", 10, "B", 0, "CDC-1"), (b"CODC", 13, "B", 1, "CDC-2"),
    (b"CODC", 12, "B", 0, "CDC-3"), (b"CODC", 24, "B", 65, "CDC-3"),
    (b"CODC", 16, "I", 2**31, "CDC-1"), (b"CODC", 29, "B", 66, "CDC-6"),
    (b"INDX", 0, "I", 3, "IDX-1"), (b"INDX", 4, "B", 12, "IDX-1"), (b"INDX", 5, "B", 0, "IDX-4"),
    (b"INDX", 5, "B", 3, "IDX-1"), (b"INDX", 6, "H", 1, "IDX-1"), (b"INDX", 8, "Q", 64, "IDX-2"),
    (b"INDX", 16, "Q", 64, "IDX-2"), (b"INDX", 24, "Q", 1, "IDX-1"),
    (b"INDX", 32, "I", 26, "IDX-3"), (b"INDX", 36, "I", 1, "CHK-9"), (b"FOOT", 0, "Q", 64, "FOT-2"),
    (b"FOOT", 8, "Q", 64, "FOT-3"), (b"FOOT", 24, "Q", 1, "FOT-1"), (b"CHNK", -16, "I", 1, "CHK-1"),
    (b"CHNK", -12, "B", 2, "CHK-5"), (b"CHNK", -11, "B", 3, "FRM-5"),
    (b"CHNK", -11, "B", 1, "CHK-3"), (b"CHNK", -11, "B", 2, "CHK-2"),
    (b"CHNK", -11, "B", 4, "CHK-4"), (b"CHNK", -12, "B", 0, "CHK-8"), (b"CHNK", 0, "B", 1, "CHK-8"),
    (b"CHNK", -32, "I", 9, "FRM-2"), (b"SLSC", 0, "d", math.nan, "SLS-1"),
    (b"CODC", -24, "Q", 2**20, "FRM-8"), (b"CHNK", -24, "Q", 2**30, "CHK-6"),
    (b"CODC", -28, "4s", b"xYZw", "HED-1"), (b"rOIB", 54, "B", 1, "FRM-7"),
    (b"nIFt", 0, "i", 540, "MET-1"), (b"nIFt", 40, "h", 4, "MET-1"),
    (b"nIFt", 70, "h", 2, "MET-1"), (b"nIFt", 108, "f", 0.0, "MET-1"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "at", "form", "value", "rule"), WRONG_FIELDS)
def test_a_wrong_field_names_its_rule(
    kind: bytes, at: int, form: str, value: Any, rule: str
) -> None:
    data = WITH_METADATA["tail index"]
    assert refusal(patched(data, payload_at(data, kind) + at, form, value)).rule == rule


@pytest.mark.parametrize(
    ("at", "form", "value", "rule"),
    [
        (0, "B", 0x88, "PFX-1"), (8, "B", 2, "PFX-2"), (10, "H", 68, "PFX-3"),
        (10, "H", 0, "PFX-3"), (12, "I", 64, "PFX-8"), (12, "I", 1001, "PFX-8"),
        (16, "Q", 4, "PFX-7"), (16, "Q", 2, "BKG-2"), (36, "I", 0x7F, "PFX-9"),
        (40, "Q", 64, "PFX-11"), (56, "B", 2, "PFX-5"), (57, "B", 1, "PFX-6"),
    ],
)  # fmt: skip
def test_a_wrong_prefix_names_its_rule(at: int, form: str, value: int, rule: str) -> None:
    assert refusal(patched(build(Sample()), at, form, value), opening=True).rule == rule


@pytest.mark.parametrize(
    ("kind", "at", "rule"), [(b"GEOM", 8, "FRM-6"), (b"GEOM", -12, "FRM-1"), (b"MRO", -20, "PFX-4")]
)
def test_a_changed_byte_breaks_a_checksum(kind: bytes, at: int, rule: str) -> None:
    data = bytearray(small())
    data[payload_at(data, kind) + at] ^= 1
    assert refusal(bytes(data)).rule == rule


def test_the_head_is_bound_to_the_footer() -> None:
    data = bytearray(small())
    at = data.index(b"by hand")  # informative: nothing but CRC and digest covers it
    data[at : at + 7] = b"by foot"
    footer = bytes(data[-32:])
    data = bytearray(repair(data))
    data[-32:] = footer
    data[-40:-36] = struct.pack("<I", zlib.crc32(footer))
    data[-36:-32] = struct.pack("<I", zlib.crc32(data[-64:-36]))
    assert refusal(bytes(data), opening=True).rule == "FOT-4"


def test_the_index_is_where_the_prefix_says() -> None:
    data = build(Sample(), front=True)
    assert refusal(patched(data, 40, "Q", 64)).rule == "PFX-10"
    assert refusal(patched(data, 40, "Q", 0)).rule == "LAY-2"
    early = (frame(b"INDX", b""), frame(b"pADd", b""))
    assert refusal(build(Sample(), head=early)).rule == "HED-2"


def test_the_roi_record_is_required() -> None:
    data = small()
    head_size = int.from_bytes(data[12:16], "little")
    short = data[:64] + data[64 + 32 + 56 :]
    assert refusal(patched(short, 12, "I", head_size - 88), opening=True).rule == "ROI-1"


def test_a_chunk_of_no_voxels_is_stored() -> None:
    data = build(SAMPLES["residue, a slab inside"][0])
    at = data.index(struct.pack("<Q", 0), data.index(b"CHNK")) - 4
    while data[at : at + 4] != b"CHNK":
        at = data.index(struct.pack("<Q", 0), at + 5) - 4
    for flags in (0, 1):
        assert refusal(patched(data, at + 17, "B", flags)).rule == "CHK-7"


@pytest.mark.parametrize(("at", "form", "value"), [(9, "B", 7), (24, "Q", 9), (32, "I", 9)])
def test_what_a_reader_does_not_know_and_may_ignore_it_ignores(
    at: int, form: str, value: int
) -> None:
    sample = Sample()
    assert decode.verify(patched(build(sample), at, form, value)).volume() == sample.volume


def test_the_command_prints_the_digest_of_the_volume(tmp_path: Path) -> None:
    sample = Sample()
    path = tmp_path / "a.mroi"
    path.write_bytes(build(sample))
    command = [sys.executable, str(DECODE), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert hashlib.sha256(sample.volume).hexdigest() in done.stdout
    path.write_bytes(build(sample)[:-1])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "LAY-4" in done.stderr
