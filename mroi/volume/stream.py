"""Read a file from a pipe: slices are delivered as they arrive, and nothing is kept of them.

Where chunks span volumes, those of a group arrive together: they are kept until all were delivered.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from mroi.container import (
    NEED_DATA,
    Chunk,
    ChunkEvent,
    ContainerParser,
    EndEvent,
    HeadEvent,
    is_url,
)
from mroi.errors import ChecksumError, FormatError, TruncatedError, UsageError
from mroi.format.geom import Geom
from mroi.geometry import Box, crop_affine
from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.volume.chunks import ChunkDecoder, decoded_crc

__all__ = ["StreamedSlice", "VolumeStream", "open_stream"]

_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StreamedSlice:
    """One slice of a stream.

    Attributes
    ----------
    index : int
        Number along the slice axis, in the full field of view.
    volume : int
        Linear index over the axes beyond the third.
    array : (n, m) ndarray
        Stored values; the in-plane axes in ascending order, like ``volume[:, :, k]``.
    """

    index: int
    volume: int
    array: NDArray[Any]


class VolumeStream:
    """The slices of a file that arrives through a pipe; use `mroi.stream` to get one.

    Iterating gives `StreamedSlice` objects. Slices are provisional until the iteration has ended
    without an error: the end of the file holds checks on what came before (STR-1).

    Attributes
    ----------
    geom : Geom
        Geometry of the volume.
    box : Box
        What the slices cover: the full field of view, or the ROI alone if the background is not
        known when a slice of the ROI arrives (stored background comes last, an omitted one never).
    affine : (4, 4) ndarray of float64
        Affine of the slices of `box`, mm, RAS+.
    """

    def __init__(
        self, file: BinaryIO, *, limits: Limits = DEFAULT_LIMITS, owns_file: bool = False
    ) -> None:
        self._owned = file if owns_file else None
        # read1 gives what has arrived; read would wait for the next slices to fill its buffer.
        self._receive: Callable[[int], bytes | None] = getattr(file, "read1", file.read)
        self._parser = ContainerParser(limits=limits)
        event = self._next_event()
        assert isinstance(event, HeadEvent)
        head = event.head
        self.geom: Geom = head.geom
        is_filled = self.geom.background.is_filled
        self.box: Box = Box.whole(self.geom.shape) if is_filled else self.geom.roi
        self.affine = crop_affine(self.geom.affine, self.box.start)
        isolated = limits.isolates(default=False)
        self._decoder = ChunkDecoder(self.geom, head.codecs, isolated=isolated)
        self._crcs = np.zeros(head.chunk_count, dtype=np.uint32)

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[StreamedSlice]:
        """Yield the slices in order, for each volume of 4-D data in turn.

        Raises
        ------
        MroiError
            If the bytes break a rule, also if they end early.
        """
        geom, grid = self.geom, self.geom.grid
        axis = geom.slice_axis
        lo, hi = grid.roi.start[axis], grid.roi.stop[axis]
        for group in range(grid.groups):
            volumes = grid.group_volumes(group)
            slabs: Iterable[NDArray[Any]] = (
                self._receive_slab(len(volumes)) for _ in range(grid.counts[0])
            )
            if len(volumes) > 1:  # the last slab has voxels of the first volume, too
                slabs = list(slabs)
            for inside, volume in enumerate(volumes):
                yield from self._outside(volume, range(self.box.start[axis], lo))
                planes = chain.from_iterable(slab[inside] for slab in slabs)
                for k, plane in enumerate(planes, start=lo):
                    yield self._slice(plane, k, volume)
                yield from self._outside(volume, range(hi, self.box.stop[axis]))
        self._receive_end()
        self.close()

    def _receive_slab(self, volumes: int) -> NDArray[Any]:
        """Receive the chunks of one slab of the ROI; return its planes, (volumes, scan order)."""
        grid = self.geom.grid
        _axis, slow, fast = grid.axes
        slab: NDArray[Any] | None = None
        for _ in range(grid.counts[1] * grid.counts[2]):
            ordinal, decoded = self._receive_chunk()
            decoded = decoded.reshape(volumes, -1, *decoded.shape[1:])
            if slab is None:
                shape = (*decoded.shape[:2], grid.roi.shape[slow], grid.roi.shape[fast])
                slab = np.empty((*shape, *decoded.shape[4:]), dtype=decoded.dtype)
            box = grid.chunk(ordinal).box.shifted([-a for a in grid.roi.start])
            where = (slice(None), slice(None), box.slices[slow], box.slices[fast])
            slab[where] = decoded
        assert slab is not None
        return slab

    def _receive_chunk(self) -> tuple[int, NDArray[Any]]:
        event = self._next_event()
        assert isinstance(event, ChunkEvent)
        header = event.header
        chunk = Chunk(
            header.ordinal, event.state, header.codec_slot, event.payload, event.size, None
        )
        decoded = self._decoder.decode(chunk)
        self._crcs[header.ordinal] = decoded_crc(chunk, decoded)
        return header.ordinal, decoded

    def _receive_end(self) -> None:
        """Receive the background, which is only checked, and the tail."""
        for _ in range(self.geom.grid.background_chunks):
            self._receive_chunk()
        event = self._next_event()
        assert isinstance(event, EndEvent)
        expected = event.tail.index.decoded_crcs
        if expected is not None and (wrong := np.flatnonzero(expected != self._crcs)).size:
            raise ChecksumError(f"chunk {wrong[0]}: decoded CRC mismatch", "CHK-9")

    def _slice(self, plane: NDArray[Any], index: int, volume: int) -> StreamedSlice:
        """Return a slice of the ROI, put into the field of view of `box`."""
        geom, grid = self.geom, self.geom.grid
        _axis, slow, fast = grid.axes
        if self.box != grid.roi:
            full = self._filled_plane()
            full[grid.roi.slices[slow], grid.roi.slices[fast]] = plane
            plane = full
        return StreamedSlice(index, volume, geom.datatype.to_elements(plane).T)

    def _outside(self, volume: int, indices: range) -> Iterator[StreamedSlice]:
        """Yield slices that lie outside the ROI: they are the fill value."""
        for k in indices:
            plane = self._filled_plane()
            yield StreamedSlice(k, volume, self.geom.datatype.to_elements(plane).T)

    def _filled_plane(self) -> NDArray[Any]:
        geom = self.geom
        _axis, slow, fast = geom.grid.axes
        shape = (geom.shape[slow], geom.shape[fast], *geom.datatype.sample_shape)
        return np.full(shape, geom.fill_samples, dtype=geom.datatype.sample)

    def _next_event(self) -> HeadEvent | ChunkEvent | EndEvent:
        while (event := self._parser.next_event()) is NEED_DATA:
            try:
                data = self._receive(min(self._parser.wanted, _READ_SIZE))
            except ValueError as exc:  # a file object that was closed meanwhile
                raise TruncatedError(f"the stream was closed: {exc}", "LAY-4") from exc
            if data is None:
                raise BlockingIOError(errno.EAGAIN, "the stream does not wait for bytes to come")
            self._parser.receive_data(data)
        if not isinstance(event, HeadEvent | ChunkEvent | EndEvent):
            raise FormatError("unexpected event", "STR-1")
        return event


def open_stream(
    file: str | os.PathLike[str] | BinaryIO, *, limits: Limits = DEFAULT_LIMITS
) -> VolumeStream:
    """Read the head of a file that arrives through a pipe; see `VolumeStream`.

    Parameters
    ----------
    file : path or binary file
        A file or a named pipe, which is closed after the last slice, or by `VolumeStream.close`,
        or as a context manager; or anything with ``read``, which need not be able to seek and is
        left open.
    limits : Limits
        What a file may make the reader take.

    Raises
    ------
    FormatError
        If the bytes are not the head of a file.
    UsageError
        If it is nothing that can be read.
    OSError
        If the file cannot be opened.
    """
    if is_url(file):
        raise UsageError("a URL is not streamed: mroi.open reads what is needed of it")
    if isinstance(file, str | os.PathLike):
        with ExitStack() as stack:
            opened = stack.enter_context(Path(file).open("rb"))
            stream = VolumeStream(opened, limits=limits, owns_file=True)
            stack.pop_all()
            return stream
    if not hasattr(file, "read"):
        raise UsageError(
            f"cannot stream from {type(file).__name__}: give a path or an open binary file"
        )
    return VolumeStream(file, limits=limits)
