"""MedROI's region of interest, to the voxel: of a volume and of a 2-D image.

Both reduce the intensities to 256 levels between the 1st and the 99th percentile of the positive
values, and take the box of what is brighter than a threshold. "No ROI" is an answer, not an error:
it is what comes out when no value is positive, when all positive values are equal (a constant
volume, a binary mask, a single bright voxel), or when nothing is left after the opening.

Not-a-number counts as background and so does minus infinity; plus infinity is as bright as the
99th percentile. Where the percentiles themselves would be infinite, `SourceError` says so.

The levels take one byte a voxel, the rest of the work runs in slabs of bounded size, except that
voxels wider than 16 bits are sorted in a copy of the positive ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError
from mroi.geometry.box import Box

__all__ = ["ImageRoi", "Rect", "SliceRoi", "VolumeRoi", "find_image_roi", "find_volume_roi"]

PADDING = 3
EXTRA_PADDING = 9
MISS_LIMIT = 0.002
SLAB_VOXELS = 2**22

Levels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rect:
    """Pixels with ``start <= (row, column) < stop``; never empty."""

    start: tuple[int, int]
    stop: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.stop[0] - self.start[0], self.stop[1] - self.start[1]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array of rows and columns."""
        return slice(self.start[0], self.stop[0]), slice(self.start[1], self.stop[1])


@dataclass(frozen=True, slots=True)
class SliceRoi:
    """What was found in one slice across x.

    Attributes
    ----------
    threshold : float
        Mean of the levels above 0 in this slice, 0.0 if there are none.
    rect : Rect or None
        Rows along y, columns along z.
    miss_rate : float
        Share of the pixels at or above the volume's threshold that lie outside `rect`.
    """

    threshold: float
    rect: Rect | None
    miss_rate: float


@dataclass(frozen=True, slots=True)
class VolumeRoi:
    """What was found in a volume.

    Attributes
    ----------
    box : Box or None
        None if there is no ROI.
    threshold : float
        Mean of the levels above 0, on the scale 0 to 255; 0.0 if there are none.
    slices : tuple of SliceRoi
        One for every x; empty if no level is above 0.
    """

    box: Box | None
    threshold: float
    slices: tuple[SliceRoi, ...]


@dataclass(frozen=True, slots=True)
class ImageRoi:
    """What was found in a 2-D image.

    Attributes
    ----------
    rect : Rect
        Rows and columns that are kept.
    threshold : float
        10th percentile of the levels above 0, on the scale 0 to 255.
    low, high : float
        1st and 99th percentile of the positive intensities: levels 0 and 255.
    first_miss_rate, miss_rate : float
        Share of the pixels above level 0 outside the first rectangle, and outside `rect`.
    """

    rect: Rect
    threshold: float
    low: float
    high: float
    first_miss_rate: float
    miss_rate: float


def find_volume_roi(volume: NDArray[Any], slope: float = 1.0, inter: float = 0.0) -> VolumeRoi:
    """Find MedROI's box of a volume, and its box of every slice across x.

    Parameters
    ----------
    volume : (x, y, z) ndarray of integers or floats
        Stored voxels, in any memory order and byte order; may be memory-mapped.
    slope, inter : float
        Intensity is ``voxel * slope + inter``, computed in float64.

    Returns
    -------
    VolumeRoi
        Its `box` is None if there is no ROI; see the head of this module.

    Raises
    ------
    SourceError
        If the array is not a volume of real numbers, or more than 1 % of its positive
        intensities are infinite.
    """
    _check(volume, 3, "a volume", slope, inter)
    planes = volume.T  # (z, y, x): x, which every slice shares, is the fastest axis of NIfTI
    levels = _volume_levels(planes, slope, inter)
    sums = np.zeros(levels.shape[2], np.int64)
    counts = np.zeros(levels.shape[2], np.int64)
    for z0, z1 in _slabs(levels.shape):
        slab = levels[z0:z1]
        sums += slab.sum(axis=(0, 1), dtype=np.int64)
        counts += np.count_nonzero(slab, axis=(0, 1))
    if not counts.any():
        return VolumeRoi(None, 0.0, ())
    threshold = int(sums.sum()) / int(counts.sum())
    bright = math.ceil(threshold)  # for integers, level >= threshold is level >= bright
    return VolumeRoi(
        box=_opened_box(levels, bright),
        threshold=threshold,
        slices=_slice_rois(levels, bright, sums / np.maximum(counts, 1)),
    )


def find_image_roi(image: NDArray[Any], slope: float = 1.0, inter: float = 0.0) -> ImageRoi | None:
    """Find MedROI's rectangle of a 2-D image.

    Parameters
    ----------
    image : (rows, columns) ndarray of integers or floats
        Stored pixels.
    slope, inter : float
        Intensity is ``pixel * slope + inter``, computed in float32.

    Returns
    -------
    ImageRoi or None
        None if there is no ROI; see the head of this module.

    Raises
    ------
    SourceError
        If the array is not an image with one real number a pixel, or more than 1 % of its
        positive intensities are infinite.
    """
    _check(image, 2, "an image", slope, inter)
    with np.errstate(over="ignore", invalid="ignore"):  # intensities beyond float32
        pixels = image.astype(np.float32) * np.float32(slope) + np.float32(inter)
    positive = pixels[pixels > 0]
    if not positive.size:
        return None
    low, high = _window(_sorted_ranks(positive, np.asarray), positive.size)
    levels = _to_levels(pixels, low, high)
    histogram = np.bincount(levels.ravel(), minlength=256)
    histogram[0] = 0
    count = int(histogram.sum())
    if not count:
        return None
    threshold = float(_percentile(_histogram_ranks(histogram, np.arange(256.0)), count, 10))
    above = levels > math.floor(threshold)
    if not above.any():
        return None
    first = _rect(_any(above, 1), _any(above, 0), levels.shape)
    missed = (count - np.count_nonzero(levels[first.slices])) / count
    rect = _widened(first, EXTRA_PADDING, levels.shape) if missed > MISS_LIMIT else first
    final = (count - np.count_nonzero(levels[rect.slices])) / count
    return ImageRoi(rect, threshold, float(low), float(high), missed, final)


def _check(array: NDArray[Any], ndim: int, what: str, slope: float, inter: float) -> None:
    if array.ndim != ndim or not array.size or array.dtype.kind not in "biuf":
        raise SourceError(
            f"MedROI needs {what} of real numbers; this is {array.dtype} of shape {array.shape}"
        )
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise SourceError(f"rescale slope {slope} and intercept {inter} are not finite")


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut the first axis so that a slab holds a bounded number of voxels."""
    step = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


# From intensities to levels.


def _volume_levels(planes: NDArray[Any], slope: float, inter: float) -> Levels:
    """Return the levels of stored voxels, both (z, y, x)."""
    levels = np.zeros(planes.shape, np.uint8)
    if planes.dtype.kind in "biu" and planes.dtype.itemsize <= 2:
        # At most 65536 stored values: find the level of each once.
        unsigned = np.dtype(f"u{planes.dtype.itemsize}")
        stored = np.arange(256**unsigned.itemsize).astype(unsigned)
        native = planes.dtype.newbyteorder("=")
        values = _scaled(stored.view(native), slope, inter)
        histogram = np.zeros(values.size, np.int64)
        for z0, z1 in _slabs(planes.shape):
            voxels = np.ascontiguousarray(planes[z0:z1], native).view(unsigned)
            histogram += np.bincount(voxels.ravel(), minlength=values.size)
        histogram[~(values > 0)] = 0
        count = int(histogram.sum())
        if count:
            low, high = _window(_histogram_ranks(histogram, values), count)
            table = _to_levels(values, low, high)
            for z0, z1 in _slabs(planes.shape):
                voxels = np.ascontiguousarray(planes[z0:z1], native).view(unsigned)
                np.take(table, voxels, out=levels[z0:z1])
        return levels

    slabs = list(_slabs(planes.shape))
    positive = np.concatenate([_positive(planes[z0:z1], slope, inter) for z0, z1 in slabs])
    if positive.size:
        ranks = _sorted_ranks(positive, lambda v: _scaled(v, slope, inter), falling=slope < 0)
        low, high = _window(ranks, positive.size)
        for z0, z1 in slabs:
            levels[z0:z1] = _to_levels(_scaled(planes[z0:z1], slope, inter), low, high)
    return levels


def _scaled(voxels: NDArray[Any], slope: float, inter: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        intensity = voxels.astype(np.float64)
        if slope != 1:
            intensity *= slope
        if inter != 0:
            intensity += inter
    return intensity


def _positive(voxels: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """Return the stored voxels whose intensity is above 0."""
    return voxels[_scaled(voxels, slope, inter) > 0]


Ranks = Callable[[int], Any]
"""From a rank, 0 for the smallest, to the intensity that has it: a numpy scalar."""


def _sorted_ranks(
    voxels: NDArray[Any], intensity: Callable[[Any], Any], *, falling: bool = False
) -> Ranks:
    """Rank stored voxels, whose order is changed; `falling` if a larger one is less intense."""
    last = voxels.size - 1
    wanted = {rank for percent in (1, 99) for rank in _neighbours(voxels.size, percent)[:2]}
    voxels.partition(sorted(last - rank for rank in wanted) if falling else sorted(wanted))

    def at(rank: int) -> Any:
        index = last - rank if falling else rank
        return intensity(voxels[index : index + 1])[0]

    return at


def _histogram_ranks(histogram: NDArray[np.int64], values: NDArray[np.float64]) -> Ranks:
    """Rank `values`, each of which occurs as often as `histogram` says."""
    order = np.argsort(values, kind="stable")
    last = np.cumsum(histogram[order])
    return lambda rank: values[order[np.searchsorted(last, rank, side="right")]]


def _neighbours(count: int, percent: int) -> tuple[int, int, float]:
    """Return the two ranks a percentile lies between, and how far it is from the first."""
    position = (count - 1) * (percent / 100)
    rank = math.floor(position)
    return rank, min(rank + 1, count - 1), position - rank


def _percentile(intensity: Ranks, count: int, percent: int) -> Any:
    """Interpolate linearly between ranks, in the precision of the intensities, as numpy does."""
    rank, following, share = _neighbours(count, percent)
    a, b = intensity(rank), intensity(following)
    with np.errstate(over="ignore", invalid="ignore"):
        step = b - a
        # From the nearer neighbour: the two forms round differently.
        return b - step * type(step)(1 - share) if share >= 0.5 else a + step * type(step)(share)


def _window(intensity: Ranks, count: int) -> tuple[Any, Any]:
    low, high = _percentile(intensity, count, 1), _percentile(intensity, count, 99)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise SourceError("more than 1 % of the positive intensities are infinite")
    return low, high


def _to_levels(intensity: NDArray[Any], low: Any, high: Any) -> Levels:
    """Map low..high to 0..255, truncating; where both are equal, all above is 255, the rest 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        level = (intensity - low) / (high - low) * type(low)(255)
    # fmax, unlike maximum, takes the 0 where the level is not a number.
    np.fmin(np.fmax(level, 0, out=level), 255, out=level)
    return cast("Levels", level.astype(np.uint8))


# From levels to boxes.


def _opened_box(levels: Levels, bright: int) -> Box | None:
    """Return the box of the opened mask ``levels >= bright``, widened and clipped."""
    # An opening is an erosion, here with a 6-connected cross and darkness outside, and a dilation,
    # which moves each face of the bounding box by exactly one voxel: so only the former is needed.
    depth, rows, columns = levels.shape
    on_x, on_y, on_z = (np.zeros(n, np.bool_) for n in (columns, rows, depth))
    for z0, z1 in _slabs(levels.shape):
        start, stop = max(z0 - 1, 0), min(z1 + 1, depth)
        mask = levels[start:stop] >= bright
        kept = mask.copy()
        kept[1:] &= mask[:-1]
        kept[:-1] &= mask[1:]
        kept[:, 1:] &= mask[:, :-1]
        kept[:, :-1] &= mask[:, 1:]
        kept[:, :, 1:] &= mask[:, :, :-1]
        kept[:, :, :-1] &= mask[:, :, 1:]
        kept[:, [0, -1]] = kept[:, :, [0, -1]] = False
        kept = kept[z0 - start : z1 - start]
        if z0 == 0:
            kept[0] = False
        if z1 == depth:
            kept[-1] = False
        lines = _any(kept, 0)
        on_x |= _any(lines, 0)
        on_y |= _any(lines, 1)
        on_z[z0:z1] = _any(kept, (1, 2))
    if not on_x.any():
        return None
    (x0, x1), (y0, y1), (z0, z1) = (_extent(on) for on in (on_x, on_y, on_z))
    return Box((x0, y0, z0), (x1, y1, z1)).padded([1 + PADDING] * 3, (columns, rows, depth))


def _slice_rois(
    levels: Levels, bright: int, thresholds: NDArray[np.float64]
) -> tuple[SliceRoi, ...]:
    depth, rows, columns = levels.shape
    on_y = np.zeros((rows, columns), np.bool_)
    on_z = np.zeros((depth, columns), np.bool_)
    floors = np.floor(thresholds).astype(np.uint8)  # level > threshold is level > floor
    for z0, z1 in _slabs(levels.shape):
        above = levels[z0:z1] > floors
        on_y |= _any(above, 0)
        on_z[z0:z1] = _any(above, 1)

    shape = rows, depth
    found = _any(on_y, 0)
    first = [_rect(on_y[:, x], on_z[:, x], shape) if found[x] else None for x in range(columns)]
    wide = [rect and _widened(rect, EXTRA_PADDING, shape) for rect in first]
    total, missed = _count_missed(levels, bright, [first, wide])
    slices = []
    for x, threshold in enumerate(thresholds.tolist()):
        rect, miss_rate = None, 0.0
        if first[x] is not None and total[x]:
            rect, miss_rate = first[x], missed[0][x] / total[x]
            if miss_rate > MISS_LIMIT:
                rect, miss_rate = wide[x], missed[1][x] / total[x]
        slices.append(SliceRoi(threshold, rect, miss_rate))
    return tuple(slices)


def _count_missed(
    levels: Levels, bright: int, choices: list[list[Rect | None]]
) -> tuple[list[int], list[list[int]]]:
    """Count, for every x, the reference pixels: all, and those outside each choice of rectangles.

    The reference is ``levels >= bright``, closed in the plane of y and z with the cross of five
    pixels; what lies outside the image neither grows into it nor erodes it.
    """
    depth, rows, columns = levels.shape
    inside = [(np.zeros((rows, columns), np.bool_), np.zeros((depth, columns), np.bool_))
              for _ in choices]  # fmt: skip
    for (in_y, in_z), rects in zip(inside, choices, strict=True):
        for x, rect in enumerate(rects):
            if rect is not None:
                in_y[rect.start[0] : rect.stop[0], x] = True
                in_z[rect.start[1] : rect.stop[1], x] = True

    total = np.zeros(columns, np.int64)
    missed = [np.zeros(columns, np.int64) for _ in choices]
    for z0, z1 in _slabs(levels.shape):
        start, stop = max(z0 - 2, 0), min(z1 + 2, depth)
        closed = _closed(levels[start:stop] >= bright)[z0 - start : z1 - start]
        total += np.count_nonzero(closed, axis=(0, 1))
        for i, (in_y, in_z) in enumerate(inside):
            outside = closed & ~(in_y & in_z[z0:z1, np.newaxis])
            missed[i] += np.count_nonzero(outside, axis=(0, 1))
    return total.tolist(), [count.tolist() for count in missed]


def _closed(mask: Mask) -> Mask:
    """Close (z, y, x) in the planes of z and y."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    closed = grown.copy()
    closed[1:] &= grown[:-1]
    closed[:-1] &= grown[1:]
    closed[:, 1:] &= grown[:, :-1]
    closed[:, :-1] &= grown[:, 1:]
    return closed


def _any(mask: Mask, axis: int | tuple[int, ...]) -> Mask:
    return cast("Mask", np.logical_or.reduce(mask, axis=axis))


def _extent(on: Mask) -> tuple[int, int]:
    """Return half-open bounds of the true entries of a vector that has some."""
    return int(on.argmax()), int(on.size - on[::-1].argmax())


def _rect(on_rows: Mask, on_columns: Mask, shape: tuple[int, int]) -> Rect:
    (y0, y1), (x0, x1) = _extent(on_rows), _extent(on_columns)
    return _widened(Rect((y0, x0), (y1, x1)), PADDING, shape)


def _widened(rect: Rect, margin: int, shape: tuple[int, ...]) -> Rect:
    (y0, x0), (y1, x1) = rect.start, rect.stop
    return Rect(
        (max(y0 - margin, 0), max(x0 - margin, 0)),
        (min(y1 + margin, shape[0]), min(x1 + margin, shape[1])),
    )
