"""What damage did not touch is found again, and the search costs no more than it should."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mroi
from mroi.container import ContainerBuilder, ContainerReader, MemorySource, salvage
from mroi.format.records import FRAME_HEADER_SIZE, ChunkState, build_frame
from tests.container.conftest import Pipe, build


class Counting(MemorySource):
    """Counts the bytes that are read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = 0

    def read(self, offset: int, size: int) -> bytes:
        self.count += size
        return super().read(offset, size)


def extents(reader: ContainerReader) -> list[range]:
    """The bytes of each chunk, header and payload; padding does not count."""
    starts = reader.index.offsets[:-1].tolist()
    return [
        range(start, start + FRAME_HEADER_SIZE + length)
        for start, length in zip(starts, reader.index.lengths.tolist(), strict=True)
    ]


@st.composite
def damages(draw: st.DrawFn, start: int, stop: int) -> list[tuple[int, int, bytes]]:
    """Replacements (first byte, last byte, new bytes), from the last to the first."""
    count = draw(st.integers(1, 3))
    found = []
    for _ in range(count):
        at = draw(st.integers(start, stop - 1))
        until = min(stop, at + draw(st.integers(0, 60)))
        new = draw(st.binary(max_size=60) | st.just(bytes(until - at)))
        found.append((at, until, new))
        start = until
        if start >= stop:
            break
    return found[::-1]


@settings(max_examples=25)
@given(data=st.data())
def test_every_chunk_that_damage_did_not_touch_is_saved(any_file, tmp_path_factory, data):
    """Bytes changed, lost and inserted anywhere after the head."""
    reader = ContainerReader(MemorySource(any_file))
    volume = mroi.open(any_file)
    head_size = reader.head.prefix.head_size
    damage = data.draw(damages(head_size, len(any_file)))
    damaged = bytearray(any_file)
    for at, until, new in damage:
        damaged[at:until] = new
    untouched = {
        i
        for i, part in enumerate(extents(reader))
        if all(
            until <= part.start or at >= part.stop or any_file[at:until] == new
            for at, until, new in damage
        )
    }
    found = salvage(MemorySource(bytes(damaged)))
    assert set(found.found) >= untouched
    for i in found.found:  # nothing else is taken for a chunk
        assert bytes(found.read_chunk(i).payload) == bytes(reader.read_chunk(i).payload)
    target = tmp_path_factory.mktemp("recovered") / "saved.mroi"
    if not found.found:
        with pytest.raises(mroi.FormatError, match="SAL-1"):
            mroi.recover(bytes(damaged), target)
        assert not target.exists()
        return
    recovery = mroi.recover(bytes(damaged), target)
    assert set(recovery.missing) == set(range(recovery.chunks)) - set(found.found)
    report = mroi.verify(target)
    assert report.ok
    assert report.missing == len(recovery.missing)
    saved = mroi.open(target, missing="fill")
    mask = saved.missing_mask()
    assert np.array_equal(saved[...][~mask], volume[...][~mask])
    assert mask.any() == bool(recovery.missing)
    if recovery.missing:
        strict = mroi.open(target)
        assert not strict.is_lossless
        with pytest.raises(mroi.MissingVoxelsError):
            strict[...]
        assert saved.provenance["salvage"]["missing_chunks"] == list(recovery.missing)


@settings(max_examples=50)
@given(data=st.data())
def test_damage_to_the_head_costs_no_chunk_unless_they_lose_their_meaning(any_file, data):
    """Damage after CODC: the index, padding and metadata are not needed."""
    reader = ContainerReader(MemorySource(any_file))
    head = any_file[: reader.head.prefix.head_size]
    start = head.index(b"CODC") - 4
    codec_stop = start + FRAME_HEADER_SIZE + int.from_bytes(head[start + 8 : start + 16], "little")
    vital = 64
    at = data.draw(st.integers(vital, len(head) - 1))
    damaged = bytearray(any_file)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        found = salvage(MemorySource(bytes(damaged)))
    except mroi.FormatError as exc:
        found, rule = None, exc.rule
    if found is None:
        assert at < codec_stop
        assert rule
        return
    assert not found.missing
    assert found.head.geom.shape == reader.head.geom.shape
    assert found.head.codecs == reader.head.codecs


def test_a_damaged_front_index_can_be_recovered(small_file, array, tmp_path):
    head_size = ContainerReader(MemorySource(small_file)).head.prefix.head_size
    damaged = bytearray(small_file)
    damaged[head_size - 40 : head_size] = bytes(40)
    with pytest.raises(mroi.FormatError):
        mroi.open(bytes(damaged))
    recovery = mroi.recover(bytes(damaged), tmp_path / "saved.mroi")
    assert not recovery.missing
    assert np.array_equal(mroi.open(tmp_path / "saved.mroi"), array)


def hostile(small_file: bytes, frames: int) -> bytes:
    """A file whose chunk headers are right, overlap, and lie about long payloads."""
    reader = ContainerReader(MemorySource(small_file))
    prefix = reader.head.prefix
    header = build_frame(b"jSOn", bytes(frames * 16), sync=prefix.sync)[:FRAME_HEADER_SIZE]
    return small_file[: prefix.head_size] + header * frames


def test_the_work_on_lying_frames_is_bounded(small_file):
    """Twice the file, about twice the bytes read: not four times."""
    counts = []
    for frames in (2000, 4000):
        data = hostile(small_file, frames)
        source = Counting(data)
        assert len(salvage(source).missing) == salvage(source).head.chunk_count
        counts.append(source.count / len(data))
    assert counts[1] < 2 * (16 + 70)  # twice: it was searched twice; windows are read again
    assert counts[1] < 1.5 * counts[0]


def test_a_file_of_sync_words_is_read_once(small_file):
    prefix = ContainerReader(MemorySource(small_file)).head.prefix
    data = small_file[: prefix.head_size] + prefix.sync.to_bytes(4, "little") * 50_000
    source = Counting(data)
    assert salvage(source).found == {}
    assert source.count < 2 * len(data)


@pytest.mark.parametrize("kind", [b"nIFt", b"abCd"])
def test_frames_that_come_twice_are_saved_once(small_file, tmp_path, kind):
    """Bytes that a disk gave twice make no file with two frames of one name."""
    reader = ContainerReader(MemorySource(small_file))
    frame = build_frame(kind, b"some bytes", sync=reader.head.prefix.sync)
    cut = reader.index.stop
    data = small_file[:cut] + frame + frame + small_file[cut:]
    assert [f.key for f in salvage(MemorySource(data)).frames].count((kind, 0)) == 1
    mroi.recover(data, tmp_path / "saved.mroi")
    assert mroi.verify(tmp_path / "saved.mroi").ok


def test_chunks_that_were_missing_stay_missing(small_file, tmp_path):
    reader = ContainerReader(MemorySource(small_file))
    damaged = bytearray(small_file)
    damaged[int(reader.index.offsets[2]) + 3] ^= 1
    first, second = tmp_path / "first.mroi", tmp_path / "second.mroi"
    assert mroi.recover(bytes(damaged), first).missing == (2,)
    saved = ContainerReader(MemorySource(first.read_bytes()))
    assert saved.find_missing() == [2]
    assert saved.read_chunk(2).state is ChunkState.MISSING
    assert mroi.recover(first, second).missing == (2,)


# -- work in proportion to what is there -----------------------------------------------------------


def cut_stream(shape, share, *, chunk=1, **options):
    """Return voxels, and the first part of a file of them that was written to a pipe."""
    rng = np.random.default_rng(5)
    voxels = rng.integers(0, 9, shape, dtype=np.uint8)
    sink = Pipe(1 << 30)
    with mroi.create(sink, shape, np.uint8, codec="raw", chunk=chunk, **options) as writer:
        for k in range(shape[2]):
            writer.write(voxels[:, :, k])
    return voxels, sink.data[: round(share * len(sink.data))], len(sink.data)


def test_a_hundredth_of_a_real_file_is_saved(tmp_path):
    """4,000 chunks, of which some 40 arrived."""
    voxels, data, size = cut_stream((8, 8, 4000), 0.01)
    assert len(data) == round(size / 100)
    recovery = mroi.recover(data, tmp_path / "saved.mroi")
    assert recovery.chunks == 4000
    saved = recovery.chunks - len(recovery.missing)
    assert 30 < saved < 45
    with mroi.open(tmp_path / "saved.mroi", missing="fill") as volume:
        assert np.array_equal(volume[:, :, :saved], voxels[:, :, :saved])
        assert not volume[:, :, saved:].any()
    report = mroi.verify(tmp_path / "saved.mroi")
    assert (report.ok, report.missing) == (True, len(recovery.missing))


def test_a_hundredth_of_4_gb_is_enough_whatever_the_chunks():
    """As many chunks as a reader takes: less than 240 bytes each."""
    from types import SimpleNamespace

    from mroi.volume.recover import _check_share

    count, size = mroi.Limits().chunks, 4_000_000_000
    there = dict.fromkeys(range(count // 100))
    head = SimpleNamespace(chunk_count=count)
    source = SimpleNamespace(size=lambda: size // 100)
    _check_share(SimpleNamespace(head=head, source=source, found=there))
    source = SimpleNamespace(size=lambda: size // 1000)
    with pytest.raises(mroi.LimitError):
        _check_share(SimpleNamespace(head=head, source=source, found=there))


@pytest.mark.parametrize("count", [131_072, 1 << 24])
def test_many_chunks_are_named_by_few_bytes(tmp_path, count):
    data = named(count)
    assert len(data) < 1000
    source = Counting(data)
    start = time.perf_counter()
    with pytest.raises(mroi.LimitError, match=r"1 of .* chunks are there") as caught:
        mroi.recover(source, tmp_path / "x.mroi")
    assert time.perf_counter() - start < 2
    assert caught.value.rule == "LIM-1"
    assert source.count < 20 * len(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 1000, 26_000])
def test_what_is_written_is_bounded_by_what_is_there(tmp_path, count):
    data, target = named(count), tmp_path / "x.mroi"
    recovery = mroi.recover(data, target)
    assert len(recovery.missing) == count - 1
    assert target.stat().st_size < 21 * len(data) + (1 << 20) + 1000
    report = mroi.verify(target)
    assert (report.ok, report.missing) == (True, count - 1)
    with mroi.open(target, missing="fill") as volume:
        assert volume[0, 0, 0] == 7
        assert volume.missing_mask().sum() == count - 1


def named(count):
    """Return the start of a file of `count` chunks, with the first of them."""
    sink = Pipe(1 << 30)
    writer = mroi.create(sink, (1, 1, count), np.uint8, codec="raw", chunk=1, jobs=1)
    writer.write(np.full((1, 1), 7, np.uint8))
    writer._write_next()
    writer.abort()
    return sink.data


def test_constant_chunks_cost_no_time_for_their_size(tmp_path):
    """64 GiB of one value in a few kilobytes: decoded CRCs are found, not computed."""
    from tests.cli.test_odd_files import constant

    constant(tmp_path / "huge.mroi", (1 << 18, 1 << 18, 1), (1 << 18, 1 << 13, 1))
    start = time.perf_counter()
    assert mroi.verify(tmp_path / "huge.mroi").ok
    assert not mroi.recover(tmp_path / "huge.mroi", tmp_path / "again.mroi").missing
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("order", [1, -1])
def test_missing_chunks_of_roi_and_background_have_the_slots_of_their_roles(tmp_path, order):
    """Runs of missing chunks that pass the border between the two, whichever slot comes first."""
    reader = ContainerReader(MemorySource(build("residue 4-D", front=True)))
    head = reader.head
    builder = ContainerBuilder(head.geom, head.codecs[::order], can_seek=False)
    data = builder.start()
    for ordinal in range(head.chunk_count):
        chunk = reader.read_chunk(ordinal)
        slot = chunk.slot if order > 0 else 1 - chunk.slot
        crc = chunk.decoded_crc
        data += builder.chunk(chunk.state, chunk.payload, slot=slot, decoded_crc=crc)
    data += builder.finish()[0]
    reader = ContainerReader(MemorySource(data))
    count, roi = reader.head.chunk_count, reader.head.geom.grid.roi_chunks
    assert 1 < roi < count - 1
    for kept in ({0}, {roi - 1}, {roi}, {count - 1}, {0, count - 1}):
        damaged = bytearray(data)
        for ordinal in set(range(count)) - kept:
            damaged[int(reader.index.offsets[ordinal]) + 3] ^= 1
        recovery = mroi.recover(bytes(damaged), tmp_path / "x.mroi", overwrite=True)
        assert set(recovery.missing) == set(range(count)) - kept
        assert mroi.verify(tmp_path / "x.mroi").ok
