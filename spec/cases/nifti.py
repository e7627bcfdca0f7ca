"""NIfTI files written by hand from the field tables of NIfTI-1 and NIfTI-2."""

from __future__ import annotations

import struct
from typing import Any

from cases.sample import SWAPS, Sample
from reference.layout import Part

EXTENSION = struct.pack("<ii", 32, 6) + b"a comment, padded to 24."


def nifti1_header(
    geom: dict[str, Any], vox_offset: float, *, big_endian: bool = False, pair: bool = False
) -> bytes:
    """Return the 348 bytes of a NIfTI-1 header with an sform, for the values of a `Geom`."""
    order = ">" if big_endian else "<"
    dim = [geom["ndim"], *geom["shape"]]
    slope, inter = geom.get("slope", 1.0), geom.get("inter", 0.0)
    return b"".join(
        (
            struct.pack(f"{order}i10s18sihsB", 348, b"", b"", 0, 0, b"r", 0),
            struct.pack(f"{order}8h3fhhhh", *dim, 0, 0, 0, 0, geom["datatype"], bits(geom), 0),
            struct.pack(f"{order}8f3f", 1, *geom["spacing"], vox_offset, slope, inter),
            struct.pack(f"{order}hBBffffii", 0, 0, geom["xyzt_units"], 0, 0, 0, 0, 0, 0),
            struct.pack(f"{order}80s24shh", b"made by hand", b"", 0, geom["xform_code"]),
            struct.pack(f"{order}6f12f", *[0] * 6, *geom["affine"]),
            struct.pack("16s4s", b"", b"ni1\0" if pair else b"n+1\0"),
        )
    )


def nifti2_header(
    geom: dict[str, Any], vox_offset: int, *, big_endian: bool = False, pair: bool = False
) -> bytes:
    """Return the 540 bytes of a NIfTI-2 header with an sform."""
    order = ">" if big_endian else "<"
    dim = [geom["ndim"], *geom["shape"]]
    slope, inter = geom.get("slope", 1.0), geom.get("inter", 0.0)
    magic = (b"ni2\0" if pair else b"n+2\0") + b"\r\n\x1a\n"
    return b"".join(
        (
            struct.pack(
                f"{order}i8shh8q3d", 540, magic, geom["datatype"], bits(geom), *dim, 0, 0, 0
            ),
            struct.pack(f"{order}8dqdd", 1, *geom["spacing"], vox_offset, slope, inter),
            struct.pack(f"{order}ddddqq", 0, 0, 0, 0, 0, 0),
            struct.pack(f"{order}80s24sii", b"made by hand", b"", 0, geom["xform_code"]),
            struct.pack(f"{order}6d12d", *[0] * 6, *geom["affine"]),
            struct.pack(f"{order}iii16sB15s", 0, geom["xyzt_units"], 0, b"", 0, b""),
        )
    )


def bits(geom: dict[str, Any]) -> int:
    """Return `bitpix`."""
    return 8 * geom["itemsize"]


def source_voxels(sample: Sample, *, big_endian: bool) -> bytes:
    """Return the voxels as the source had them."""
    data = sample.volume_bytes()
    if not big_endian:
        return data
    size = SWAPS.get(sample.datatype, sample.itemsize)
    return b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))


def with_nifti(
    sample: Sample,
    *,
    version: int = 1,
    big_endian: bool = False,
    gzipped: bool = False,
    after: bytes = bytes(4),
    image_gap: bytes | None = None,
    trailing: bytes = b"",
) -> Sample:
    """Return the sample as if it came from a NIfTI file, with the frames that give it back.

    `after` is what follows the fixed header: four bytes that say whether there are extensions,
    the extensions, a gap. `image_gap` makes it a pair; it stands before the voxels in its image
    file. `trailing` follows the voxels.
    """
    pair = image_gap is not None
    sample.geom = {
        "source_kind": version + 2 * pair,
        "source_flags": big_endian | gzipped << 1,
        "xyzt_units": 2,
        "xform_code": 1,
    } | dict(sample.geom)
    make, size = (nifti1_header, 348) if version == 1 else (nifti2_header, 540)
    vox_offset = len(image_gap) if pair else size + len(after)
    header = make(sample.geom_values(), vox_offset, big_endian=big_endian, pair=pair) + after
    assert len(header) == size + len(after)
    body = source_voxels(sample, big_endian=big_endian)
    sample.source = header + (image_gap or b"") + body + trailing
    frames = [
        Part(b"nIFt", data, number)
        for number, data in enumerate((header, trailing, image_gap))
        if data
    ]
    sample.tail = [*sample.tail, *frames]
    sample.digests = (1, 2, 3)
    return sample
