"""A volume in memory, the file that holds it, and what a reader must find in that file.

The chunks are cut here from the text of the specification alone (section 7), in the plainest way:
voxels are opaque elements of a numpy array with the axes x, y, z and those beyond.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from reference import layout
from reference.layout import Draft, Part

ITEMSIZES = {
    2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1,
    512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16, 1792: 16, 2048: 32, 2304: 4,
}  # fmt: skip
SAMPLES = {128: 3, 2304: 4}
SWAPS = {32: 4, 128: 1, 1792: 8, 2048: 16, 2304: 1}  # bytes reversed together, if not an element

STATES = {"encoded": 0, "const": 1, "stored": 2, "missing": 4}
CORE = {"raw", "zstd", "deflate"}  # what every reader decodes
RECOMMENDED = {"calv"}  # and what it should (REG-1)
FILTERS = {"bias", "cast", "planar", "window"}
POLICIES = ("OMIT", "FILL_VERIFIED", "RESIDUE_EXACT", "RESIDUE_LOSSY", "FILL_LOSSY")


def sha256(data: bytes) -> str:
    """Return the digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def voxels(shape: Sequence[int], datatype: int) -> NDArray[Any]:
    """Return a volume of reproducible noise: every bit pattern may occur, also NaN."""
    size = math.prod(shape) * ITEMSIZES[datatype]
    noise = hashlib.shake_128(f"{tuple(shape)} {datatype}".encode()).digest(size)
    return from_bytes(noise, shape, datatype)


def ramp(shape: Sequence[int], datatype: int = 4) -> NDArray[Any]:
    """Return a volume that compresses: integers that grow slowly along x, y, z."""
    grid = np.indices(shape)
    values = sum((3 * axis + 1) * plane for axis, plane in enumerate(grid)) - 4
    size = ITEMSIZES[datatype]
    data = b"".join(int(v).to_bytes(size, "little", signed=True) for v in values.ravel("F"))
    return from_bytes(data, shape, datatype)


def from_bytes(data: bytes, shape: Sequence[int], datatype: int) -> NDArray[Any]:
    """Return the volume of these bytes, x fastest, elements little-endian."""
    elements = np.frombuffer(data, dtype=f"V{ITEMSIZES[datatype]}").copy()
    return elements.reshape(tuple(shape), order="F")


def content(part: Part) -> bytes:
    """Return the payload of a metadata frame, inflated if it is compressed."""
    if not part.flags:
        return part.payload
    return zstandard.ZstdDecompressor().decompress(part.payload, allow_extra_data=False)


@dataclass(frozen=True)
class Slot:
    """One entry of CODC, and how its payloads are made from the bytes of a decoded chunk."""

    name: str
    id: int
    encode: Callable[[bytes, int], bytes] = lambda data, _size: data
    params: Mapping[str, Any] = field(default_factory=dict)
    filters: Sequence[Mapping[str, Any]] = ()
    role: int = 0
    fidelity: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether a reader that has all that is required and recommended can decode it."""
        return (
            self.name in CORE | RECOMMENDED and {step["name"] for step in self.filters} <= FILTERS
        )


RAW = Slot("raw", 1)
RAW_BACKGROUND = Slot("raw", 1, role=1)


@dataclass
class Sample:
    """A volume, how it is to be stored, and `build`.

    Attributes
    ----------
    voxels : ndarray
        Opaque elements, axes x, y, z and beyond, as many as the file is to have.
    roi : tuple of (start, stop) or None
        On the three spatial axes; None for the whole volume.
    chunk_shape : tuple of int or None
        Along x, y, z, and axis 3 if it is not 1; None for one slice of the ROI.
    states, slots : dict
        Ordinal to the state and the slot of a chunk; others are encoded, by the first slot of
        their role.
    payloads : dict
        Ordinal to a payload to be used instead of what the slot makes.
    geom, options : dict
        Further values of `Geom`, further arguments of `build_file`.
    """

    voxels: NDArray[Any]
    datatype: int = 2
    roi: Sequence[tuple[int, int]] | None = None
    chunk_shape: Sequence[int] | None = None
    slice_axis: int = 2
    background: int = 1
    fill: bytes = b""
    codecs: Sequence[Slot] = (RAW,)
    states: Mapping[int, str] = field(default_factory=dict)
    slots: Mapping[int, int] = field(default_factory=dict)
    payloads: Mapping[int, bytes] = field(default_factory=dict)
    head: Sequence[Part] = ()
    preface: Sequence[Part] = ()
    tail: Sequence[Part] = ()
    digests: Sequence[int] = ()
    source: bytes | None = None
    geom: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ndim = self.voxels.ndim
        self.shape = (*self.voxels.shape, *[1] * (7 - self.ndim))
        self.voxels = self.voxels.reshape(self.shape)
        self.roi = self.roi or [(0, n) for n in self.shape[:3]]
        self.fill = self.fill or bytes(self.itemsize)
        fast, slow = (axis for axis in range(3) if axis != self.slice_axis)
        self.scan = (self.slice_axis, slow, fast)
        self.extent = [stop - start for start, stop in self.roi]
        if self.chunk_shape is None:
            self.chunk_shape = [1 if a == self.slice_axis else self.extent[a] for a in range(3)]
        self.chunk_shape = [*self.chunk_shape, 1][:4]
        self.outside = np.ones(self.shape[:3], dtype=bool)
        self.outside[tuple(slice(*bounds) for bounds in self.roi)] = False
        if self.background in (1, 4):
            self.voxels = self.voxels.copy()
            self.voxels[self.outside] = np.frombuffer(self.fill, self.voxels.dtype)[0]

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEMSIZES[self.datatype]

    # -- chunks, by the words of section 7 -----------------------------------------------------

    def groups(self) -> Iterator[NDArray[Any]]:
        """Yield the volumes that chunks span, (axis 3, x, y, z); those along axis 3 fastest."""
        for index in itertools.product(*(range(n) for n in self.shape[:3:-1])):
            series = np.moveaxis(self.voxels[(..., *index[::-1])], 3, 0)
            for first in range(0, self.shape[3], self.chunk_shape[3]):
                yield series[first : first + self.chunk_shape[3]]

    def roi_chunks(self) -> Iterator[bytes]:
        """Yield the decoded chunks of the ROI."""
        for group in self.groups():
            cuts = [
                range(self.roi[axis][0], self.roi[axis][1], self.chunk_shape[axis])
                for axis in self.scan
            ]
            for starts in itertools.product(*cuts):
                box: list[slice] = [slice(0)] * 3
                for axis, start in zip(self.scan, starts, strict=True):
                    stop = min(start + self.chunk_shape[axis], self.roi[axis][1])
                    box[axis] = slice(start, stop)
                yield b"".join(
                    volume[tuple(box)].transpose(self.scan).tobytes() for volume in group
                )

    def background_chunks(self) -> Iterator[bytes]:
        """Yield the decoded background chunks."""
        if self.background not in (2, 3):
            return
        slab = self.chunk_shape[self.slice_axis]
        outside = self.outside.transpose(self.scan)
        for group in self.groups():
            for start in range(0, self.shape[self.slice_axis], slab):
                part = slice(start, start + slab)
                yield b"".join(
                    volume.transpose(self.scan)[part][outside[part]].tobytes() for volume in group
                )

    def decoded(self) -> list[bytes]:
        """Return all decoded chunks, in order."""
        return [*self.roi_chunks(), *self.background_chunks()]

    def state(self, ordinal: int, data: bytes) -> str:
        """Return the state of a chunk; one of no voxels is stored (CHK-2)."""
        return self.states.get(ordinal, "encoded" if data else "stored")

    def parts(self) -> list[Part]:
        """Return the CHNK frames."""
        first_background = len(list(self.roi_chunks()))
        sample = self.itemsize // SAMPLES.get(self.datatype, 1)
        parts = []
        for ordinal, data in enumerate(self.decoded()):
            role = int(ordinal >= first_background)
            roles = [slot.role for slot in self.codecs]
            slot = self.slots.get(ordinal, roles.index(role))
            state = self.state(ordinal, data)
            payload = {
                "encoded": lambda d, s=slot: self.codecs[s].encode(d, sample),
                "const": lambda d: d[: self.itemsize],
                "stored": lambda d: d,
                "missing": lambda _: b"",
            }[state](data)
            crc = 0 if state == "missing" else zlib.crc32(data)
            payload = self.payloads.get(ordinal, payload)
            parts.append(Part(b"CHNK", payload, ordinal, slot, STATES[state], crc))
        return parts

    # -- file ----------------------------------------------------------------------------------

    def geom_values(self) -> dict[str, Any]:
        """Return the values of GEOM."""
        affine = [2.0, 0, 0, -30, 0, 2.5, 0, -40, 0, 0, 3, -50]
        values = {
            "ndim": self.ndim,
            "slice_axis": self.slice_axis,
            "datatype": self.datatype,
            "itemsize": self.itemsize,
            "bits_stored": min(255, 8 * self.itemsize // SAMPLES.get(self.datatype, 1)),
            "shape": list(self.shape),
            "roi_start": [start for start, _ in self.roi],
            "roi_stop": [stop for _, stop in self.roi],
            "chunk_shape": list(self.chunk_shape),
            "background": self.background,
            "spacing": [2.0, 2.5, 3.0, *[1.0] * 4][: self.ndim] + [0.0] * (7 - self.ndim),
            "affine": [float(value) for value in affine],
            "fill": (self.fill if self.background in (1, 4) else b"").ljust(32, b"\0"),
            "roi_chunks": len(list(self.roi_chunks())),
            "background_chunks": len(list(self.background_chunks())),
        }
        return values | self.geom

    def volume_bytes(self) -> bytes:
        """Return the decoded full volume: x fastest, elements little-endian."""
        return self.voxels.tobytes(order="F")

    def digest_parts(self) -> list[Part]:
        """Return the dIGE frames that were asked for."""
        covered = {
            1: b"".join(self.roi_chunks()),
            2: self.volume_bytes(),
            3: self.source or b"",
        }
        return [
            Part(
                b"dIGE",
                layout.Digest.build(
                    {"scope": scope, "sha256": hashlib.sha256(covered[scope]).digest()}
                ),
                scope,
            )
            for scope in self.digests
        ]

    def build(self, fault: Callable[[Draft], None] | None = None) -> bytes:
        """Return the bytes of the file."""
        entries = [
            layout.codec_entry(
                slot.name,
                slot.id,
                slot.params,
                filters=slot.filters,
                **{"role": slot.role, "fidelity": slot.fidelity} | dict(slot.fields),
            )
            for slot in self.codecs
        ]
        return layout.build_file(
            self.geom_values(),
            entries,
            self.parts(),
            head=self.head,
            preface=self.preface,
            tail=[*self.tail, *self.digest_parts()],
            fault=fault,
            **self.options,
        )

    def expectation(self) -> dict[str, Any]:
        """Return what a reader must find, as JSON values."""
        geometry = {
            name: value.rstrip(b"\0").hex() if isinstance(value, bytes) else value
            for name, value in (
                {
                    "source_kind": 0,
                    "source_flags": 0,
                    "xyzt_units": 0,
                    "slope": 1.0,
                    "inter": 0.0,
                    "xform_code": 0,
                }
                | self.geom_values()
            ).items()
            if name != "extra"
        }
        chunks = [
            [
                next(name for name, flag in STATES.items() if flag == part.flags),
                part.slot,
                len(part.payload),
            ]
            for part in self.parts()
        ]
        missing = [number for number, chunk in enumerate(chunks) if chunk[0] == "missing"]
        roi_missing = [n for n in missing if n < geometry["roi_chunks"]]
        has_volume = self.background != 0 and not missing
        needed = [self.codecs[slot] for state, slot, _ in chunks if state == "encoded"]
        frames = [
            [part.type.decode(), part.ordinal, sha256(content(part))]
            for part in (*self.head, *self.preface, *self.tail, *self.digest_parts())
            if part.type not in {b"SLSC", b"pADd"}
        ]
        return {
            "geometry": geometry,
            "background": POLICIES[self.background],
            "codecs": [slot.name for slot in self.codecs],
            "decodable": all(slot.is_known for slot in needed),
            "frames": frames,
            "chunks": chunks,
            "missing": missing,
            "roi_sha256": None if roi_missing else sha256(b"".join(self.roi_chunks())),
            "volume_sha256": sha256(self.volume_bytes()) if has_volume else None,
            "source_sha256": None if self.source is None else sha256(self.source),
        }
