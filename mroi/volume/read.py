"""Read a region of a volume: plan which chunks are met, decode them, put them in place.

A region is a `range` of voxels on each spatial axis, with any positive step, and a list of volumes
(the linear index over the axes beyond the third). Blocks have the axes (volume, z, y, x[, sample]),
so x is fastest in memory.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import count, islice
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mroi.codecs import ChunkSpec
from mroi.container import ContainerReader, Run, StoredChunk
from mroi.errors import LimitError, MissingVoxelsError, UsageError
from mroi.format.geom import Background
from mroi.format.overview import OverviewRecord
from mroi.format.records import ChunkState
from mroi.geometry import Box, ChunkGrid
from mroi.volume.chunks import ChunkDecoder
from mroi.volume.overview import array_spec, decode_overview

__all__ = ["ChunkCache", "Missing", "Ranges", "RegionReader"]

Missing = Literal["error", "fill"]
Ranges = tuple[range, range, range]
Index = tuple[slice | list[int], slice, slice, slice]
"""Into (volumes, slices, slow, fast) of a chunk or of a block."""

_SHARE = 1 << 18  # decoded bytes that are worth a thread
_CACHE_SIZE = 1 << 25


class ChunkCache:
    """Decoded chunks that were used last, up to a number of bytes; safe between threads.

    Volumes may share one: a chunk is known by its reader and its ordinal. A forked process starts
    with an empty one: another thread may have been changing it.
    """

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self._size = size
        self.clear()
        _caches.add(self)

    def clear(self) -> None:
        """Forget all chunks, and the lock with them."""
        self._used = 0
        self._chunks: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[int, int]) -> NDArray[Any] | None:
        """Return a chunk, if it is kept."""
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
            return chunk

    def keep(self, key: tuple[int, int], chunk: NDArray[Any]) -> None:
        """Keep a chunk, and forget those that were used longest ago."""
        if chunk.nbytes > self._size:
            return
        with self._lock:
            if key not in self._chunks:
                self._used += chunk.nbytes
            self._chunks[key] = chunk
            while self._used > self._size:
                _key, old = self._chunks.popitem(last=False)
                self._used -= old.nbytes


_caches: WeakSet[ChunkCache] = WeakSet()
_numbers = count()  # of readers, in the caches that they share


def _clear_caches() -> None:
    for cache in _caches:
        cache.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_caches)


# What is wanted has two indices: `inside` is into the chunk that has it, `place` into the block.


class _Volumes(NamedTuple):
    """The wanted volumes of one group, of which `last` has the greatest index in the group."""

    group: int
    inside: slice | list[int]
    place: slice | list[int]
    last: int
    total: int


class _Strip(NamedTuple):
    """The wanted voxels of one chunk along one axis; `length` is that of the chunk."""

    number: int
    length: int
    inside: slice
    place: slice

    @property
    def is_whole(self) -> bool:
        """Whether all of the chunk is wanted."""
        return len(range(self.place.start, self.place.stop)) == self.length


class _RoiPart(NamedTuple):
    """What is wanted of a chunk of the ROI.

    Attributes
    ----------
    ordinal : int
        Number of the chunk.
    spec : ChunkSpec
        What is known of it.
    slices : int
        Slices of each of its volumes.
    needed : int
        How many planes, from the first of the first volume on, hold all that is wanted.
    alone : (int, int) or None
        From which plane to which it is, where it is of one volume.
    is_whole : bool
        Whether all its voxels are wanted; then it need not be kept for other reads.
    inside, place : tuple
        Where they are in the chunk, and in the block.
    """

    ordinal: int
    spec: ChunkSpec
    slices: int
    needed: int
    alone: tuple[int, int] | None
    is_whole: bool
    inside: Index
    place: Index


class _BackgroundPart(NamedTuple):
    """What is wanted of a chunk of the background, box by box; None of a box that is not met."""

    ordinal: int
    slab: Box
    boxes: list[tuple[Index, Index] | None]
    spec: None = None
    is_whole: bool = False


_Part: TypeAlias = _RoiPart | _BackgroundPart


class RegionReader:
    """Reads regions of one file.

    Parameters
    ----------
    reader : ContainerReader
        Gives chunks and checks them.
    jobs : int
        Threads that decode.
    missing : {"error", "fill"}
        What to do with voxels that are not in the file: raise, or give the fill value.
    isolated : bool
        Whether native codecs decode in a process of their own, if limits do not say.
    cache : ChunkCache, optional
        Where decoded chunks are kept; one of its own by default.
    """

    def __init__(
        self,
        reader: ContainerReader,
        *,
        jobs: int,
        missing: Missing,
        isolated: bool = False,
        cache: ChunkCache | None = None,
    ) -> None:
        self.reader = reader
        self.geom = reader.head.geom
        self.jobs = jobs
        self.missing = missing
        self.isolated = reader.limits.isolates(default=isolated)
        self.decoder = ChunkDecoder(self.geom, reader.head.codecs, isolated=self.isolated)
        self._cache = ChunkCache() if cache is None else cache
        self._number = next(_numbers)

    @override
    def __reduce__(self) -> tuple[Callable[..., RegionReader], tuple[Any, ...]]:
        return _rebuild, (self.reader, self.jobs, self.missing, self.isolated)

    def replaced(
        self,
        *,
        missing: Missing | None = None,
        isolated: bool | None = None,
        cache: ChunkCache | None = None,
    ) -> RegionReader:
        """Return a reader of the same file that differs in what is given."""
        return RegionReader(
            self.reader,
            jobs=self.jobs,
            missing=self.missing if missing is None else missing,
            isolated=self.isolated if isolated is None else isolated,
            cache=cache,
        )

    def read(self, ranges: Ranges, volumes: Sequence[int]) -> NDArray[Any]:
        """Return the stored values of a region: (volumes, z, y, x[, samples]).

        Raises
        ------
        MissingVoxelsError
            If voxels are wanted that the file does not have.
        MroiError
            If a chunk is damaged or its codec is not installed.
        """
        geom = self.geom
        shape = (
            len(volumes),
            *(len(r) for r in reversed(ranges)),
            *geom.datatype.sample_shape,
        )
        if 0 in shape:
            return np.empty(shape, dtype=geom.datatype.sample)
        block = self._empty_block(shape, _bounding_box(ranges))
        axes = geom.grid.axes
        scan = block.transpose(0, *(3 - axis for axis in axes), *range(4, block.ndim))
        parts = self._plan(ranges, volumes)
        unread: list[_Part] = []
        for part in parts:
            cached = self._cache.find((self._number, part.ordinal))
            if cached is None:
                unread.append(part)
            else:
                self._place(scan, part, cached)

        def place(part: _Part, stored: StoredChunk) -> None:
            self._place(scan, part, self._decode(part, stored))

        found = self.reader.find_runs([part.ordinal for part in unread])
        threads = self._threads_for(unread)
        with closing(_read_runs(self.reader, found, self.jobs)) as runs:
            if threads == 1:
                _work_alone(unread, runs, place)
            else:
                _work_together(unread, runs, place, threads)
        return block

    def _threads_for(self, parts: Sequence[_Part]) -> int:
        """Return how many threads it pays to decode chunks with."""
        if self.jobs == 1 or len(parts) < 2:
            return 1
        size = sum(
            part.spec.size if part.spec else self.geom.decoded_size(part.ordinal) for part in parts
        )
        return max(1, min(self.jobs, len(parts), size // _SHARE))

    def mark_chunk(self, mask: NDArray[np.bool_], ordinal: int) -> None:
        """Set the voxels of a chunk in `mask`, which is the whole volume: (volumes, z, y, x)."""
        grid = self.geom.grid
        if ordinal < grid.roi_chunks:
            chunk = grid.chunk(ordinal)
            mask[(_as_index(chunk.volumes), *chunk.box.slices[::-1])] = True
            return
        volumes = _as_index(grid.background_volumes(ordinal))
        for box in grid.outside_boxes(grid.background_box(ordinal)):
            mask[(volumes, *box.slices[::-1])] = True

    def read_level(self, index: int, volume: int, level: int) -> NDArray[Any]:
        """Return one slice of the ROI at a reduced resolution: (slow, fast[, samples]).

        Parameters
        ----------
        index : int
            Slice of the full field of view, along the slice axis.
        volume : int
            Linear index over the axes beyond the third.
        level : int
            In-plane extents are divided by ``2**level``, rounded up.

        Raises
        ------
        UsageError
            If a slice is not one whole chunk.
        CodecError
            If its codec cannot decode at a reduced resolution.
        """
        grid = self.geom.grid
        if (grid.slab, grid.span) != (1, 1) or grid.counts[1:] != (1, 1):
            raise UsageError("reduced resolution needs one slice per chunk: pack with chunk=1")
        layer = index - grid.roi.start[self.geom.slice_axis]
        chunk = self.reader.read_chunk(volume * grid.counts[0] + layer)
        plane: NDArray[Any] = self.decoder.decode_level(chunk, level)[0]
        return plane

    def decode_overview(self, record: OverviewRecord, *, offset: int) -> NDArray[Any]:
        """Return the array of an overview: (volumes * slices, rows, columns[, samples])."""
        spec = array_spec(self.geom, record.factor, record.volumes)
        if spec.size > self.reader.limits.chunk_size:
            raise LimitError(
                f"the overview has {spec.size:,} bytes, more than the limit", "LIM-1", offset
            )
        return decode_overview(record, spec, self.decoder.pipeline(record.slot), offset=offset)

    # -- planning --------------------------------------------------------------------------

    def find_chunks(self, ranges: Ranges, volumes: Sequence[int]) -> list[int]:
        """Return the ordinals of the chunks that `read` decodes for a region, in order."""
        return [part.ordinal for part in self._plan(ranges, volumes)]

    def _plan(self, ranges: Ranges, volumes: Sequence[int]) -> list[_Part]:
        """Return what is wanted of each chunk that has some of it, in order."""
        groups = sorted(_by_group(self.geom.grid, volumes), key=lambda wanted: wanted.group)
        return [*self._plan_roi(ranges, groups), *self._plan_background(ranges, groups)]

    def _plan_roi(self, ranges: Ranges, groups: Sequence[_Volumes]) -> Iterator[_RoiPart]:
        """Yield what is wanted of each chunk of the ROI."""
        grid = self.geom.grid
        strips = [
            _strips(ranges[axis], grid.roi.start[axis], grid.roi.stop[axis], grid.chunk_shape[axis])
            for axis in grid.axes
        ]
        layers, rows, columns = grid.counts
        for v in groups:
            volumes = grid.group_size(v.group)
            all_volumes = v.total == volumes
            for z in strips[0]:
                needed = v.last * z.length + (z.length if v.last else _last(z.inside) + 1)
                alone = None
                if v.total == 1:
                    low, high = sorted((z.inside.start, _last(z.inside)))
                    alone = v.last * z.length + low, v.last * z.length + high + 1
                for y in strips[1]:
                    first = ((v.group * layers + z.number) * rows + y.number) * columns
                    whole_rows = all_volumes and z.is_whole and y.is_whole
                    for x in strips[2]:
                        yield _RoiPart(
                            first + x.number,
                            self.decoder.spec((volumes, z.length, y.length, x.length)),
                            z.length,
                            needed,
                            alone,
                            whole_rows and x.is_whole,
                            (v.inside, z.inside, y.inside, x.inside),
                            (v.place, z.place, y.place, x.place),
                        )

    def _plan_background(
        self, ranges: Ranges, groups: Sequence[_Volumes]
    ) -> Iterator[_BackgroundPart]:
        """Yield what is wanted of each chunk of the background."""
        grid, bounds = self.geom.grid, _bounding_box(ranges)
        for v in groups:
            for ordinal in grid.find_background(bounds, v.group):
                slab = grid.background_box(ordinal)
                boxes = [self._overlap(ranges, v, box) for box in grid.outside_boxes(slab)]
                if any(boxes):
                    yield _BackgroundPart(ordinal, slab, boxes)

    def _overlap(self, ranges: Ranges, v: _Volumes, box: Box) -> tuple[Index, Index] | None:
        """Return what is wanted of a box: where it is in the box, and in the block."""
        strips = []
        for axis in self.geom.grid.axes:
            lo, hi = box.start[axis], box.stop[axis]
            strips += _strips(ranges[axis], lo, hi, hi - lo)
        if len(strips) < 3:  # nothing along an axis
            return None
        z, y, x = strips
        return (v.inside, z.inside, y.inside, x.inside), (v.place, z.place, y.place, x.place)

    def _empty_block(self, shape: tuple[int, ...], bounds: Box) -> NDArray[Any]:
        """Return the block to fill, with the fill value where no chunk will land."""
        geom = self.geom
        dtype = geom.datatype.sample
        if geom.roi.contains(bounds) or geom.background.is_stored:
            return np.empty(shape, dtype=dtype)
        if geom.background is Background.OMIT and self.missing == "error":
            raise MissingVoxelsError(
                f"voxels outside the ROI {geom.roi} are not in the file: read `volume.cropped`, "
                "or ask for the fill value",
                "BKG-1",
            )
        if not any(geom.fill):
            return np.zeros(shape, dtype=dtype)
        block = np.empty(shape, dtype=dtype)
        block[...] = geom.fill_samples
        return block

    # -- placing ---------------------------------------------------------------------------

    def _decode(self, part: _Part, stored: StoredChunk) -> NDArray[Any] | None:
        """Return the first slices of a chunk, or None if it is missing and that is fine."""
        spec, needed = part.spec, None
        chunk = self.reader.parse_chunk(stored, None if spec is None else spec.size)
        if chunk.state is ChunkState.MISSING and self.missing == "fill":
            return None
        if isinstance(part, _RoiPart):
            needed = part.needed
            if (
                part.alone
                and (some := self.decoder.decode_range(chunk, *part.alone, spec=spec)) is not None
            ):
                # Those before them are never looked at, and cost nothing as long as nobody does.
                planes = np.zeros((needed, *some.shape[1:]), some.dtype)
                planes[slice(*part.alone)] = some
                return planes
        decoded = self.decoder.decode(chunk, needed, spec=spec)
        is_complete = decoded.nbytes == chunk.size and chunk.state is ChunkState.ENCODED
        if is_complete and not part.is_whole:
            self._cache.keep((self._number, part.ordinal), decoded)
        return decoded

    def _place(self, scan: NDArray[Any], part: _Part, decoded: NDArray[Any] | None) -> None:
        """Put what is wanted of a chunk into the block, (volumes, scan order), or the fill."""
        if isinstance(part, _BackgroundPart):
            self._place_background(scan, part, decoded)
        elif decoded is None:
            scan[part.place] = self.geom.fill_samples
        else:  # perhaps only the first slices of the first volume
            slices = min(part.slices, len(decoded))
            scan[part.place] = decoded.reshape(-1, slices, *decoded.shape[1:])[part.inside]

    def _place_background(
        self, scan: NDArray[Any], part: _BackgroundPart, decoded: NDArray[Any] | None
    ) -> None:
        grid = self.geom.grid
        views: Sequence[NDArray[Any] | None] = [None] * len(part.boxes)
        if decoded is not None:
            volumes = len(grid.background_volumes(part.ordinal))
            voxels = decoded.reshape(volumes, -1, *decoded.shape[3:])
            views = _split_background(grid, part.slab, voxels)
        for view, overlap in zip(views, part.boxes, strict=True):
            if overlap is not None:
                inside, place = overlap
                scan[place] = self.geom.fill_samples if view is None else view[inside]


def _rebuild(
    reader: ContainerReader,
    jobs: int,
    missing: Missing,
    isolated: bool,  # noqa: FBT001 (pickle calls it)
) -> RegionReader:
    return RegionReader(reader, jobs=jobs, missing=missing, isolated=isolated)


def _by_group(grid: ChunkGrid, volumes: Sequence[int]) -> Iterator[_Volumes]:
    """Yield what is wanted of each group that has one of these volumes."""
    by_group: dict[int, tuple[list[int], list[int]]] = {}
    for place, volume in enumerate(volumes):
        group = grid.group_of(volume)
        inside, places = by_group.setdefault(group, ([], []))
        inside.append(volume - grid.group_volumes(group).start)
        places.append(place)
    for group, (inside, places) in by_group.items():
        yield _Volumes(group, _as_index(inside), _as_index(places), max(inside), len(inside))


def _as_index(numbers: Sequence[int]) -> slice | list[int]:
    """Return an index of these numbers: a slice if each is one more than the one before."""
    if numbers[-1] - numbers[0] + 1 == len(numbers) and list(numbers) == sorted(numbers):
        return slice(numbers[0], numbers[-1] + 1)
    return list(numbers)


def _bounding_box(ranges: Ranges) -> Box:
    x, y, z = ranges
    return Box((x[0], y[0], z[0]), (x[-1] + 1, y[-1] + 1, z[-1] + 1))


def _first(wanted: range, bound: int) -> int:
    """Return the position of the first index of `wanted` that is not below `bound`."""
    return min(max(-(-(bound - wanted.start) // wanted.step), 0), len(wanted))


def _strips(wanted: range, lo: int, hi: int, size: int) -> list[_Strip]:
    """Return the chunks along an axis, `size` voxels each from `lo` to `hi`, that are wanted."""
    first, last = max(wanted[0], lo), min(wanted[-1], hi - 1)
    strips = []
    for number in range((first - lo) // size, (last - lo) // size + 1) if first <= last else ():
        start = lo + number * size
        stop = min(start + size, hi)
        a, b = _first(wanted, start), _first(wanted, stop)
        if a < b:  # a step may jump over it
            inside = slice(wanted[a] - start, wanted[b - 1] - start + 1, wanted.step)
            strips.append(_Strip(number, stop - start, inside, slice(a, b)))
    return strips


def _last(index: slice) -> int:
    """Return the last index of a slice with explicit bounds."""
    return range(index.start, index.stop, index.step)[-1]


def _split_background(grid: ChunkGrid, box: Box, voxels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return a background chunk, (volumes, n[, samples]), as a view for each of its boxes.

    Each has the axes (volumes, slices, slow, fast[, samples]).
    """
    count, rest = voxels.shape[0], voxels.shape[2:]
    planes, height, width = grid.scan_shape(box)
    inside = grid.roi.find_overlap(box)
    if inside is None:
        return [voxels.reshape(count, planes, height, width, *rest)]
    slices, slow, fast = grid.axes
    crossed, rows, columns = grid.scan_shape(inside)
    above, left = inside.start[slow], inside.start[fast]
    ring = height * width - rows * columns
    first = (inside.start[slices] - box.start[slices]) * height * width
    last = first + crossed * ring
    middle = voxels[:, first:last].reshape(count, crossed, ring, *rest)
    beside = width - columns
    start, stop = above * width, above * width + rows * beside
    sides = middle[:, :, start:stop].reshape(count, crossed, rows, beside, *rest)
    before, after = first // (height * width), planes - crossed - first // (height * width)
    views = (
        voxels[:, :first].reshape(count, before, height, width, *rest),
        middle[:, :, :start].reshape(count, crossed, above, width, *rest),
        sides[:, :, :, :left],
        sides[:, :, :, left:],
        middle[:, :, stop:].reshape(count, crossed, height - above - rows, width, *rest),
        voxels[:, last:].reshape(count, after, height, width, *rest),
    )
    return [view for view in views if view.size]


# -- threads -----------------------------------------------------------------------------------


_Place: TypeAlias = Callable[[_Part, StoredChunk], None]


def _work_alone(parts: Sequence[_Part], runs: Iterator[list[StoredChunk]], place: _Place) -> None:
    """Place all parts, in order."""
    order = iter(parts)
    for run in runs:
        for part, stored in zip(islice(order, len(run)), run, strict=True):
            place(part, stored)


def _work_together(
    parts: Sequence[_Part], runs: Iterator[list[StoredChunk]], place: _Place, threads: int
) -> None:
    """Place all parts, in this thread and in others that are started for it.

    Runs of chunks are taken one after the other, by whoever finds nothing to do, and their chunks
    are worked on by all: at most two runs are held, of a remote file as many more as are asked for
    at once.
    """
    tasks: deque[tuple[_Part, StoredChunk]] = deque()
    order = iter(parts)
    lock = threading.Lock()
    problems: list[BaseException] = []

    def read_run() -> bool:
        with lock:
            if not tasks and (run := next(runs, None)):
                tasks.extend(zip(islice(order, len(run)), run, strict=True))
            return bool(tasks)

    def work() -> None:
        try:
            while not problems:
                try:
                    task = tasks.popleft()
                except IndexError:
                    if not read_run():
                        return
                else:
                    place(*task)
        except BaseException as exc:  # noqa: BLE001 (raised below)
            problems.append(exc)

    others = [threading.Thread(target=work, name="mroi-decode") for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if problems:
        raise problems[0]


def _read_runs(
    reader: ContainerReader, runs: Sequence[Run], requests: int
) -> Generator[list[StoredChunk]]:
    """Yield the chunks of runs in order; of a remote file, several runs are asked for at once."""
    most = min(requests, len(runs))
    if most < 2 or not reader.source.is_remote:
        yield from map(reader.read_run, runs)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(most, "mroi-read")
    try:
        rest = iter(runs)
        pending = deque(pool.submit(reader.read_run, run) for run in islice(rest, most))
        while pending:
            chunks = pending.popleft().result()
            pending.extend(pool.submit(reader.read_run, run) for run in islice(rest, 1))
            yield chunks
    finally:
        pool.shutdown(cancel_futures=True)
