"""Valid files: every feature of the format, each in a file as small as it can be."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from cases import calv_files, overview
from cases.nifti import EXTENSION, with_nifti
from cases.payloads import deflate, recorded, zlib_stream, zstd, zstd_frame
from cases.sample import RAW, RAW_BACKGROUND, Sample, Slot, from_bytes, ramp, voxels
from reference.layout import DicomRecords, Part, SlicePositions, SliceRescale, json_bytes

Case = tuple[str, str, Sample]

DATATYPES = {
    2: "uint8", 4: "int16", 8: "int32", 16: "float32", 32: "complex64", 64: "float64",
    128: "rgb24", 256: "int8", 512: "uint16", 768: "uint32", 1024: "int64", 1280: "uint64",
    1536: "float128", 1792: "complex128", 2048: "complex256", 2304: "rgba32",
}  # fmt: skip

ROI = [(1, 3), (1, 4), (0, 2)]
TAIL = {"index": "tail"}

# A ramp of 12 x 10 int16, compressed once by zstandard 0.25 (level 19) and zlib 1.2.13 (level 9).
ZSTD_RAMP = (
    "28b52ffd20f00d03008205131ca02f07d0ffffffffffffffffde5e7ffdf5d75f7ffdf5d75f7ffd9f02aba7a3"
    "9fe6e5e4a37838f8e7ddcdbd6967635fd6d5d4937434f4e3dcccbc2827231f1b17130f0b07037fef6d2f7bd7"
    "09a8109edeef01d0f310fe291f18c6b89402"
)
ZLIB_RAMP = (
    "78da65c7b50102000c00b0e0eeeeeeff7f07949d66cb3b3ef18d080a8a4aca2aaa6afe5fd7d0d44a6febe8ea"
    "a5f70d0c8dd2c726a666e9730b4babf4b58dad5dfadec1d129fdece2ea967ef7f0f4f203356e1121"
)


def minimal() -> Sample:
    """Return the file of Annex A."""
    values = bytes(range(48))
    return Sample(from_bytes(values, (4, 4, 3), 2), roi=[(1, 3)] * 3, options=TAIL)


def cases() -> Iterator[Case]:
    """Yield the name, the description and the sample of every valid vector."""
    yield "minimal", "uint8, raw, one slice in a chunk, index at the tail: Annex A", minimal()
    yield from datatypes()
    yield from grids()
    yield from indices()
    yield from backgrounds()
    yield from states()
    yield from codecs()
    yield from filters()
    yield from dimensions()
    yield from nifti()
    yield from metadata()
    yield from overview.valid()
    yield from later_versions()
    yield from calv_files.valid()  # last: what every reader decodes comes before


def datatypes() -> Iterator[Case]:
    """Yield one file for each datatype, noise in all of its bits."""
    for code, name in DATATYPES.items():
        sample = Sample(voxels((4, 4, 2), code), code, ROI, fill=b"")
        yield f"datatype-{name}", f"datatype {code}", sample
    yield (
        "bits-stored",
        "12 significant bits in uint16",
        Sample(from_bytes(bytes([0xFF, 0x0F]) * 8, (4, 2, 1), 512), 512, geom={"bits_stored": 12}),
    )
    yield (
        "float-payloads",
        "negative zero, infinities, subnormals and NaNs with payloads keep their bits",
        Sample(
            from_bytes(
                struct.pack("<6I", 1 << 31, 0x7F800000, 0xFF800000, 1, 0x7FA00001, 0xFFC0BEEF),
                (3, 2, 1),
                16,
            ),
            16,
        ),
    )


def grids() -> Iterator[Case]:
    """Yield slice axes and chunk grids, with short chunks at each edge."""
    roi = [(1, 5), (0, 3), (2, 5)]
    for axis, name in enumerate("xyz"):
        yield (
            f"slice-axis-{name}",
            f"one slice across {name} in a chunk",
            Sample(voxels((6, 4, 5), 4), 4, roi, slice_axis=axis),
        )
    yield (
        "slabs",
        "slabs of two slices, the last one short",
        Sample(voxels((6, 4, 5), 4), 4, roi, chunk_shape=(4, 3, 2)),
    )
    for axis, name in enumerate("xyz"):
        yield (
            f"blocks-{name}",
            f"blocks of 3 x 2 x 2, short at all far faces, slice axis {name}",
            Sample(voxels((6, 4, 5), 2), 2, roi, chunk_shape=(3, 2, 2), slice_axis=axis),
        )
    yield (
        "one-chunk",
        "the whole ROI in one chunk",
        Sample(voxels((6, 4, 5), 2), 2, roi, chunk_shape=(4, 3, 3)),
    )
    yield (
        "one-voxel-chunks",
        "a chunk for each voxel",
        Sample(voxels((3, 2, 2), 2), 2, [(0, 2), (0, 2), (0, 2)], chunk_shape=(1, 1, 1)),
    )
    yield (
        "complex-shuffled",
        "complex64 is one sample of 8 bytes, for shuffle, too",
        Sample(voxels((5, 4, 2), 32), 32, codecs=(zstd(shuffle=True),)),
    )
    yield (
        "complex-shuffled-deflate",
        "complex128 is one sample of 16 bytes",
        Sample(voxels((3, 4, 2), 1792), 1792, codecs=(deflate(shuffle=True),)),
    )
    yield (
        "chunks-of-volumes",
        "chunks of two slices of two volumes, of five; the last ones short",
        Sample(voxels((4, 3, 3, 5), 4), 4, [(1, 4), (0, 2), (0, 3)], chunk_shape=(3, 2, 2, 2)),
    )
    yield (
        "chunks-of-volumes-5d",
        "chunks of two volumes along axis 3, never across axis 4, slice axis x",
        Sample(voxels((3, 2, 2, 3, 2), 2), 2, chunk_shape=(2, 2, 1, 2), slice_axis=0),
    )
    yield (
        "chunk-of-all-volumes",
        "one chunk for each column of voxels, over all of time",
        Sample(voxels((2, 2, 2, 4), 16), 16, chunk_shape=(1, 1, 1, 4)),
    )
    yield (
        "roi-far-corner",
        "a ROI of one voxel, the last one",
        Sample(voxels((3, 3, 3), 2), 2, [(2, 3)] * 3),
    )
    yield "one-voxel", "a volume of one voxel", Sample(voxels((1, 1, 1), 2))


def indices() -> Iterator[Case]:
    """Yield both places of the index, both sizes of its entries, with and without decoded CRCs."""
    for place in ("head", "tail"):
        for size in (8, 16):
            for crcs in (True, False):
                name = f"index-{place}-{size}" + ("" if crcs else "-no-crc")
                options = {"index": place, "entry_size": size, "decoded_crcs": crcs}
                text = f"index in the {place}, entries of {size} bytes"
                sample = Sample(voxels((4, 4, 3), 2), 2, [(1, 3)] * 3, options=options)
                yield name, text + (", decoded CRCs" if crcs else ", no decoded CRCs"), sample


def backgrounds() -> Iterator[Case]:
    """Yield the five policies."""
    volume, roi = voxels((5, 4, 4), 4), [(1, 4), (1, 3), (1, 3)]
    both = (RAW, RAW_BACKGROUND)
    yield "background-omit", "policy 0: no full volume", Sample(volume, 4, roi, background=0)
    yield (
        "background-fill-verified",
        "policy 1 with a fill that is not zero",
        Sample(volume, 4, roi, fill=b"\x18\xfc"),
    )
    yield (
        "background-residue-exact",
        "policy 2: slabs of one plane, the outer ones whole, the inner ones a ring",
        Sample(volume, 4, roi, background=2, codecs=both),
    )
    yield (
        "background-residue-lossy",
        "policy 3: the stored background is not that of the source",
        Sample(volume, 4, roi, background=3, codecs=(RAW, Slot("raw", 1, role=1, fidelity=3))),
    )
    yield (
        "background-fill-lossy",
        "policy 4",
        Sample(volume, 4, roi, background=4, fill=b"\x01\x00"),
    )
    yield (
        "background-empty-chunks",
        "policy 2, planes that lie in the ROI leave background chunks of no voxels",
        Sample(voxels((3, 3, 4), 2), 2, [(0, 3), (0, 3), (1, 3)], background=2, codecs=both),
    )
    yield (
        "background-slabs-4d",
        "policy 2, slabs of three planes across x, two volumes",
        Sample(
            voxels((5, 3, 3, 2), 2),
            2,
            [(1, 5), (0, 2), (1, 3)],
            chunk_shape=(3, 1, 2),
            slice_axis=0,
            background=2,
            codecs=(RAW_BACKGROUND, RAW),
            options=TAIL,
        ),
    )
    yield (
        "background-of-volumes",
        "policy 2, background chunks of two planes of two volumes, of three",
        Sample(
            voxels((3, 4, 3, 3), 4),
            4,
            [(0, 3), (1, 3), (1, 3)],
            chunk_shape=(3, 1, 2, 2),
            background=2,
            codecs=(RAW, RAW_BACKGROUND),
        ),
    )
    yield (
        "background-one-voxel-roi",
        "policy 2, nearly everything is background",
        Sample(voxels((3, 3, 2), 128), 128, [(1, 2), (1, 2), (0, 1)], background=2, codecs=both),
    )


def states() -> Iterator[Case]:
    """Yield the states of a chunk."""
    volume = voxels((3, 3, 4), 4)
    volume[:, :, 1] = volume[0, 0, 1]
    yield (
        "chunk-states",
        "an encoded, a constant and a stored chunk",
        Sample(volume, 4, codecs=(zstd(),), states={1: "const", 2: "stored"}),
    )
    yield (
        "chunk-const-rgb",
        "a constant chunk holds one element of three samples",
        Sample(from_bytes(b"\x01\x02\x03" * 8, (4, 2, 1), 128), 128, states={0: "const"}),
    )
    yield (
        "chunk-missing",
        "salvaged: chunk 1 of the ROI is missing",
        Sample(volume, 4, states={1: "missing"}, options=TAIL),
    )
    yield (
        "chunk-missing-background",
        "salvaged: the ROI is whole, two background chunks are missing, one of them empty",
        Sample(
            voxels((3, 3, 3), 2),
            2,
            [(0, 3), (0, 3), (0, 2)],
            background=2,
            codecs=(RAW, RAW_BACKGROUND),
            states={3: "missing", 4: "missing"},
        ),
    )
    background = voxels((3, 3, 2), 2)
    background[0] = background[0, 0, 0]
    yield (
        "chunk-const-background",
        "constant background chunks",
        Sample(
            background,
            2,
            [(1, 3), (0, 3), (0, 2)],
            background=2,
            codecs=(RAW, RAW_BACKGROUND),
            states={2: "const", 3: "const"},
        ),
    )


def codecs() -> Iterator[Case]:
    """Yield the codecs that every reader has, and some that none has."""
    volume = ramp((6, 5, 2), 4)
    for name, make in (("zstd", zstd), ("deflate", deflate)):
        for shuffle in (False, True):
            for delta in (False, True):
                steps = "-shuffle" * shuffle + "-delta" * delta
                sample = Sample(volume, 4, codecs=(make(shuffle=shuffle, delta=delta),))
                yield f"codec-{name}{steps}", f"{name}{steps}".replace("-", ", "), sample
    flat = ramp((12, 10, 1), 4)
    content = flat.tobytes(order="F")
    yield (
        "codec-zstd-compressed",
        "a Zstandard frame with compressed blocks",
        Sample(flat, 4, codecs=(zstd(),), payloads={0: recorded(ZSTD_RAMP, content)}),
    )
    yield (
        "codec-deflate-compressed",
        "a zlib stream with a compressed block",
        Sample(flat, 4, codecs=(deflate(),), payloads={0: recorded(ZLIB_RAMP, content)}),
    )
    yield (
        "codec-delta-rgba",
        "differences of each of four samples, and a shuffle that does nothing",
        Sample(
            from_bytes(bytes(range(0, 96, 3)), (4, 2, 1), 2304),
            2304,
            codecs=(Slot("zstd", 2, _delta_rgba, {"delta": True, "shuffle": True}),),
        ),
    )
    yield (
        "codec-slots",
        "three slots for the ROI, chosen chunk by chunk, and one for the background",
        Sample(
            voxels((4, 3, 3), 4),
            4,
            [(0, 3), (0, 3), (0, 3)],
            background=2,
            codecs=(zstd(), RAW, deflate(), deflate(role=1, shuffle=True)),
            slots={0: 2, 1: 1},
        ),
    )
    yield (
        "codec-16-slots",
        "the largest table of slots",
        Sample(voxels((2, 2, 1), 2), 2, codecs=(RAW,) * 16, slots={0: 15}),
    )
    yield (
        "codec-unknown-name",
        "a codec of a third party: opens, cannot be decoded",
        Sample(voxels((3, 2, 2), 2), 2, codecs=(Slot("org.example.codec", 0, params={"a": 1}),)),
    )
    yield (
        "codec-unknown-number",
        "a codec that a later registry may have: opens, cannot be decoded",
        Sample(voxels((3, 2, 2), 2), 2, codecs=(Slot("later", 9999),)),
    )
    yield (
        "codec-unknown-filter",
        "a filter that no reader has: opens, cannot be decoded",
        Sample(
            voxels((3, 2, 2), 2),
            2,
            codecs=(Slot("raw", 1, filters=[{"name": "org.example.filter", "params": {}}]),),
        ),
    )
    yield (
        "codec-unknown-but-stored",
        "no chunk needs the codec that is not there",
        Sample(
            voxels((3, 2, 2), 2),
            2,
            codecs=(Slot("org.example.codec", 0),),
            states={0: "stored", 1: "stored"},
        ),
    )
    yield (
        "codec-entry-details",
        "a name of 63 bytes, not deterministic, members in any order and with white space",
        Sample(
            voxels((2, 2, 1), 2),
            2,
            codecs=(
                Slot(
                    "org." + "x" * 59,
                    0,
                    fidelity=2,
                    fields={
                        "flags": 0,
                        "bitstream_version": 7,
                        "params": (
                            '{"params" : {"é":"\\ud83d\\ude00"}, "impl":"", "filters":[],\n'
                            ' "encoder":{"effort":9007199254740991,"deep":[[[[[[-1e-9]]]]]]}}'
                        ).encode(),
                    },
                ),
            ),
        ),
    )


def _delta_rgba(data: bytes, _size: int) -> bytes:
    voxel = [data[:4], *(data[at : at + 4] for at in range(4, len(data), 4))]
    before = [bytes(4), *voxel[:-1]]
    return zstd_frame(
        bytes(
            (a - b) % 256
            for now, then in zip(voxel, before, strict=True)
            for a, b in zip(now, then, strict=True)
        )
    )


def filters() -> Iterator[Case]:
    """Yield the filters of the registry, before the codec `raw`."""

    def filtered(
        name: str, encode: Callable[[bytes], bytes], *, fidelity: int = 1, **params: object
    ) -> Slot:
        steps = [{"name": name, "params": params}]
        return Slot("raw", 1, lambda data, _: encode(data), filters=steps, fidelity=fidelity)

    def converted(source: str, target: str, change: Callable[[Any], int]) -> Callable[..., bytes]:
        def encode(data: bytes) -> bytes:
            values = struct.unpack(f"<{len(data) // struct.calcsize(source)}{source}", data)
            return struct.pack(f"<{len(values)}{target}", *map(change, values))

        return encode

    bias = converted("h", "H", lambda value: (value + 2048) % 65536)
    yield (
        "filter-bias",
        "bias: int16 to uint16, modulo 2^16",
        Sample(voxels((3, 2, 2), 4), 4, codecs=(filtered("bias", bias, offset=2048),)),
    )
    floats = from_bytes(struct.pack("<8f", *range(-3, 5)), (4, 2, 1), 16)
    yield (
        "filter-cast",
        "cast: float32 that are integers to int8",
        Sample(floats, 16, codecs=(filtered("cast", converted("f", "b", int), dtype="int8"),)),
    )
    planes = filtered("planar", lambda data: data[0::3] + data[1::3] + data[2::3])
    yield (
        "filter-planar",
        "planar: the rows of red, green and blue below one another",
        Sample(voxels((4, 2, 2), 128), 128, codecs=(planes,)),
    )
    # What the codes 0 to 7 decode to: half a unit is rounded to the even integer.
    levels = from_bytes(struct.pack("<8h", -10, -8, -5, -2, 0, 2, 5, 8), (4, 2, 1), 4)
    window = converted("h", "B", lambda value: round((value + 10) / 2.5))
    params = {"scale": 2.5, "offset": -10, "bits": 3, "clip": False}
    yield (
        "filter-window",
        "window: int16 to 3 bits",
        Sample(levels, 4, codecs=(filtered("window", window, fidelity=2, **params),)),
    )
    narrow = converted("i", "h", int)
    both = Slot(
        "deflate",
        3,
        lambda data, _: zlib_stream(bias(narrow(data))),
        {"delta": False, "shuffle": False},
        filters=[
            {"name": "cast", "params": {"dtype": "int16"}},
            {"name": "bias", "params": {"offset": 2048}},
        ],
    )
    wide = ramp((4, 3, 1), 8)
    yield "filter-two", "cast, then bias, then deflate", Sample(wide, 8, codecs=(both,))


def dimensions() -> Iterator[Case]:
    """Yield 1 to 7 dimensions."""
    for ndim, shape in enumerate(
        ((7,), (5, 3), (3, 2, 2), (3, 2, 1, 2), (3, 1, 2, 2, 3), (2, 2, 1, 2, 1, 2), (2,) * 7), 1
    ):
        roi = [(0, 2), (0, 1), (0, 1)] if ndim > 2 else None
        sample = Sample(voxels(shape, 2), 2, roi, slice_axis=min(2, ndim - 1))
        yield f"dimensions-{ndim}", f"{ndim} dimensions: {shape}", sample
    yield (
        "trailing-ones",
        "5 dimensions of which the last are 1",
        Sample(voxels((3, 2, 1, 1, 1), 2)),
    )
    yield (
        "long-axis",
        "an extent of 32768: there is no rOIB",
        Sample(voxels((32768, 1, 1), 2), 2, [(32760, 32768), (0, 1), (0, 1)]),
    )
    yield (
        "longest-axis",
        "an extent of 32767: there is rOIB",
        Sample(voxels((32767, 1, 1), 2), 2, [(32759, 32767), (0, 1), (0, 1)]),
    )
    yield (
        "rescale-slices",
        "SLSC: slope and inter for each slice of the whole extent",
        Sample(voxels((3, 2, 3), 4), 4, [(0, 3), (0, 2), (1, 3)], head=[_rescale(3)]),
    )
    yield (
        "rescale-slices-4d",
        "SLSC of two volumes, slices across y",
        Sample(voxels((2, 3, 2, 2), 4), 4, slice_axis=1, head=[_rescale(6)]),
    )
    yield (
        "rescale",
        "slope and inter of the whole volume, negative slope",
        Sample(voxels((3, 2, 1), 4), 4, geom={"slope": -0.5, "inter": 1024.25}),
    )
    yield (
        "affine-large",
        "a matrix beyond f32: infinities in rOIB; an oblique one with rounding",
        Sample(
            voxels((2, 2, 1), 2),
            geom={
                "affine": [1e300, 0.1, 0, 0, -1e300, 1 / 3, 0, 1e-50, 2**-149, 0, 2**24 + 1, 0],
                "spacing": [0.0, 1e300, 5e-324, 0, 0, 0, 0],
            },
        ),
    )
    yield (
        "affine-singular",
        "an affine of zeros is legal",
        Sample(voxels((2, 2, 1), 2), geom={"affine": [0.0] * 12}),
    )


def _rescale(count: int) -> Part:
    pairs = [{"slope": 0.5 + number, "inter": -float(number)} for number in range(count)]
    return Part(b"SLSC", SliceRescale.build(pairs))


def nifti() -> Iterator[Case]:
    """Yield sources that must be given back byte for byte."""

    def volume(datatype: int = 4) -> Sample:
        return Sample(voxels((4, 3, 3), datatype), datatype, [(1, 4), (0, 2), (1, 3)])

    for version in (1, 2):
        name = f"nifti{version}"
        yield name, f"NIfTI-{version}", with_nifti(volume(), version=version)
        yield (
            f"{name}-big-endian",
            f"NIfTI-{version}, big-endian",
            with_nifti(volume(16), version=version, big_endian=True),
        )
        yield (
            f"{name}-pair",
            f"NIfTI-{version}, a pair of files",
            with_nifti(volume(), version=version, image_gap=b""),
        )
    yield (
        "nifti1-pair-offset",
        "a pair whose image file has bytes before and after the voxels, big-endian",
        with_nifti(volume(512), big_endian=True, image_gap=b"sixteen bytes...", trailing=b"end"),
    )
    yield (
        "nifti1-extension",
        "an extension of 32 bytes",
        with_nifti(volume(), after=b"\1\0\0\0" + EXTENSION),
    )
    yield (
        "nifti2-extension",
        "two extensions",
        with_nifti(volume(), version=2, after=b"\1\0\0\0" + EXTENSION * 2),
    )
    yield (
        "nifti1-odd-offset",
        "a gap of one byte: vox_offset is 353",
        with_nifti(volume(), after=b"\0\0\0\0\xee"),
    )
    yield (
        "nifti1-trailing",
        "bytes after the voxels",
        with_nifti(volume(), trailing=b"more than the header promises"),
    )
    yield "nifti1-gzipped", "the source was gzipped", with_nifti(volume(), gzipped=True)
    for code in (32, 128, 1024, 1536, 2048):
        yield (
            f"nifti1-big-endian-{DATATYPES[code]}",
            f"byte order of datatype {code}",
            with_nifti(volume(code), big_endian=True),
        )
    scaled = volume()
    scaled.geom = {"slope": 0.5, "inter": -1.5}
    yield "nifti1-scaled", "scl_slope and scl_inter", with_nifti(scaled)
    compressed = with_nifti(volume())
    compressed.tail = [
        Part(part.type, zstd_frame(part.payload), part.ordinal, flags=1) for part in compressed.tail
    ]
    yield "nifti1-compressed", "the header is one Zstandard frame", compressed
    residue = Sample(
        voxels((4, 3, 3), 4),
        4,
        [(1, 4), (0, 2), (1, 3)],
        background=2,
        codecs=(zstd(shuffle=True), zstd(role=1)),
        options=TAIL,
    )
    yield "nifti1-residue", "what `pack` makes, into a pipe", with_nifti(residue)


def metadata() -> Iterator[Case]:
    """Yield the other metadata frames, in the head and in the tail."""

    def volume(**fields: object) -> Sample:
        return Sample(voxels((2, 2, 2), 4), 4, **fields)

    positions = Part(b"sLPo", SlicePositions.build([[0.5, -1, 3 * z] for z in range(2)]))
    yield "slice-positions", "sLPo", volume(head=[positions])
    records = DicomRecords.build(
        [
            {"slice": number, "size": 140, "data": bytes(128) + b"DICM" + bytes(range(8))}
            for number in range(2)
        ]
    )
    kind = {"source_kind": 5}
    yield "dicom-records", "dCMh", volume(tail=[Part(b"dCMh", records)], geom=kind)
    yield (
        "dicom-records-compressed",
        "dCMh as one Zstandard frame, in the head",
        volume(head=[Part(b"dCMh", zstd_frame(records), flags=1)], geom=kind),
    )
    upper = [
        DicomRecords.build([{"slice": number, "size": 4, "data": bytes([number, 0, 9, 15])}])
        for number in (1, 0)
    ]
    yield (
        "dicom-upper-bits",
        "bits above bits_stored of both slices, in dCMh 1 and 2",
        volume(
            tail=[Part(b"dCMh", records), *[Part(b"dCMh", d, i + 1) for i, d in enumerate(upper)]],
            geom=kind | {"bits_stored": 12},
        ),
    )
    text = json_bytes(
        {
            "tool": "spec",
            "roi": {"method": "box"},
            "loss": {"background": {"voxels": 0}},
            "unknown": ["é", "😀", 2**53 - 1, -1.5e-300, None, True],
        }
    )
    yield "json", "jSOn in the tail", volume(tail=[Part(b"jSOn", text)])
    yield (
        "json-compressed",
        "jSOn as one Zstandard frame",
        volume(tail=[Part(b"jSOn", zstd_frame(text), flags=1)]),
    )
    deep = b'{"a":' + b"[" * 7 + b"]" * 7 + b"}"
    yield "json-deep", "jSOn in the head, nested 8 deep", volume(head=[Part(b"jSOn", deep)])
    yield "digests", "dIGE of the scopes 1 and 2", volume(digests=(1, 2))
    digest = volume()
    digest.digests = (1,)
    digest.head, digest.digests = digest.digest_parts(), ()
    yield "digest-in-head", "dIGE in the head", digest
    pads = [Part(b"pADd", bytes(24), 0), Part(b"pADd", b"", 7)]
    yield "padding", "pADd in the head, twice, one of them empty", volume(head=pads)
    yield (
        "padding-tail",
        "pADd in the tail, with an odd size",
        volume(tail=[Part(b"pADd", bytes(3))]),
    )
    yield (
        "all-metadata",
        "frames of all types, SLSC between them",
        volume(
            head=[Part(b"jSOn", b"{}"), _rescale(2), positions, Part(b"pADd", bytes(8))],
            tail=[Part(b"dCMh", records)],
            digests=(1, 2),
            geom=kind,
            options=TAIL,
        ),
    )


def later_versions() -> Iterator[Case]:
    """Yield what a later minor version or a third party may add."""

    def volume(**fields: object) -> Sample:
        return Sample(voxels((3, 2, 2), 2), **fields)

    def prefix(**fields: object) -> dict[str, object]:
        return {"prefix": fields}

    yield "later-minor", "version 1.9", volume(options=prefix(version_minor=9))
    yield "later-prefix", "a prefix of 72 bytes", volume(options=prefix(extra=b"more...."))
    yield "longest-prefix", "a prefix of 4096 bytes", volume(options=prefix(extra=b"x" * 4032))
    yield (
        "later-geom",
        "GEOM of 352 bytes",
        volume(geom={"size": 352, "extra": b"more...."}),
    )
    flags = prefix(compat_flags=1 << 63 | 1, autoclear_flags=1 << 31 | 1)
    yield "unknown-flags", "compat and autoclear bits that nobody knows", volume(options=flags)
    public = Part(b"nEWt", b"a frame of a later version")
    yield (
        "unknown-public-frame",
        "an ancillary frame in head and tail, once compressed",
        volume(head=[public], tail=[Part(b"nEWt", zstd_frame(b"part 1"), 1, flags=1)]),
    )
    private = [
        Part(b"exAm", b"plain"),
        Part(b"exAM", zstd_frame(b"compressed"), 4_000_000_000, flags=1),
    ]
    yield (
        "unknown-private-frame",
        "private ancillary frames, one of them compressed",
        volume(tail=private),
    )
    sized = volume(options=TAIL)
    sized.options = TAIL | prefix(file_size=len(sized.build()))
    yield "tail-index-and-size", "index at the tail, but the prefix has the size", sized
    yield "other-sync", "a sync word that is not derived", volume(options=prefix(sync=0x80))
