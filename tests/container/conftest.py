"""Small files of several kinds, each with its index in front and at the tail."""

from __future__ import annotations

import io

import numpy as np
import pytest

import mroi
from mroi.codecs import Pipeline, parse
from mroi.container.builder import Metadata
from mroi.format.geom import Background, Geom
from mroi.format.metadata import deflate_payload
from mroi.volume.write import VolumeWriter


class Pipe(io.RawIOBase):
    """A sink that cannot seek and takes a few bytes at a time."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.data = b""
        self._most = most

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        part = bytes(data[: self._most])
        self.data += part
        return len(part)


def write(sink, array, *, roi=None, slice_axis=2, chunk=None, metadata=(), **fields) -> None:
    """Write `array` with a background policy and frames that `mroi.create` has no names for."""
    shape = array.shape + (1,) * (3 - array.ndim)
    box = roi or mroi.Box.whole(shape)
    template = mroi.create(io.BytesIO(), array.shape, array.dtype, roi=box, slice_axis=slice_axis)
    chunks = (*chunk, 1) if chunk else template.geom.chunk_shape
    known = {**vars(template.geom), "chunk_shape": chunks, **fields}
    known = {name: known[name] for name in Geom.__dataclass_fields__}
    template.abort()
    geom = Geom(**known)
    stored = geom.background.is_stored
    with VolumeWriter(
        sink,
        geom,
        pipeline=Pipeline(parse("zstd")),
        background_pipeline=Pipeline(parse("deflate")) if stored else None,
        metadata=metadata,
        provenance={"tool": "a test"},
        jobs=1,
        rescale=None,
    ) as writer:
        full = array.reshape(shape)
        others = full.shape[3:]
        for outer in np.ndindex(*others[::-1]):
            volume = full[(..., *outer[::-1])]
            for k in range(volume.shape[slice_axis]):
                writer.write(volume.take(k, axis=slice_axis))


RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 4, (3, 2, 4, 2), dtype=np.uint16)
AIR = np.zeros((3, 3, 4), np.int8)
AIR[1:3, :2, 1:3] = RNG.integers(-9, 9, (2, 2, 2))
BOX = mroi.Box((1, 0, 1), (3, 2, 3))

KINDS = {
    "plain": {"array": NOISE[..., 0]},
    "one voxel": {"array": np.array([3], np.uint8)},
    "fill": {"array": AIR, "roi": BOX, "background": Background.FILL_VERIFIED, "slice_axis": 1},
    "residue 4-D": {
        "array": NOISE,
        "roi": BOX,
        "background": Background.RESIDUE_EXACT,
        "chunk": (2, 1, 2),
    },
    "metadata": {
        "array": AIR,
        "metadata": (
            Metadata(b"nIFt", bytes(500)),
            Metadata(b"abCd", deflate_payload(b"a private frame " * 20), 7, 1),
            Metadata(b"abCD", b"one that depends on the voxels"),
        ),
    },
}


def build(kind: str, *, front: bool) -> bytes:
    """Return the bytes of a file of a kind."""
    sink = io.BytesIO() if front else Pipe()
    write(sink, **KINDS[kind])
    return sink.getvalue() if front else sink.data


@pytest.fixture(
    params=[(kind, front) for kind in KINDS for front in (True, False)],
    ids=lambda param: f"{param[0]}, {'front' if param[1] else 'tail'}",
    scope="session",
)
def any_file(request) -> bytes:
    kind, front = request.param
    return build(kind, front=front)


@pytest.fixture(params=list(KINDS), scope="session")
def both_forms(request) -> tuple[bytes, bytes]:
    return build(request.param, front=True), build(request.param, front=False)


@pytest.fixture(scope="session")
def small_file() -> bytes:
    """A 4-D file with background chunks and its index in front."""
    return build("residue 4-D", front=True)


@pytest.fixture(scope="session")
def array() -> np.ndarray:
    """The voxels of `small_file`."""
    return NOISE
