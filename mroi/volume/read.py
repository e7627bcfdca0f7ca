"""Read a region of a volume: plan which chunks are met, decode them, put them in place.

A region is a `range` of voxels on each spatial axis, with any positive step, and a list of volumes
(the linear index over the axes beyond the third). Blocks have the axes (volume, z, y, x[, sample]),
so x is fastest in memory.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mroi.container import Chunk, ContainerReader
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
Index = tuple[slice, slice, slice]

_PARALLEL_SIZE = 1 << 20  # below this many bytes, starting threads costs more than they save
_CACHE_SIZE = 1 << 25


class ChunkCache:
    """Decoded chunks that were used last, up to a number of bytes; safe between threads.

    A forked process starts with an empty one: another thread may have been changing it.
    """

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self._size = size
        self.clear()
        _caches.add(self)

    def clear(self) -> None:
        """Forget all chunks, and the lock with them."""
        self._used = 0
        self._chunks: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, ordinal: int) -> NDArray[Any] | None:
        """Return a chunk, if it is kept."""
        with self._lock:
            chunk = self._chunks.get(ordinal)
            if chunk is not None:
                self._chunks.move_to_end(ordinal)
            return chunk

    def keep(self, ordinal: int, chunk: NDArray[Any]) -> None:
        """Keep a chunk, and forget those that were used longest ago."""
        if chunk.nbytes > self._size:
            return
        with self._lock:
            if ordinal not in self._chunks:
                self._used += chunk.nbytes
            self._chunks[ordinal] = chunk
            while self._used > self._size:
                _ordinal, old = self._chunks.popitem(last=False)
                self._used -= old.nbytes


_caches: WeakSet[ChunkCache] = WeakSet()


def _clear_caches() -> None:
    for cache in _caches:
        cache.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_caches)


@dataclass(frozen=True, slots=True)
class _Picks:
    """Which volumes of a group are wanted, and where they land in the block.

    Attributes
    ----------
    group : int
        Number of the group.
    inside, places : slice or list of int
        Indices of the volumes in the group, and in the block.
    last : int
        Greatest index in the group.
    """

    group: int
    inside: slice | list[int]
    places: slice | list[int]
    last: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A chunk that is wanted, its box, and what is wanted of its volumes."""

    ordinal: int
    box: Box
    picks: _Picks


class RegionReader:
    """Reads regions of one file.

    Parameters
    ----------
    reader : ContainerReader or Salvaged
        Gives chunks.
    jobs : int
        Threads that decode.
    missing : {"error", "fill"}
        What to do with voxels that are not in the file: raise, or give the fill value.
    isolated : bool
        Whether native codecs decode in a process of their own, if limits do not say.
    """

    def __init__(
        self, reader: ContainerReader, *, jobs: int, missing: Missing, isolated: bool = False
    ) -> None:
        self.reader = reader
        self.geom = reader.head.geom
        self.jobs = jobs
        self.missing = missing
        self.isolated = reader.limits.isolates(default=isolated)
        self.decoder = ChunkDecoder(self.geom, reader.head.codecs, isolated=self.isolated)
        self._cache = ChunkCache()

    @override
    def __reduce__(self) -> tuple[Callable[..., RegionReader], tuple[Any, ...]]:
        return _rebuild, (self.reader, self.jobs, self.missing, self.isolated)

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
        samples = (geom.datatype.samples,) if geom.datatype.samples > 1 else ()
        shape = (len(volumes), *(len(r) for r in reversed(ranges)), *samples)
        if 0 in shape:
            return np.empty(shape, dtype=geom.datatype.sample)
        bounds = _bounding_box(ranges)
        block = self._empty_block(shape, bounds)
        parts = [
            part
            for picks in _pick_volumes(geom.grid, volumes)
            for part in self._plan(bounds, ranges, picks)
        ]
        parts.sort(key=lambda part: part.ordinal)

        def place(part: _Part, fetch: Callable[[], Chunk]) -> None:
            if part.ordinal < geom.grid.roi_chunks:
                self._place_roi(block, part, ranges, fetch)
            else:
                self._place_background(block, part, ranges, fetch)

        fetches = zip(parts, self.reader.iter_chunks([p.ordinal for p in parts]), strict=True)
        if len(parts) > 1 and self.jobs > 1 and block.nbytes >= _PARALLEL_SIZE:
            self._run_parallel(place, fetches)
        else:
            for part, fetch in fetches:
                place(part, fetch)
        return block

    def _run_parallel(
        self,
        place: Callable[[_Part, Callable[[], Chunk]], None],
        fetches: Iterator[tuple[_Part, Callable[[], Chunk]]],
    ) -> None:
        """Work on the chunks in threads, a bounded number ahead."""
        with ThreadPoolExecutor(self.jobs, "mroi-decode") as pool:
            running = []
            try:
                for part, fetch in fetches:
                    running.append(pool.submit(place, part, fetch))
                    if len(running) > 4 * self.jobs:
                        running.pop(0).result()
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def mark(self, mask: NDArray[np.bool_], ordinal: int) -> None:
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

        Raises
        ------
        UsageError
            If a slice is not one whole chunk.
        CodecError
            If its codec cannot decode at a reduced resolution.
        """
        grid = self.geom.grid
        if (grid.slab, grid.span) != (1, 1) or grid.counts[1:] != (1, 1):
            raise UsageError(
                "reduced resolutions are for files with one slice in each chunk; pack with chunk=1"
            )
        number = index - grid.roi.start[self.geom.slice_axis]
        chunk = self.reader.read_chunk(volume * grid.counts[0] + number)
        plane: NDArray[Any] = self.decoder.decode_level(chunk, level)[0]
        return plane

    def decode_overview(self, record: OverviewRecord, *, offset: int) -> NDArray[Any]:
        """Return the array of an overview: (volumes * slices, rows, columns[, samples])."""
        spec = array_spec(self.geom, record.factor, record.volumes)
        if spec.size > self.reader.limits.chunk_size:
            raise LimitError(f"overview of {spec.size:,} bytes", "LIM-1", offset)
        return decode_overview(record, spec, self.decoder.pipeline(record.slot), offset=offset)

    # -- planning --------------------------------------------------------------------------

    def _plan(self, bounds: Box, ranges: Ranges, picks: _Picks) -> Iterator[_Part]:
        grid = self.geom.grid
        for chunk in grid.find_chunks(bounds, picks.group):
            if _meets(ranges, chunk.box):
                yield _Part(chunk.ordinal, chunk.box, picks)
        for ordinal in grid.find_background(bounds, picks.group):
            box = grid.background_box(ordinal)
            if _meets(ranges, box):
                yield _Part(ordinal, box, picks)

    def _empty_block(self, shape: tuple[int, ...], bounds: Box) -> NDArray[Any]:
        """Return the block to fill, with the fill value where no chunk will land."""
        geom = self.geom
        dtype = geom.datatype.sample
        if geom.roi.contains(bounds) or geom.background.is_stored:
            return np.empty(shape, dtype=dtype)
        if geom.background is Background.OMIT and self.missing == "error":
            raise MissingVoxelsError(
                f"voxels outside the box {geom.roi} are not in the file; read the cropped volume, "
                "or ask for the fill value",
                "BKG-1",
            )
        if not any(geom.fill):
            return np.zeros(shape, dtype=dtype)
        block = np.empty(shape, dtype=dtype)
        block[...] = geom.fill_element() if geom.datatype.samples > 1 else geom.fill_element()[0]
        return block

    # -- placing ---------------------------------------------------------------------------

    def _decode(self, fetch: Callable[[], Chunk], ordinal: int, count: int) -> NDArray[Any] | None:
        """Return the first `count` slices of a chunk, or None if it is missing and that is fine."""
        cached = self._cache.find(ordinal)
        if cached is not None:
            return cached
        chunk = fetch()
        if chunk.state is ChunkState.MISSING and self.missing == "fill":
            return None
        decoded = self.decoder.decode(chunk, count)
        if decoded.nbytes == chunk.size and chunk.state is ChunkState.ENCODED:
            self._cache.keep(ordinal, decoded)
        return decoded

    def _place_roi(
        self, block: NDArray[Any], part: _Part, ranges: Ranges, fetch: Callable[[], Chunk]
    ) -> None:
        axis = self.geom.slice_axis
        inside, _target = _overlap(ranges, part.box)
        slices = part.box.shape[axis]
        last = part.picks.last
        count = (last + 1) * slices if last else _last(inside[2 - axis]) + 1
        decoded = self._decode(fetch, part.ordinal, count)
        if decoded is not None:  # perhaps only the first slices of the first volume
            decoded = decoded.reshape(-1, min(slices, len(decoded)), *decoded.shape[1:])
        self._place(block, part.box, ranges, part.picks, decoded)

    def _place_background(
        self, block: NDArray[Any], part: _Part, ranges: Ranges, fetch: Callable[[], Chunk]
    ) -> None:
        grid = self.geom.grid
        boxes = grid.outside_boxes(part.box)
        if not any(_meets(ranges, box) for box in boxes):
            return
        decoded = self._decode(fetch, part.ordinal, 1)
        views: list[NDArray[Any] | None] = [None] * len(boxes)
        if decoded is not None:
            volumes = len(grid.background_volumes(part.ordinal))
            voxels = decoded.reshape(volumes, -1, *decoded.shape[3:])
            views = [*_residue(grid, part.box, voxels)]
        for box, view in zip(boxes, views, strict=True):
            if _meets(ranges, box):
                self._place(block, box, ranges, part.picks, view)

    def _place(
        self,
        block: NDArray[Any],
        box: Box,
        ranges: Ranges,
        picks: _Picks,
        voxels: NDArray[Any] | None,
    ) -> None:
        """Put the wanted voxels of a box, (volumes, scan order), or the fill for missing ones."""
        inside, where = _overlap(ranges, box)
        target = (picks.places, *where)
        if voxels is None:
            block[target] = self._fill()
        else:
            block[target] = _to_zyx(voxels, self.geom.grid.axes)[(picks.inside, *inside)]

    def _fill(self) -> Any:
        """Return what stands for missing voxels: the fill value of the file, or zeros."""
        if self.geom.background.is_stored or self.geom.background is Background.OMIT:
            return np.zeros((), dtype=self.geom.datatype.sample)
        element = self.geom.fill_element()
        return element if self.geom.datatype.samples > 1 else element[0]


def _rebuild(
    reader: ContainerReader,
    jobs: int,
    missing: Missing,
    isolated: bool,  # noqa: FBT001 (pickle calls it)
) -> RegionReader:
    return RegionReader(reader, jobs=jobs, missing=missing, isolated=isolated)


def _pick_volumes(grid: ChunkGrid, volumes: Sequence[int]) -> Iterator[_Picks]:
    """Yield what is wanted of each group that holds one of these volumes."""
    by_group: dict[int, tuple[list[int], list[int]]] = {}
    for place, volume in enumerate(volumes):
        group = grid.group_of(volume)
        inside, places = by_group.setdefault(group, ([], []))
        inside.append(volume - grid.group_volumes(group).start)
        places.append(place)
    for group, (inside, places) in by_group.items():
        yield _Picks(group, _as_index(inside), _as_index(places), max(inside))


def _as_index(numbers: Sequence[int]) -> slice | list[int]:
    """Return an index of these numbers: a slice if each is one more than the one before."""
    if numbers[-1] - numbers[0] + 1 == len(numbers) and list(numbers) == sorted(numbers):
        return slice(numbers[0], numbers[-1] + 1)
    return list(numbers)


def _bounding_box(ranges: Ranges) -> Box:
    x, y, z = ranges
    return Box((x[0], y[0], z[0]), (x[-1] + 1, y[-1] + 1, z[-1] + 1))


def _meets(ranges: Ranges, box: Box) -> bool:
    """Whether any wanted voxel lies in the box: steps may jump over it."""
    return all(
        _first(r, lo) < _first(r, hi) for r, lo, hi in zip(ranges, box.start, box.stop, strict=True)
    )


def _first(wanted: range, bound: int) -> int:
    """Return the position of the first index of `wanted` that is not below `bound`."""
    return min(max(-(-(bound - wanted.start) // wanted.step), 0), len(wanted))


def _overlap(ranges: Ranges, box: Box) -> tuple[Index, Index]:
    """Return the wanted part of a box: as indices (z, y, x) into the box, and into the block."""
    inside, target = [], []
    for r, lo, hi in zip(ranges, box.start, box.stop, strict=True):
        a, b = _first(r, lo), _first(r, hi)
        target.append(slice(a, b))
        inside.append(slice(r[a] - lo, r[b - 1] - lo + 1, r.step))
    return (inside[2], inside[1], inside[0]), (target[2], target[1], target[0])


def _last(index: slice) -> int:
    """Return the last index of a slice with explicit bounds."""
    return range(index.start, index.stop, index.step)[-1]


def _residue(grid: ChunkGrid, box: Box, voxels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the lists of voxels (volumes, n[, samples]) of a background chunk as views.

    There is one for each of its boxes, in scan order, with the volumes before.
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


def _to_zyx(chunk: NDArray[Any], axes: tuple[int, int, int]) -> NDArray[Any]:
    """View (volumes, scan order[, samples]) as (volumes, z, y, x[, samples])."""
    order = [1 + axes.index(axis) for axis in (2, 1, 0)]
    return chunk.transpose(0, *order, *range(4, chunk.ndim))
