"""Ways to say which box of a volume is the region of interest.

A tight box is found in the voxels alone, a mask or a written box is given by the user. MedROI's
own box is in `mroi.roi.medroi`. All return a `Box` that lies inside the volume, or raise
`SourceError`: nothing is clipped or guessed, but margins end at the volume's border.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError, UsageError
from mroi.geometry.affine import corners_apart, spacing_of
from mroi.geometry.box import Box, in_plane_axes

__all__ = [
    "Margin",
    "TightBox",
    "check_same_grid",
    "in_mask",
    "mask_box",
    "parse_box",
    "parse_margin",
    "split_label",
    "tight_box",
]


class TightBox:
    """Finds the smallest box outside which all voxels are one constant, bit for bit.

    Planes come one by one, in any order and, for volumes with more than three axes, several with
    one index; memory is that of a plane. Bits are compared, so 0.0 and -0.0 differ and a NaN is
    equal to itself.

    Only the voxels of the first plane's corners, and planes at the ends that are constant, can be
    the outside of a box: a box that does not reach all corners of a plane leaves one of them
    outside, and one that does leaves out whole planes.

    Parameters
    ----------
    shape : sequence of int
        Of the volume, along x, y, z, and perhaps more.
    slice_axis : int
        The axis that planes are cut across: 0, 1 or 2.
    """

    def __init__(self, shape: Sequence[int], slice_axis: int = 2) -> None:
        self._shape = tuple(shape[:3])
        self._slice_axis = slice_axis
        low, high = in_plane_axes(slice_axis)
        self._axes = (slice_axis, high, low)  # of slices, rows and columns
        self._candidates: list[_Candidate] = []
        self._constants: dict[int, bytes | None] = {}

    def update(self, index: int, plane: NDArray[Any]) -> None:
        """Take one plane.

        Parameters
        ----------
        index : int
            Along the slice axis.
        plane : (rows, columns) or (rows, columns, samples) ndarray
            Columns run along the lower of the two other axes. Any dtype.
        """
        expected = tuple(self._shape[axis] for axis in self._axes[1:])
        if plane.shape[:2] != expected or not 0 <= index < self._shape[self._slice_axis]:
            raise UsageError(
                f"plane {index} has shape {plane.shape[:2]}; the volume has {self._shape}"
            )
        words = _words(plane)
        if not self._candidates:
            corners = {words[row, column].tobytes() for row in (0, -1) for column in (0, -1)}
            self._candidates = [_Candidate(np.frombuffer(c, words.dtype)) for c in sorted(corners)]
        for candidate in self._candidates:
            if not candidate.has_all(index, words):
                candidate.update(index, words)
        if self._constants.get(index, b"") is not None:
            value = words[0, 0]
            constant = None if (words != value).any() else value.tobytes()
            if self._constants.setdefault(index, constant) != constant:
                self._constants[index] = None

    def result(self) -> tuple[Box, bytes | None]:
        """Return the box, and the bytes of the element that is everywhere outside.

        The bytes are None if nothing is outside. A constant volume gives the box of its first
        voxel. Of several constants that would do, the one with the smallest box is taken.
        """
        count = self._shape[self._slice_axis]
        if len(self._constants) != count:
            raise UsageError(f"only {len(self._constants)} of {count} planes were given")
        whole = [(0, self._shape[axis]) for axis in self._axes]
        choices = [(candidate.bounds(), candidate.fill) for candidate in self._candidates]
        for fill in (self._constants[0], self._constants[count - 1]):
            kept = [i for i in range(count) if self._constants[i] != fill]
            if fill is not None and kept:
                choices.append(([(kept[0], kept[-1] + 1), *whole[1:]], fill))
        bounds, fill = min(choices, key=lambda c: math.prod(stop - start for start, stop in c[0]))
        placed = dict(zip(self._axes, bounds, strict=True))
        (x0, x1), (y0, y1), (z0, z1) = (placed[axis] for axis in range(3))
        return Box((x0, y0, z0), (x1, y1, z1)), None if bounds == whole else fill


class _Candidate:
    """The bounds, along slices, rows and columns, of the elements that differ from a value."""

    def __init__(self, value: NDArray[Any]) -> None:
        self._value = value
        self._start = [0, 0, 0]
        self._stop = [0, 0, 0]

    @property
    def fill(self) -> bytes:
        return self._value.tobytes()

    def has_all(self, index: int, words: NDArray[Any]) -> bool:
        """Whether a plane lies within the bounds, so that it cannot widen them."""
        whole = [(0, n) for n in words.shape[:2]]
        in_plane = list(zip(self._start[1:], self._stop[1:], strict=True))
        return in_plane == whole and self._start[0] <= index < self._stop[0]

    def update(self, index: int, words: NDArray[Any]) -> None:
        differs = (words != self._value).any(axis=2)
        rows = np.flatnonzero(differs.any(axis=1))
        if not rows.size:
            return
        columns = np.flatnonzero(differs.any(axis=0))
        start = [index, int(rows[0]), int(columns[0])]
        stop = [index + 1, int(rows[-1]) + 1, int(columns[-1]) + 1]
        seen = self._stop[0] > 0
        self._start = (
            [min(a, b) for a, b in zip(self._start, start, strict=True)] if seen else start
        )
        self._stop = [max(a, b) for a, b in zip(self._stop, stop, strict=True)]

    def bounds(self) -> list[tuple[int, int]]:
        """Return half-open bounds; those of one voxel if nothing differs."""
        stop = [max(n, 1) for n in self._stop]
        return list(zip(self._start, stop, strict=True))


def _words(plane: NDArray[Any]) -> NDArray[Any]:
    """View (rows, columns, ...) elements as (rows, columns, words) unsigned integers."""
    rows, columns = plane.shape[:2]
    octets = np.ascontiguousarray(plane).view(np.uint8).reshape(rows, columns, -1)
    size = next(n for n in (8, 4, 2, 1) if octets.shape[2] % n == 0)
    return octets.view(f"u{size}")


def tight_box(volume: NDArray[Any], slice_axis: int = 2) -> tuple[Box, bytes | None]:
    """Return what `TightBox` finds in a whole array of axes x, y, z and perhaps more."""
    tight = TightBox(volume.shape, slice_axis)
    planes = np.moveaxis(volume, slice_axis, 0).reshape(
        (volume.shape[slice_axis], *np.delete(volume.shape[:3], slice_axis), -1)
    )
    for index, plane in enumerate(planes):
        for point in range(plane.shape[2]):
            tight.update(index, plane[:, :, point].T)
    return tight.result()


def mask_box(mask: NDArray[Any], label: float | None = None) -> Box:
    """Return the smallest box around a mask; parameters and errors are those of `in_mask`."""
    taken = in_mask(mask, label)
    on = [np.flatnonzero(taken.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    x, y, z = ((int(indices[0]), int(indices[-1]) + 1) for indices in on)
    return Box((x[0], y[0], z[0]), (x[1], y[1], z[1]))


def in_mask(mask: NDArray[Any], label: float | None = None) -> NDArray[np.bool_]:
    """Return which voxels a mask takes, (x, y, z).

    Parameters
    ----------
    mask : (x, y, z) ndarray of integers, floats or bool
        Further axes of extent 1 are dropped. Not-a-number is outside.
    label : float, optional
        Take the voxels equal to it; without, all that are not 0.

    Raises
    ------
    SourceError
        If no voxel is taken, or the array is not a mask.
    """
    while mask.ndim > 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 3 or mask.dtype.kind not in "biuf":
        raise SourceError(
            f"a mask must be a 3-D volume of numbers; this is {mask.dtype} of shape {mask.shape}"
        )
    taken: NDArray[np.bool_]
    taken = (mask == label) if label is not None else (mask != 0) & (mask == mask)  # noqa: PLR0124
    if not taken.any():
        raise SourceError(_why_empty(mask, label))
    return taken


def _why_empty(mask: NDArray[Any], label: float | None) -> str:
    if label is None:
        return "the mask is empty: no voxel differs from 0"
    labels = [f"{value:g}" for value in np.unique(mask)[:20].tolist() if value]
    return f"the mask has no voxel of label {label:g}; it has {', '.join(labels) or 'only 0'}"


def check_same_grid(
    mask_shape: Sequence[int],
    mask_affine: NDArray[np.float64],
    shape: Sequence[int],
    affine: NDArray[np.float64],
) -> None:
    """Refuse a mask whose voxels are not those of the volume.

    Every corner has to be at the same world position, within a hundredth of the smallest voxel
    distance, which is far more than what single-precision headers lose.

    Parameters
    ----------
    mask_shape, shape : sequence of int
        Extents of both, x first.
    mask_affine, affine : (4, 4) ndarray of float64
        Index of a voxel to its position in mm, RAS+.

    Raises
    ------
    SourceError
        If shapes or positions differ.
    """
    if tuple(mask_shape[:3]) != tuple(shape[:3]):
        raise SourceError(f"the mask has shape {tuple(mask_shape)}; the volume has {tuple(shape)}")
    apart = corners_apart(affine, mask_affine, shape)
    if not apart <= min(spacing_of(affine)) / 100:
        raise SourceError(
            f"mask and volume have different grids: corners are up to {apart:.4g} mm apart"
        )


def parse_box(text: str, shape: Sequence[int]) -> Box:
    """Return the box that ``x0:x1,y0:y1,z0:z1`` says: voxels from x0 up to, not including, x1.

    A bound that is left out is the volume's own.

    Raises
    ------
    SourceError
        If the text has another form, or the box is empty or not inside a volume of `shape`.

    Examples
    --------
    >>> print(parse_box("10:20,:,5:", (64, 64, 30)))
    10:20,0:64,5:30
    """
    found = re.fullmatch(r"\s*,\s*".join([r"([0-9]{0,18})\s*:\s*([0-9]{0,18})"] * 3), text.strip())
    if found is None:
        raise SourceError(f"{text!r} is not a box of the form x0:x1,y0:y1,z0:z1")
    bounds = found.groups()
    start = [int(bound or 0) for bound in bounds[::2]]
    stop = [int(bound or n) for bound, n in zip(bounds[1::2], shape[:3], strict=True)]
    for name, lo, hi, n in zip("xyz", start, stop, shape[:3], strict=True):
        if not lo < hi <= n:
            raise SourceError(f"box {text}: {lo}:{hi} along {name} is empty or not within 0:{n}")
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


@dataclass(frozen=True, slots=True)
class Margin:
    """What is added on each side of a box, in mm or in voxels."""

    amount: float
    in_mm: bool

    def voxels(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Return the margin along x, y, z; a distance in mm is covered, never cut short."""
        if not self.in_mm:
            return (round(self.amount),) * 3
        # A millionth of a voxel is rounding in the header, not a reason for one voxel more.
        x, y, z = (math.ceil(self.amount / step - 1e-6) if step > 0 else 0 for step in spacing[:3])
        return x, y, z


def parse_margin(text: str) -> Margin:
    """Return the margin that ``3`` (voxels), ``3vox`` or ``2.5mm`` says.

    Raises
    ------
    SourceError
        If the text has another form.
    """
    found = re.fullmatch(r"([0-9]{1,9})(\.[0-9]{1,9})?\s*(mm|vox|voxels)?", text.strip())
    if found is None or (found[2] and found[3] != "mm"):
        raise SourceError(f"{text!r} is not a margin: write 3 for voxels or 2.5mm")
    return Margin(float(found[1] + (found[2] or "")), found[3] == "mm")


def split_label(text: str) -> tuple[str, int | None]:
    """Split ``FILE:label``; without a number after the last colon all of it is the file.

    Examples
    --------
    >>> split_label("C:/seg.nii.gz:4"), split_label("C:/seg.nii.gz")
    (('C:/seg.nii.gz', 4), ('C:/seg.nii.gz', None))
    """
    found = re.fullmatch(r"(.+):(-?[0-9]{1,18})", text)
    return (found[1], int(found[2])) if found else (text, None)
