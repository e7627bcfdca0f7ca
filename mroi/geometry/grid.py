"""The chunk grid: which voxels each chunk of a file holds, and in which order.

The grid starts at the ROI, not at the volume. Chunks are ordered so that the slice axis varies
slowest of the three spatial axes, then the higher, then the lower in-plane axis; axes beyond the
third are outermost. Chunks at the far edges are short, never padded. After the chunks of the ROI
come, where the background is kept, those of the background: one for each slab of full planes.

Arrays here are in *scan order*: C-contiguous with axes (volume, slice, in-plane slow, in-plane
fast), of which the first two are one for codecs.
See the section "Chunk grid" of ``spec/mroi-1.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mroi.geometry.box import Box, Quad, Triple, in_plane_axes

__all__ = ["ChunkGrid", "GridChunk"]


@dataclass(frozen=True, slots=True)
class GridChunk:
    """One chunk of the ROI.

    Attributes
    ----------
    ordinal : int
        Number of the chunk in the file.
    box : Box
        Its voxels, in the full volume.
    volumes : range
        Its 3-D volumes: linear indices over the axes beyond the third, axis 3 fastest.
    """

    ordinal: int
    box: Box
    volumes: range


@dataclass(frozen=True)
class ChunkGrid:
    """Partition of the ROI, and of the background, of a volume into chunks.

    The volumes of a chunk are a *group*: up to ``chunk_shape[3]`` neighbours along axis 3.

    Parameters
    ----------
    shape : tuple of int
        All axes of the volume, at least three.
    roi : Box
        Region of interest; axes beyond the third are always whole.
    chunk_shape : tuple of 4 int
        Voxels of a chunk along x, y, z and axis 3; at most the extent of the ROI and of axis 3.
    slice_axis : int
        0, 1 or 2: the axis across slices.
    background : bool
        Whether background chunks follow those of the ROI.
    """

    shape: tuple[int, ...]
    roi: Box
    chunk_shape: Quad
    slice_axis: int
    background: bool

    @cached_property
    def axes(self) -> Triple:
        """Spatial axes in scan order: slice axis, in-plane slow, in-plane fast."""
        fast, slow = in_plane_axes(self.slice_axis)
        return self.slice_axis, slow, fast

    @cached_property
    def counts(self) -> Triple:
        """Chunks of the ROI along the axes in scan order, for each group of volumes."""
        s, w, f = (-(-self.roi.shape[axis] // self.chunk_shape[axis]) for axis in self.axes)
        return s, w, f

    @cached_property
    def volumes(self) -> int:
        """Number of 3-D volumes: the product of the axes beyond the third."""
        return math.prod(self.shape[3:])

    @property
    def span(self) -> int:
        """Volumes of a group; the last one along axis 3 may have fewer."""
        return self.chunk_shape[3]

    @cached_property
    def _series(self) -> int:
        """Extent of axis 3."""
        return self.shape[3] if len(self.shape) > 3 else 1

    @cached_property
    def _series_groups(self) -> int:
        """Groups along axis 3."""
        return -(-self._series // self.span)

    @cached_property
    def groups(self) -> int:
        """Number of groups of volumes."""
        return self._series_groups * (self.volumes // self._series)

    @cached_property
    def group_chunks(self) -> int:
        """Chunks of the ROI in each group."""
        return math.prod(self.counts)

    @cached_property
    def roi_chunks(self) -> int:
        """Number of chunks of the ROI."""
        return self.group_chunks * self.groups

    @property
    def slab(self) -> int:
        """Thickness of a chunk in slices."""
        return self.chunk_shape[self.slice_axis]

    @cached_property
    def background_slabs(self) -> int:
        """Background chunks of one group: slabs of the full extent."""
        return -(-self.shape[self.slice_axis] // self.slab) if self.background else 0

    @cached_property
    def background_chunks(self) -> int:
        """Number of background chunks."""
        return self.background_slabs * self.groups

    @property
    def chunks(self) -> int:
        """Number of all chunks."""
        return self.roi_chunks + self.background_chunks

    def scan_shape(self, box: Box) -> Triple:
        """Return the extent of a box in scan order."""
        s, w, f = (box.shape[axis] for axis in self.axes)
        return s, w, f

    # -- volumes ---------------------------------------------------------------------------

    def group_of(self, volume: int) -> int:
        """Return the group that a volume belongs to."""
        outer, index = divmod(volume, self._series)
        return outer * self._series_groups + index // self.span

    def group_size(self, group: int) -> int:
        """Return the number of volumes of a group."""
        is_last = group % self._series_groups == self._series_groups - 1
        return self._series - (self._series_groups - 1) * self.span if is_last else self.span

    def group_volumes(self, group: int) -> range:
        """Return the volumes of a group."""
        outer, number = divmod(group, self._series_groups)
        first = number * self.span
        start = outer * self._series
        return range(start + first, start + min(first + self.span, self._series))

    # -- the ROI ---------------------------------------------------------------------------

    def chunk(self, ordinal: int) -> GridChunk:
        """Return the chunk of the ROI with this number."""
        group, rest = divmod(ordinal, self.group_chunks)
        rest, f = divmod(rest, self.counts[2])
        s, w = divmod(rest, self.counts[1])
        start, stop = [0, 0, 0], [0, 0, 0]
        for axis, number in zip(self.axes, (s, w, f), strict=True):
            start[axis] = self.roi.start[axis] + number * self.chunk_shape[axis]
            stop[axis] = min(start[axis] + self.chunk_shape[axis], self.roi.stop[axis])
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return GridChunk(ordinal, box, self.group_volumes(group))

    @cached_property
    def _sides(self) -> tuple[tuple[int, int, int], ...]:
        """Of each axis in scan order: chunks, voxels of a chunk, voxels of the last chunk."""
        extents = [(self.chunk_shape[axis], self.roi.shape[axis]) for axis in self.axes]
        return tuple(
            (count, size, extent - (count - 1) * size)
            for count, (size, extent) in zip(self.counts, extents, strict=True)
        )

    def extent(self, ordinal: int) -> Quad:
        """Return the extent of a chunk of the ROI: volumes, then in scan order."""
        (_, thick, thinnest), (rows, tall, shortest), (columns, wide, narrowest) = self._sides
        rest, f = divmod(ordinal, columns)
        rest, w = divmod(rest, rows)
        group, s = divmod(rest, self.counts[0])
        return (
            self.group_size(group),
            thinnest if s == self.counts[0] - 1 else thick,
            shortest if w == rows - 1 else tall,
            narrowest if f == columns - 1 else wide,
        )

    def voxels(self, ordinal: int) -> int:
        """Return the number of voxels of any chunk, of the ROI or of the background."""
        if ordinal < self.roi_chunks:
            return math.prod(self.extent(ordinal))
        outside = self.outside_count(self.background_box(ordinal))
        return outside * len(self.background_volumes(ordinal))

    def find_chunks(self, box: Box, group: int) -> Iterator[GridChunk]:
        """Yield the chunks of the ROI of one group of volumes that meet `box`, in order."""
        part = self.roi.find_overlap(box)
        if part is None:
            return
        ranges = [
            range(
                (part.start[axis] - self.roi.start[axis]) // self.chunk_shape[axis],
                (part.stop[axis] - 1 - self.roi.start[axis]) // self.chunk_shape[axis] + 1,
            )
            for axis in self.axes
        ]
        for s in ranges[0]:
            for w in ranges[1]:
                for f in ranges[2]:
                    number = (group * self.counts[0] + s) * self.counts[1] + w
                    yield self.chunk(number * self.counts[2] + f)

    # -- background ------------------------------------------------------------------------

    def background_box(self, ordinal: int) -> Box:
        """Return the slab of full planes that a background chunk covers."""
        number = (ordinal - self.roi_chunks) % self.background_slabs
        start, stop = [0, 0, 0], list(self.shape[:3])
        start[self.slice_axis] = number * self.slab
        stop[self.slice_axis] = min((number + 1) * self.slab, self.shape[self.slice_axis])
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def background_volumes(self, ordinal: int) -> range:
        """Return the volumes that a background chunk covers."""
        return self.group_volumes((ordinal - self.roi_chunks) // self.background_slabs)

    def find_background(self, box: Box, group: int) -> Iterator[int]:
        """Yield the ordinals of the non-empty background chunks of one group that meet `box`."""
        if not self.background or self.roi.contains(box):
            return
        first = box.start[self.slice_axis] // self.slab
        last = (box.stop[self.slice_axis] - 1) // self.slab
        for number in range(first, last + 1):
            ordinal = self.roi_chunks + group * self.background_slabs + number
            if self.outside_count(self.background_box(ordinal)):
                yield ordinal

    def outside_count(self, box: Box) -> int:
        """Return how many voxels of `box` lie outside the ROI."""
        inside = self.roi.find_overlap(box)
        return box.count - (inside.count if inside else 0)

    def outside_boxes(self, box: Box) -> list[Box]:
        """Return the at most six boxes that share out the voxels of a slab outside the ROI.

        They come in the order in which a list in scan order first meets them: the slices before
        the ROI; of the slices that it crosses, the rows before it, the columns before and after
        it, the rows after it; the slices behind it.
        """
        inside = self.roi.find_overlap(box)
        if inside is None:
            return [box]
        axes = self.axes
        (z0, z1, z2, z3), (y0, y1, y2, y3), (x0, x1, x2, x3) = (
            (box.start[a], inside.start[a], inside.stop[a], box.stop[a]) for a in axes
        )
        spans = (
            ((z0, z1), (y0, y3), (x0, x3)),
            ((z1, z2), (y0, y1), (x0, x3)),
            ((z1, z2), (y1, y2), (x0, x1)),
            ((z1, z2), (y1, y2), (x2, x3)),
            ((z1, z2), (y2, y3), (x0, x3)),
            ((z2, z3), (y0, y3), (x0, x3)),
        )
        boxes = []
        for span in spans:
            if all(lo < hi for lo, hi in span):
                x, y, z = (span[axes.index(axis)] for axis in range(3))
                boxes.append(Box((x[0], y[0], z[0]), (x[1], y[1], z[1])))
        return boxes
