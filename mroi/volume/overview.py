"""The overview of a volume: made while packing, read at once, proven by `verify`."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Fidelity, Pipeline, parse
from mroi.errors import ChecksumError, CodecError, SourceError, UsageError
from mroi.format.checksum import array_bytes, crc32
from mroi.format.geom import Geom
from mroi.format.overview import (
    OVERVIEW_FACTORS,
    OverviewMethod,
    OverviewRecord,
    build_overview,
)
from mroi.volume.source import VoxelSource

__all__ = [
    "Factor",
    "LabelTest",
    "Means",
    "Overview",
    "OverviewPlan",
    "Picks",
    "Reducer",
    "array_spec",
    "check_factor",
    "decode_overview",
    "encode_overview",
    "make_overview",
    "overview_affine",
    "parse_factor",
]

Factor = tuple[int, int, int]
_LABELS = 0.6  # of the voxels that are no background repeat their neighbour in maps of labels


@dataclass(frozen=True, eq=False)
class Overview:
    """A volume at a reduced resolution.

    Attributes
    ----------
    array : (x, y, z[, volumes]) ndarray
        Values in real units, like those of the volume; stored values if it was taken of `unscaled`.
    affine : (4, 4) ndarray of float64
        Index of a voxel of `array` to the centre of what it stands for, mm, RAS+.
    factor : tuple of 3 int
        Voxels of the volume for one of `array` along x, y, z.
    method : {"nearest", "mean"}
        How they were reduced.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    factor: Factor
    method: Literal["nearest", "mean"]


@dataclass(frozen=True, slots=True, eq=False)
class OverviewPlan:
    """An overview to be written: how it was reduced, and its array in scan order."""

    factor: Factor
    method: OverviewMethod
    array: NDArray[Any]
    pipeline: Pipeline


def array_spec(geom: Geom, factor: Factor, volumes: int) -> ChunkSpec:
    """Return what is known of the array of an overview.

    Parameters
    ----------
    geom : Geom
        Geometry of the file.
    factor : tuple of 3 int
        Along x, y, z.
    volumes : int
        3-D volumes of the overview.
    """
    extent = [-(-n // f) for n, f in zip(geom.shape[:3], factor, strict=True)]
    slices, rows, columns = (extent[axis] for axis in geom.grid.axes)
    shape = (volumes * slices, rows, columns, *geom.datatype.sample_shape)
    return ChunkSpec(shape, geom.datatype.sample, geom.bits_stored, volumes)


def parse_factor(text: str) -> int | Factor:
    """Return what a text like ``4`` or ``4x4x1`` says; 0 for no overview.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if text == "0":
        return 0
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", text):
        raise _wrong_factor(text)
    numbers = [int(part) for part in text.split("x")]
    return check_factor(numbers[0] if len(numbers) == 1 else numbers)


def check_factor(factor: SupportsIndex | Sequence[SupportsIndex]) -> Factor:
    """Return the factors along x, y, z that a caller means."""
    given = factor if isinstance(factor, Sequence) else (factor,) * 3
    try:
        factors = [operator.index(one) for one in given]
    except TypeError:
        raise _wrong_factor(repr(factor)) from None
    if len(factors) != 3 or any(f not in OVERVIEW_FACTORS for f in factors):
        raise _wrong_factor("x".join(map(str, factors if given is factor else factors[:1])))
    x, y, z = factors
    return x, y, z


def _wrong_factor(text: str) -> UsageError:
    *others, last = OVERVIEW_FACTORS
    return UsageError(
        f"overview {text}: expected a factor for all axes, or three for x, y, z like 4x4x1, each "
        f"{', '.join(map(str, others))} or {last}; 0 for none"
    )


class Means:
    """Reduces the slices of one 3-D volume, given one by one, to the means of boxes of voxels.

    Parameters
    ----------
    factor : tuple of 3 int
        Voxels for one across slices, rows and columns.
    slices : int
        How many slices there are.
    """

    method = OverviewMethod.MEAN

    def __init__(self, factor: Factor, slices: int) -> None:
        self._factor = factor
        self._slices = slices
        self._count = 0  # planes taken
        self._sum: NDArray[Any] | None = None  # of planes whose box is not complete
        self._held = 0  # so many of them

    def add(self, plane: NDArray[Any]) -> NDArray[Any] | None:
        """Take the next slice, (slow, fast[, samples]).

        Returns
        -------
        ndarray or None
            The next slice of the reduced volume, as soon as it is complete.
        """
        thick, tall, wide = self._factor
        sums = _sums(plane, tall, wide)
        self._sum = sums if self._sum is None else self._sum + sums
        self._held += 1
        self._count += 1
        if self._held < thick and self._count < self._slices:
            return None
        widths = np.outer(_widths(plane.shape[0], tall), _widths(plane.shape[1], wide))
        mean = _mean(self._sum, self._held * widths, plane.dtype)
        self._sum, self._held = None, 0
        return mean


class Picks:
    """Reduces as `Means` does, to the voxels in the middle of boxes: labels stay labels.

    Parameters
    ----------
    factor, slices
        As for `Means`.
    """

    method = OverviewMethod.NEAREST

    def __init__(self, factor: Factor, slices: int) -> None:
        self._factor = factor
        self._last = slices - 1
        self._count = 0

    def add(self, plane: NDArray[Any]) -> NDArray[Any] | None:
        """Take the next slice; see `Means.add`."""
        thick, tall, wide = self._factor
        k = self._count
        self._count += 1
        if k != min(k - k % thick + thick // 2, self._last):
            return None
        rows, columns = _middles(plane.shape[0], tall), _middles(plane.shape[1], wide)
        return plane[rows][:, columns]


class LabelTest:
    """Tells maps of labels, whose neighbours repeat each other, from images, by their slices."""

    def __init__(self) -> None:
        self._inside = self._alike = 0  # voxels that are no background; like their neighbour

    def add(self, plane: NDArray[Any]) -> None:
        """Take a slice, (slow, fast[, samples])."""
        inside = plane[:, 1:] != plane[0, 0]
        self._inside += int(np.count_nonzero(inside))
        self._alike += int(np.count_nonzero(inside & (plane[:, 1:] == plane[:, :-1])))

    @property
    def says_labels(self) -> bool:
        """Whether the slices that were taken look like labels."""
        return self._alike > _LABELS * self._inside


class Reducer:
    """Reduces the slices of one 3-D volume, given one by one (section "Overview" of the spec).

    By means; by nearest voxels what looks like labels, and types without a mean.

    Parameters
    ----------
    geom : Geom
        Geometry of the volume.
    factor : tuple of 3 int
        Voxels for one along x, y, z.
    method : OverviewMethod, optional
        Where it is known.
    """

    def __init__(self, geom: Geom, factor: Factor, method: OverviewMethod | None = None) -> None:
        if geom.datatype.sample.kind not in "iuf":
            method = OverviewMethod.NEAREST
        thick, tall, wide = (factor[axis] for axis in geom.grid.axes)
        args = ((thick, tall, wide), geom.shape[geom.slice_axis])
        ways: list[Means | Picks] = [Means(*args), Picks(*args)]
        self._ways = [way for way in ways if method in (None, way.method)]
        self._planes: dict[OverviewMethod, list[NDArray[Any]]] = {w.method: [] for w in self._ways}
        self._test = LabelTest()

    def add(self, plane: NDArray[Any]) -> None:
        """Take the next slice of the full field of view, (slow, fast[, samples])."""
        for way in self._ways:
            if (reduced := way.add(plane)) is not None:
                self._planes[way.method].append(reduced)
                if way.method is OverviewMethod.NEAREST:
                    self._test.add(plane)

    def finish(self) -> tuple[OverviewMethod, NDArray[Any]]:
        """Return the method and the array, (slices, rows, columns[, samples])."""
        method = OverviewMethod.NEAREST if self._test.says_labels else OverviewMethod.MEAN
        if len(self._planes) == 1:
            (method,) = self._planes
        return method, np.stack(self._planes[method])


def make_overview(
    source: VoxelSource, geom: Geom, pipeline: Pipeline, factor: Factor
) -> OverviewPlan:
    """Return the overview of the first 3-D volume of a source, read once more for it.

    It is encoded without loss: by zstd, which every reader has, or by the codec of the chunks where
    that is lossless, safe with any bytes (`Codec.isolated`) and smaller, with its default settings.

    Parameters
    ----------
    source : VoxelSource
        The volume.
    geom : Geom
        Geometry of the file.
    pipeline : Pipeline
        What encodes the chunks.
    factor : tuple of 3 int
        Along x, y, z.

    Raises
    ------
    SourceError
        If slices have scale factors of their own: values of several have no mean.
    """
    if source.rescale is not None:
        raise SourceError(
            f"{source.name}: slices differ in scale, so there is no overview of them: leave it out"
        )
    reducer = Reducer(geom, factor)
    _axis, slow, fast = geom.grid.axes
    roi, lo, hi = geom.roi, geom.roi.start[geom.slice_axis], geom.roi.stop[geom.slice_axis]
    planes = islice(source.planes(geom.slice_axis), geom.shape[geom.slice_axis])
    for k, plane in enumerate(planes):
        if geom.background.is_dropped:  # what is dropped shall not shine through
            kept = np.zeros_like(plane)
            if lo <= k < hi:
                inside = (roi.slices[slow], roi.slices[fast])
                kept[inside] = plane[inside]
            reducer.add(kept)
        else:
            reducer.add(plane)
    method, array = reducer.finish()
    spec = array_spec(geom, factor, 1)
    quick = type(
        pipeline.codec
    )()  # an overview is there to be read at once, whatever the chunks are
    codecs = [parse("zstd:delta=true"), parse("zstd")]
    if quick.fidelity is Fidelity.LOSSLESS and not quick.isolated:
        codecs.append(quick)
    able = [p for p in map(Pipeline, codecs) if p.refuses(spec) is None]
    return OverviewPlan(
        factor, method, array, min(able, key=lambda pipeline: len(pipeline.encode(array, spec)))
    )


def _middles(count: int, step: int) -> NDArray[np.intp]:
    return np.minimum(np.arange(0, count, step) + step // 2, count - 1)


def _widths(count: int, step: int) -> NDArray[np.int64]:
    """Return how many voxels each box has along an axis."""
    starts = np.arange(0, count, step)
    return np.minimum(step, count - starts)


def _sums(plane: NDArray[Any], tall: int, wide: int) -> NDArray[Any]:
    """Return the sums over boxes of one plane, exact for integers of up to 48 bits."""
    wide_type = _wide_type(plane.dtype)
    rows = np.add.reduceat(plane, np.arange(0, plane.shape[0], tall), axis=0, dtype=wide_type)
    return np.add.reduceat(rows, np.arange(0, plane.shape[1], wide), axis=1, dtype=wide_type)


def _wide_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type in which sums of 4096 values are exact, or f64 for floats."""
    if dtype.kind not in "iu":
        return np.dtype(np.float64)
    return np.dtype(object if dtype.itemsize == 8 else np.int64)


def _mean(total: NDArray[Any], voxels: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    counts = voxels.reshape(*voxels.shape, *[1] * (total.ndim - 2))
    if dtype.kind in "iu":
        counts = counts.astype(total.dtype)
        return np.asarray((2 * total + counts) // (2 * counts)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(total / counts).astype(dtype)


def encode_overview(plan: OverviewPlan, geom: Geom, slot: int) -> bytes:
    """Return the payload of oVRW.

    Parameters
    ----------
    plan : OverviewPlan
        The array, and how it is encoded.
    geom : Geom
        Geometry of the file.
    slot : int
        Slot of the codec.
    """
    spec = array_spec(geom, plan.factor, 1)
    payload = plan.pipeline.encode(plan.array, spec)
    decoded = array_bytes(plan.pipeline.decode(payload, spec))
    record = OverviewRecord(plan.factor, plan.method, slot, 1, crc32(decoded), payload)
    return build_overview(record)


def decode_overview(
    record: OverviewRecord, spec: ChunkSpec, pipeline: Pipeline, *, offset: int
) -> NDArray[Any]:
    """Return the array of an overview: (volumes * slices, rows, columns[, samples]).

    Parameters
    ----------
    record : OverviewRecord
        The payload, parsed.
    spec : ChunkSpec
        Of the array.
    pipeline : Pipeline
        What decodes it.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    DecodeError, ChecksumError
        If the payload does not decode to the voxels that were written (OVR-3, OVR-4).
    """
    try:
        array = pipeline.decode(record.payload, spec)
    except CodecError as exc:
        rule = "OVR-3" if exc.rule in ("", "CHK-8") else exc.rule
        raise type(exc)(f"overview: {exc.message}", rule, offset) from exc
    if crc32(array_bytes(array)) != record.decoded_crc:
        raise ChecksumError("overview: decoded CRC mismatch", "OVR-4", offset)
    return array


def overview_affine(geom: Geom, factor: Factor, method: OverviewMethod) -> NDArray[np.float64]:
    """Return the affine of an overview: to the centres of the boxes, or of the nearest voxels.

    Parameters
    ----------
    geom : Geom
        Geometry of the file.
    factor : tuple of 3 int
        Along x, y, z.
    method : OverviewMethod
        How boxes of voxels became one.

    Returns
    -------
    (4, 4) ndarray of float64
        Index to position in mm, RAS+.
    """
    middle = [f // 2 if method is OverviewMethod.NEAREST else (f - 1) / 2 for f in factor]
    matrix = np.diag([*factor, 1.0]).astype(np.float64)
    matrix[:3, 3] = middle
    return np.asarray(geom.affine @ matrix, dtype=np.float64)
