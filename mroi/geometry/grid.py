"""The chunk grid: which voxels each chunk of a file holds, and in which order.

The grid starts at the ROI, not at the volume. Chunks are ordered so that the slice axis varies
slowest of the three spatial axes, then the higher, then the lower in-plane axis; axes beyond the
third are outermost. Chunks at the far edges are short, never padded. After the chunks of the ROI
come, where the background is kept, those of the background: one for each slab of full planes.

Arrays here are in *scan order*: C-contiguous with axes (slice, in-plane slow, in-plane fast).
See the section "Chunk grid" of ``spec/mroi-1.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mroi.geometry.box import Box, Triple

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
    volume : int
        Linear index over the axes beyond the third, axis 3 fastest.
    """

    ordinal: int
    box: Box
    volume: int


@dataclass(frozen=True)
class ChunkGrid:
    """Partition of the ROI, and of the background, of a volume into chunks.

    Parameters
    ----------
    shape : tuple of int
        All axes of the volume, at least three.
    roi : Box
        Region of interest; axes beyond the third are always whole.
    chunk_shape : tuple of 3 int
        Voxels of a chunk along x, y, z; at most the extent of the ROI.
    slice_axis : int
        0, 1 or 2: the axis across slices.
    background : bool
        Whether background chunks follow those of the ROI.
    """

    shape: tuple[int, ...]
    roi: Box
    chunk_shape: Triple
    slice_axis: int
    background: bool

    @cached_property
    def axes(self) -> Triple:
        """Spatial axes in scan order: slice axis, in-plane slow, in-plane fast."""
        fast, slow = (axis for axis in range(3) if axis != self.slice_axis)
        return self.slice_axis, slow, fast

    @cached_property
    def counts(self) -> Triple:
        """Chunks of the ROI along the axes in scan order."""
        s, w, f = (-(-self.roi.shape[axis] // self.chunk_shape[axis]) for axis in self.axes)
        return s, w, f

    @cached_property
    def volumes(self) -> int:
        """Number of 3-D volumes: the product of the axes beyond the third."""
        return math.prod(self.shape[3:])

    @cached_property
    def roi_chunks(self) -> int:
        """Number of chunks of the ROI."""
        return math.prod(self.counts) * self.volumes

    @property
    def slab(self) -> int:
        """Thickness of a chunk in slices."""
        return self.chunk_shape[self.slice_axis]

    @cached_property
    def background_slabs(self) -> int:
        """Background chunks of one 3-D volume: slabs of the full extent."""
        return -(-self.shape[self.slice_axis] // self.slab) if self.background else 0

    @cached_property
    def background_chunks(self) -> int:
        """Number of background chunks."""
        return self.background_slabs * self.volumes

    @property
    def chunks(self) -> int:
        """Number of all chunks."""
        return self.roi_chunks + self.background_chunks

    def scan_shape(self, box: Box) -> Triple:
        """Return the extent of a box in scan order."""
        s, w, f = (box.shape[axis] for axis in self.axes)
        return s, w, f

    def chunk(self, ordinal: int) -> GridChunk:
        """Return the chunk of the ROI with this number."""
        volume, rest = divmod(ordinal, math.prod(self.counts))
        rest, f = divmod(rest, self.counts[2])
        s, w = divmod(rest, self.counts[1])
        start, stop = [0, 0, 0], [0, 0, 0]
        for axis, number in zip(self.axes, (s, w, f), strict=True):
            start[axis] = self.roi.start[axis] + number * self.chunk_shape[axis]
            stop[axis] = min(start[axis] + self.chunk_shape[axis], self.roi.stop[axis])
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return GridChunk(ordinal, box, volume)

    def voxels(self, ordinal: int) -> int:
        """Return the number of voxels of any chunk, of the ROI or of the background."""
        if ordinal < self.roi_chunks:
            return self.chunk(ordinal).box.count
        return self.outside_count(self.background_box(ordinal))

    def find_chunks(self, box: Box, volume: int) -> Iterator[GridChunk]:
        """Yield the chunks of the ROI of one 3-D volume that meet `box`, in order."""
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
                    number = (volume * self.counts[0] + s) * self.counts[1] + w
                    yield self.chunk(number * self.counts[2] + f)

    # -- background ------------------------------------------------------------------------

    def background_box(self, ordinal: int) -> Box:
        """Return the slab of full planes that a background chunk covers."""
        number = (ordinal - self.roi_chunks) % self.background_slabs
        start, stop = [0, 0, 0], list(self.shape[:3])
        start[self.slice_axis] = number * self.slab
        stop[self.slice_axis] = min((number + 1) * self.slab, self.shape[self.slice_axis])
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def find_background(self, box: Box, volume: int) -> Iterator[int]:
        """Yield the ordinals of the non-empty background chunks of one volume that meet `box`."""
        if not self.background or self.roi.contains(box):
            return
        first = box.start[self.slice_axis] // self.slab
        last = (box.stop[self.slice_axis] - 1) // self.slab
        for number in range(first, last + 1):
            ordinal = self.roi_chunks + volume * self.background_slabs + number
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
