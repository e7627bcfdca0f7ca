"""A volume in a file, read lazily: what is indexed is decoded, nothing else.

Arrays have the axes x, y, z, ... as in nibabel, x fastest in memory. Reading is thread-safe; a
volume can be pickled, and used after a fork.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import override

from mroi.container import ContainerReader, Source, open_source
from mroi.errors import UsageError
from mroi.format.geom import Background, Geom
from mroi.format.overview import OverviewMethod, parse_overview
from mroi.format.records import FRAME_HEADER_SIZE, FrameType, Incompat
from mroi.format.restricted_json import MAX_JSON_SIZE, parse_json
from mroi.geometry import Axis, Box, axis_codes, axis_number, crop_affine, in_plane_axes
from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.volume.jobs import threads_of
from mroi.volume.overview import Overview, overview_affine
from mroi.volume.read import Missing, RegionReader

__all__ = ["Volume", "open_volume"]

_MAX_LEVEL = 32
_GROUP_SIZE = 1 << 28


class Volume:
    """A volume in a file; `mroi.open` makes one, the constructor is not public.

    ``volume[x0:x1, y0:y1, z0:z1, ...]``, ``volume.slice(k)`` and ``np.asarray(volume)`` give the
    full field of view in real units: ``slope * stored + inter`` as float64, or the stored values
    where there is no scaling, as nibabel does. `unscaled` and `cropped` are views of the same file
    that give stored values, and the ROI alone.

    Indexing raises `IndexError` for an index out of range, `MissingVoxelsError` for voxels that
    the file says it does not have, and another `MroiError` for a damaged chunk or a codec that is
    not installed.

    After `close` indexing raises `UsageError`; what is known of the volume without reading stays.
    Views that were taken before, and copies sent to other processes, open the file for themselves.
    """

    def __init__(self, regions: RegionReader, box: Box, *, scaled: bool = True) -> None:
        self._regions = regions
        self._box = box
        self._scaled = scaled
        self._is_closed = False
        self.reader = regions.reader

    def _repr_html_(self) -> str:
        """Return what notebooks show: what it is, and planes of it if that takes no second."""
        from mroi.volume.html import volume_html

        return volume_html(self, None if self._is_closed else self.full.filled)

    # -- views -----------------------------------------------------------------------------

    @property
    def unscaled(self) -> Self:
        """The same volume, giving stored values instead of real units."""
        return type(self)(self.regions, self._box, scaled=False)

    @property
    def cropped(self) -> Self:
        """The ROI alone, with its own shape and affine."""
        return type(self)(self.regions, self.roi, scaled=self._scaled)

    @property
    def full(self) -> Self:
        """The full field of view, of a volume that is `cropped`."""
        return type(self)(self.regions, Box.whole(self.geom.shape), scaled=self._scaled)

    @property
    def isolated(self) -> Self:
        """The same volume, native codecs decoding in a process of their own (`Limits.isolate`)."""
        return type(self)(self.regions.replaced(isolated=True), self._box, scaled=self._scaled)

    @property
    def filled(self) -> Self:
        """The same volume, the fill value standing for voxels that are not in the file."""
        return type(self)(self.regions.replaced(missing="fill"), self._box, scaled=self._scaled)

    @property
    def regions(self) -> RegionReader:
        """What reads parts of the file chunk by chunk, below slices and indices.

        Raises
        ------
        UsageError
            If the volume is closed.
        """
        if self._is_closed:
            raise UsageError("the volume is closed")
        return self._regions

    # -- geometry --------------------------------------------------------------------------

    @property
    def geom(self) -> Geom:
        """The geometry record of the file."""
        return self._regions.geom

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, x first."""
        return (*self._box.shape, *self.geom.shape[3:])[: self.geom.ndim]

    @property
    def box(self) -> Box:
        """What it has of the full field of view along x, y, z: all, or the ROI if `cropped`."""
        return self._box

    @property
    def ndim(self) -> int:
        """Number of axes, 1 to 7."""
        return self.geom.ndim

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that indexing gives: float64 if they are scaled, or what is wider."""
        if not self._is_scaled:
            return self.stored_dtype
        return np.result_type(self.stored_dtype, np.float64)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Type of the stored values; RGB and RGBA are structures of R, G, B (and A)."""
        return self.geom.datatype.element

    @property
    def _is_scaled(self) -> bool:
        if not self._scaled or self.stored_dtype.kind not in "iufc":
            return False
        return self._rescale is not None or (self.geom.slope, self.geom.inter) != (1.0, 0.0)

    @property
    def _rescale(self) -> NDArray[np.float64] | None:
        return self.reader.head.rescale

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) float64: index (i, j, k) of a voxel centre to its position in mm, RAS+."""
        return crop_affine(self.geom.affine, self._box.start)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbours along each axis, in the units of the source; 0 if not known."""
        return self.geom.spacing[: self.geom.ndim]

    @property
    def orientation(self) -> str:
        """Anatomical direction that x, y and z run to, like ``RAS``."""
        return axis_codes(self.geom.affine)

    @property
    def roi(self) -> Box:
        """Region of interest, in voxels of the full field of view."""
        return self.geom.roi

    @property
    def slice_axis(self) -> int:
        """The axis that chunks are cut along: slices across it are the cheap ones."""
        return self.geom.slice_axis

    @cached_property
    def provenance(self) -> dict[str, object]:
        """What the file says of how it was made, and of what was lost."""
        data = self.regions.reader.find_metadata(FrameType.JSON)
        return {} if data is None else parse_json(data, max_size=MAX_JSON_SIZE)

    @property
    def is_lossless(self) -> bool:
        """Whether every voxel of the full field of view is that of the source, bit for bit."""
        whole = not self.reader.head.prefix.incompat & Incompat.PARTIAL
        lossless = all(entry.fidelity == 1 for entry in self.reader.head.codecs)
        return whole and lossless and self.geom.background.is_exact

    @property
    def overview(self) -> Overview | None:
        """The volume at a reduced resolution, of one read of the file; None if it has none.

        Raises
        ------
        MroiError
            If it is damaged, or its codec is not installed.
        """
        regions = self.regions
        frame = regions.reader.find_frame(FrameType.OVERVIEW)
        if frame is None:
            return None
        geom = self.geom
        record = parse_overview(
            frame.payload, regions.reader.head, offset=frame.header.offset + FRAME_HEADER_SIZE
        )
        planes = regions.decode_overview(record, offset=frame.header.offset)
        blocks = planes.reshape(record.volumes, -1, *planes.shape[1:])
        order = (1 + geom.grid.axes.index(axis) for axis in range(3))
        array = self.geom.datatype.to_elements(blocks.transpose(0, *order, *range(4, blocks.ndim)))
        array = np.moveaxis(array, 0, -1)
        return Overview(
            self._to_units(array if record.volumes > 1 else array[..., 0], None),
            overview_affine(geom, record.factor, record.method),
            record.factor,
            "nearest" if record.method is OverviewMethod.NEAREST else "mean",
        )

    # -- voxels ----------------------------------------------------------------------------

    def slice(self, index: int, axis: Axis | None = None, *, level: int = 0) -> NDArray[Any]:
        """Return one slice, all axes beyond the third whole.

        Parameters
        ----------
        index : int
            Number of the slice; negative ones count from the end.
        axis : int or str, optional
            The axis to take it across, 0, 1, 2 or ``"x"``, ``"y"``, ``"z"``; the slice axis of the
            file by default.
        level : int
            Resolution: in-plane extents are divided by ``2**level``, rounded up. Above 0 it needs
            a codec that can (jpeg2000, htj2k), chunks of one slice, and the ROI alone
            (``volume.cropped``), whose first voxel is where the reduced image starts.

        Returns
        -------
        (n, m, ...) ndarray
            Like ``volume[:, :, index]`` for axis 2: the in-plane axes in ascending order.

        Raises
        ------
        UsageError, CodecError
            If there is no such axis, or the file has no reduced resolutions.
        IndexError
            If there is no such slice.
        """
        axis = self.geom.slice_axis if axis is None else axis_number(axis)
        if level:
            return self._reduced(index, axis, level)
        if axis >= self.ndim:
            if index not in (0, -1):
                raise IndexError(f"index {index} is out of range: the volume has one slice")
            return self[...]
        return self[(slice(None),) * axis + (index,)]

    def _reduced(self, index: int, axis: int, level: int) -> NDArray[Any]:
        geom = self.geom
        if not 0 < level <= _MAX_LEVEL:
            raise UsageError(f"level {level}: expected 0 to {_MAX_LEVEL}")
        if axis != geom.slice_axis or self._box != geom.roi:
            raise UsageError(
                "reduced resolution works only for ROI slices along the slice axis: use "
                f"volume.cropped.slice(index, level={level})"
            )
        k = range(self._box.shape[axis])[index] + self._box.start[axis]
        volumes = range(geom.grid.volumes)
        planes = np.stack([self.regions.read_level(k, v, level) for v in volumes])
        elements = self.geom.datatype.to_elements(planes)  # (volumes, slow, fast)
        array = elements.reshape(*geom.shape[:2:-1], *elements.shape[1:]).transpose()
        rescale = self._slice_rescale(range(k, k + 1), volumes)
        if rescale is not None:
            rescale = rescale.reshape(*geom.shape[:2:-1], 2)
            rescale = rescale.transpose(*range(rescale.ndim - 1)[::-1], rescale.ndim - 1)
        return self._to_units(array, rescale)

    def slices(self) -> Iterator[NDArray[Any]]:
        """Yield the slices along the slice axis in order, for each volume of 4-D data in turn."""
        count = self._box.shape[self.geom.slice_axis]
        for done, plane in enumerate(self.planes()):
            volume, k = divmod(done, count)
            image = np.swapaxes(plane, 0, 1)
            k += self._box.start[self.geom.slice_axis]
            yield self._to_units(image, self._slice_rescale(range(k, k + 1), [volume]))

    def planes(self, axis: Axis | None = None) -> Iterator[NDArray[Any]]:
        """Yield slices of stored values, each an array (in-plane slow, in-plane fast).

        Reads follow the borders of chunks, so that none is decoded twice; memory is bounded by a
        few slabs along the slice axis, and by chunks of all slices along another one. Where chunks
        span volumes, these are read together, unless they take more than 256 MiB.

        Parameters
        ----------
        axis : int or str, optional
            The axis to go along, as for `slice`; the slice axis of the file by default.
        """
        axis = self.geom.slice_axis if axis is None else axis_number(axis)
        fast, slow = in_plane_axes(axis)
        ranges = [range(a, b) for a, b in zip(self._box.start, self._box.stop, strict=True)]
        for volumes, part in self._reads(axis):
            ranges[axis] = part
            blocks = self.regions.read((ranges[0], ranges[1], ranges[2]), volumes)
            for block in blocks:
                rest = range(3, block.ndim)
                planes = block.transpose(2 - axis, 2 - slow, 2 - fast, *rest)
                yield from self.geom.datatype.to_elements(planes)

    def _reads(self, axis: int) -> Iterator[tuple[Sequence[int], range]]:
        """Yield which volumes, and which part of an axis, to read at a time to have all planes."""
        grid = self.geom.grid
        lo, hi = self._box.start[axis], self._box.stop[axis]
        thick = grid.chunk_shape[axis]
        step = thick * max(1, 2 * self.regions.jobs // thick)
        first = lo + ((grid.roi.start[axis] - lo) % step or step)
        together = grid.span * self._box.count * self.geom.itemsize <= _GROUP_SIZE
        for group in range(grid.groups):
            volumes = grid.group_volumes(group)
            if len(volumes) > 1 and together:
                yield volumes, range(lo, hi)
                continue
            for volume in volumes:
                edges = chain((lo,), range(first, hi, step), (hi,))
                yield from (([volume], range(a, b)) for a, b in pairwise(edges))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part: integers, slices with any step, and at most one ellipsis."""
        picks, flips = self._picks(key)
        indices = [pick if isinstance(pick, range) else range(pick, pick + 1) for pick in picks]
        x, y, z = (
            range(r.start + lo, r.stop + lo, r.step)
            for r, lo in zip(indices[:3], self._box.start, strict=True)
        )
        outer = indices[3:]
        volumes = _linear(outer, self.geom.shape[3:])
        block = self.geom.datatype.to_elements(
            self.regions.read((x, y, z), volumes)
        )  # (volumes, z, y, x)
        block = block.reshape(*(len(r) for r in reversed(indices)))
        rescale = self._slice_rescale((x, y, z)[self.geom.slice_axis], volumes)
        if rescale is not None:
            rescale = self._beside(rescale, [len(r) for r in outer])
        array = self._to_units(block.transpose(), rescale)
        index = tuple(
            slice(None, None, -1) if flip else slice(None) if isinstance(pick, range) else 0
            for pick, flip in zip(picks, flips, strict=True)
        )
        return array[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Return the whole volume, x fastest in memory."""
        if copy is False:
            raise ValueError("a volume becomes an array only by a copy: leave out copy=False")
        array = self[...]
        return array if dtype is None else array.astype(dtype, copy=False)

    def __len__(self) -> int:
        return self.shape[0]

    @override
    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        kind = self.geom.datatype.name if self.dtype.names else self.dtype
        return f"<mroi.Volume {shape}, {kind}, {self.orientation}, roi {self.roi}>"

    def __dask_tokenize__(self) -> tuple[object, ...]:
        """Return what tells this volume from others, the same in every process: for Dask."""
        reader = self.regions.reader
        crcs = reader.index.decoded_crcs
        chunks = (reader.index.offsets.tobytes(), None if crcs is None else crcs.tobytes())
        view = (self._box, self._scaled, self._regions.missing)
        return type(self).__name__, reader.source.name, *chunks, *view

    def missing_mask(self) -> NDArray[np.bool_]:
        """Return which voxels are not in the file: of `shape`, True where they are missing."""
        geom, grid = self.geom, self.geom.grid
        mask = np.zeros((grid.volumes, *geom.shape[2::-1]), dtype=np.bool_)
        if geom.background is Background.OMIT:
            mask[:] = True
            mask[(slice(None), *grid.roi.slices[::-1])] = False
        for ordinal in self.regions.reader.find_missing():
            self.regions.mark_chunk(mask, ordinal)
        mask = mask[(slice(None), *self._box.slices[::-1])]
        return mask.reshape(*geom.shape[:2:-1], *mask.shape[1:]).T.reshape(self.shape)

    def close(self) -> None:
        """Close the file; nothing can be read of this volume afterwards."""
        self._is_closed = True
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # -- pieces ----------------------------------------------------------------------------

    def _to_units(self, stored: NDArray[Any], rescale: NDArray[np.float64] | None) -> NDArray[Any]:
        """Apply slope and intercept, as float64; `rescale` has them in its last axis, per slice."""
        if not self._is_scaled:
            return stored
        if rescale is not None:
            return stored * rescale[..., 0] + rescale[..., 1]
        scaled: NDArray[Any] = stored.astype(self.dtype)
        scaled *= self.geom.slope
        scaled += self.geom.inter
        return scaled

    def _slice_rescale(self, wanted: range, volumes: Sequence[int]) -> NDArray[np.float64] | None:
        """Return slope and inter of the wanted slices, (volumes, slices, 2), or None."""
        if self._rescale is None:
            return None
        by_volume = self._rescale.reshape(-1, self.geom.shape[self.geom.slice_axis], 2)
        return by_volume[np.ix_(list(volumes), list(wanted))]

    def _beside(self, rescale: NDArray[np.float64], outer: Sequence[int]) -> NDArray[np.float64]:
        """Return (volumes, slices, 2) so that it broadcasts against (x, y, z, axis 3 ..., 2)."""
        slices = rescale.shape[1]
        spatial = [1, 1, 1]
        spatial[self.geom.slice_axis] = slices
        by_axis = rescale.reshape(*reversed(outer), slices, 2)
        order = (*range(len(outer), -1, -1), len(outer) + 1)
        return by_axis.transpose(order).reshape(*spatial, *outer, 2)

    def _picks(self, key: Any) -> tuple[list[range | int], list[bool]]:
        """Return, for each axis of the geometry, an ascending range or an integer, and flips."""
        keys = key if isinstance(key, tuple) else (key,)
        count = sum(k is Ellipsis for k in keys)
        if count > 1:
            raise IndexError("an index can have only one ellipsis")
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
        absent = self.ndim - (len(keys) - count)
        if absent < 0:
            raise IndexError(f"too many indices: {len(keys) - count} for {self.ndim} axes")
        keys = (*keys[:at], *(slice(None),) * absent, *keys[at + 1 :])
        picks: list[range | int] = []
        flips: list[bool] = []
        for axis, (k, extent) in enumerate(zip(keys, self.shape, strict=True)):
            pick = _pick(k, extent, axis)
            flip = isinstance(pick, range) and pick.step < 0
            picks.append(pick[::-1] if isinstance(pick, range) and flip else pick)
            flips.append(flip)
        hidden = 3 - self.ndim  # axes of extent 1 that the user does not see
        return picks + [0] * hidden, flips + [False] * hidden


def _pick(key: Any, extent: int, axis: int) -> range | int:
    if isinstance(key, slice):
        return range(*key.indices(extent))
    try:  # booleans are masks for NumPy, not the numbers 0 and 1
        index = None if isinstance(key, bool | np.bool_) else operator.index(key)
    except TypeError:
        index = None
    if index is None:
        raise IndexError(f"index {key!r} is not supported: use integers, slices and an ellipsis")
    if not -extent <= index < extent:
        raise IndexError(f"index {index} is out of range: axis {axis} has {extent} voxels")
    return index % extent


def _linear(outer: Sequence[range], extents: Sequence[int]) -> list[int]:
    """Return the linear indices of all combinations over the axes beyond the third, 3 fastest."""
    volumes = [0]
    stride = math.prod(extents)
    for wanted, extent in zip(reversed(outer), reversed(extents), strict=True):
        stride //= extent
        volumes = [v + stride * i for v in volumes for i in wanted]
    return volumes


def open_volume(
    target: str | os.PathLike[str] | bytes | BinaryIO | Source,
    *,
    limits: Limits = DEFAULT_LIMITS,
    jobs: int | None = None,
    missing: Missing = "error",
    cache: int | None = None,
) -> Volume:
    """Open a file for reading; nothing but its head and index is read.

    Parameters
    ----------
    target : path, URL, bytes, binary file or Source
        Where the bytes are. URLs (``https://``, ``s3://``, whatever fsspec opens) need the extra
        ``remote``.
    limits : Limits
        What a file may make the reader take.
    jobs : int, optional
        Threads that decode, and requests to a server at once; the processors by default.
    missing : {"error", "fill"}
        Whether voxels that are not in the file are an error, or are given the fill value.
    cache : int, optional
        Bytes of remote files that are kept on disk, in the cache folder of the user. By default
        what the environment variable ``MROI_CACHE`` says, such as ``2GB``, or none.

    Raises
    ------
    FormatError
        If the bytes are no whole, undamaged file; `rule` names the rule of the specification.
    OSError
        If the file cannot be read.
    """
    if missing not in ("error", "fill"):
        raise UsageError(f"missing={missing!r}: expected 'error' or 'fill'")
    threads = threads_of(jobs)
    source = open_source(target, cache=cache)
    try:
        reader = ContainerReader(source, limits=limits)
    except BaseException:
        if source is not target:
            source.close()
        raise
    regions = RegionReader(reader, jobs=threads, missing=missing)
    return Volume(regions, Box.whole(regions.geom.shape))
