"""A file of a few bytes cannot make a reader take memory that nobody agreed to."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

import mroi
from mroi.codecs import Pipeline, parse
from mroi.container import ContainerBuilder, MemorySource, salvage
from mroi.container.builder import Metadata
from mroi.format.codec_table import Role
from mroi.format.datatypes import DATATYPES
from mroi.format.geom import Background, Geom
from mroi.format.metadata import deflate_payload
from mroi.format.records import ChunkState
from mroi.limits import Limits
from mroi.volume.chunks import codec_entry, decoded_crc


def geometry(shape, roi=None, chunk=None, **fields) -> Geom:
    box = roi or mroi.Box.whole(shape)
    known = {
        "ndim": len(shape),
        "shape": shape,
        "datatype": DATATYPES[2],
        "bits_stored": 8,
        "roi": box,
        "chunk_shape": (*(chunk or box.shape), 1),
        "slice_axis": 2,
        "background": Background.FILL_VERIFIED,
        "fill": b"\7",
        "slope": 1.0,
        "inter": 0.0,
        "affine": np.eye(4),
        "spacing": (1.0,) * len(shape),
    }
    return Geom(**{**known, **fields})


def constant_file(geom: Geom, *, rescale=None, metadata=()) -> bytes:
    """A file in which every chunk is one value, written without ever making the voxels."""
    roles = [Role.ROI, Role.BACKGROUND] if geom.background.is_stored else [Role.ROI]
    builder = ContainerBuilder(
        geom,
        [codec_entry(Pipeline(parse("zstd")), role) for role in roles],
        rescale=rescale,
        can_seek=True,
        decoded_crcs=False,
    )
    parts = [builder.start()]
    grid = geom.grid
    for ordinal in range(grid.chunks):
        slot = int(ordinal >= grid.roi_chunks)
        empty = not grid.voxels(ordinal)
        state = ChunkState.STORED if empty else ChunkState.CONST
        payload = b"" if empty else b"\5" * geom.itemsize
        parts.append(builder.chunk(state, payload, slot=slot, decoded_crc=0))
    tail, head = builder.finish(metadata)
    data = b"".join([*parts, tail])
    return head + data[len(head) :]


@contextmanager
def at_most(size: int):
    """Fail if more than `size` bytes are taken at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape",
    [(2**40, 1, 1), (1, 2**40, 1), (1, 1, 2**40), (2**20,) * 3, (2**12, 2**12, 2**12 + 1)],
)
@pytest.mark.parametrize("call", [mroi.open, mroi.verify, lambda d: mroi.stream(io.BytesIO(d))])
def test_enormous_volumes_are_refused_before_memory_is_taken(shape, call):
    data = constant_file(geometry(shape, mroi.Box((0, 0, 0), (1, 1, 1))))
    with at_most(1 << 22), pytest.raises(mroi.LimitError) as caught:
        call(data)
    assert caught.value.rule == "LIM-1"


def test_a_part_of_a_large_volume_costs_its_own_size():
    """64 GB that are almost all background, in less than a kilobyte."""
    one = mroi.Box((3, 0, 5), (4, 1, 6))
    for shape in ((8, 1, 2**33), (2**20, 2**13, 8)):
        data = constant_file(geometry(shape, one))
        assert len(data) < 2000
        with at_most(1 << 22):
            volume = mroi.open(data)
            assert volume[3, 0, 5] == 5
            assert volume[0, -1, -1] == 7
            assert volume[3:6, 0, 4:7].tolist() == [[7, 5, 7], [7, 7, 7], [7, 7, 7]]
            assert volume.cropped[...].tolist() == [[[5]]]
    long = mroi.open(constant_file(geometry((8, 1, 2**33), one)))
    with at_most(1 << 22):
        planes = long.planes()
        assert [next(planes).max() for _ in range(8)] == [7] * 5 + [7] * 3


def test_a_voxel_beside_a_large_box_costs_no_plane():
    """8 GB in one plane, of which one column is background."""
    wide = geometry(
        (2**20, 2**13, 1),
        mroi.Box((1, 0, 0), (2**20, 2**13, 1)),
        chunk=(2**20 - 1, 1, 1),
        background=Background.RESIDUE_EXACT,
        fill=b"\0",
    )
    data = constant_file(wide)
    with at_most(24 << 20):
        volume = mroi.open(data)
        assert volume[0, 5, 0] == 5
        assert volume[:3, 1, 0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("chunk", [None, (1024, 1024, 1), (64, 1024, 64)])
def test_constant_chunks_take_no_memory(chunk):
    """256 MB of one value: checked, cut and streamed as the single element that they are."""
    data = constant_file(geometry((1024, 1024, 256), chunk=chunk))
    assert len(data) < 40_000
    with at_most(24 << 20):
        report = mroi.verify(data, jobs=2)
        assert report.ok
        volume = mroi.open(data)
        assert volume.slice(3).shape == (1024, 1024)
        assert int(volume[5, 6, 7]) == 5


@pytest.mark.parametrize("size", [0, 1, 3, 1 << 14, (1 << 14) + 1, 100_001])
@pytest.mark.parametrize("code", [2, 128, 16, 2048])
def test_the_crc_of_a_constant_chunk_is_that_of_its_bytes(size, code):
    from zlib import crc32

    from mroi.container import Chunk

    kind = DATATYPES[code]
    element = bytes(range(1, kind.itemsize + 1))
    chunk = Chunk(0, ChunkState.CONST, 0, memoryview(element), size * kind.itemsize, None)
    if size:
        assert decoded_crc(chunk, np.empty(0)) == crc32(element * size)


@pytest.mark.parametrize(
    ("limits", "data"),
    [
        ({"volume_size": 999}, "plain"),
        ({"chunks": 9}, "plain"),
        ({"head_size": 500}, "plain"),
        ({"frames": 3}, "plain"),
        ({"chunk_size": 99}, "chunk"),
        ({"metadata_size": 1999}, "metadata"),
        ({"metadata_stored": 10}, "metadata"),
    ],
    ids=str,
)
def test_limits_are_those_of_the_caller(limits, data):
    written = constant_file(
        geometry((10, 10, 10), chunk=(10, 10, 1)),
        metadata=[Metadata(b"nIFt", deflate_payload(bytes(2000)), flags=1)],
    )
    volume = mroi.open(written)
    assert volume.reader.find_metadata(b"nIFt") == bytes(2000)

    def read() -> None:
        opened = mroi.open(written, limits=Limits(**limits))
        if data == "chunk":
            opened.slice(0)
        if data == "metadata":
            opened.reader.find_metadata(b"nIFt")

    with pytest.raises(mroi.LimitError) as caught:
        read()
    assert caught.value.rule == "LIM-1"


def test_a_metadata_bomb_is_refused():
    """A frame of a few KB that declares 200 MB."""
    bomb = deflate_payload(bytes(200 << 20))
    data = constant_file(geometry((4, 4, 4)), metadata=[Metadata(b"nIFt", bomb, flags=1)])
    with at_most(16 << 20):
        volume = mroi.open(data)
        with pytest.raises(mroi.LimitError):
            volume.reader.find_metadata(b"nIFt")
        report = mroi.verify(data, jobs=1)
    assert [problem.rule for problem in report.problems] == ["LIM-1"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no frame at all",
        deflate_payload(b"abc") + b"x",
        deflate_payload(b"abc") * 2,
        deflate_payload(b"abc")[:-1],
        deflate_payload(b"") + b"x",
        deflate_payload(b"")[:-1],
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",  # a skippable frame
    ],
)
def test_what_is_not_exactly_one_compressed_frame_is_refused(payload):
    data = constant_file(geometry((4, 4, 4)), metadata=[Metadata(b"nIFt", payload, flags=1)])
    report = mroi.verify(data, jobs=1)
    assert [problem.rule for problem in report.problems] == ["FRM-11"]


def test_a_damaged_rescale_is_never_taken_for_none():
    """Values without their scale would look right: the head needs SLSC if it had one."""
    pairs = np.linspace(1, 2, 20).astype("<f8").tobytes()
    data = constant_file(geometry((4, 4, 10), chunk=(4, 4, 1)), rescale=pairs)
    start = data.index(b"SLSC") - 4
    head_size = mroi.open(data).reader.head.prefix.head_size
    for at in range(start, start + 32 + len(pairs)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(mroi.FormatError):
            salvage(MemorySource(bytes(damaged)))
    for at in range(start + 32 + len(pairs), head_size):  # the index behind it is not needed
        damaged = bytearray(data)
        damaged[at] ^= 1
        found = salvage(MemorySource(bytes(damaged)))
        assert not found.missing
        assert found.head.rescale.tobytes() == pairs


def test_remote_files_are_read_in_few_requests():
    class Remote(MemorySource):
        is_remote = True
        reads = 0

        def read(self, offset, size):
            self.reads += 1
            return super().read(offset, size)

    source = Remote(constant_file(geometry((8, 8, 100), chunk=(8, 8, 1))))
    volume = mroi.open(source)
    assert source.reads == 1
    volume.slice(50)
    assert source.reads == 2
    volume[...]
    assert source.reads == 3
