"""Affines: voxel index (i, j, k) to world position in mm, RAS+, of voxel centres."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["axis_codes", "corners_apart", "crop_affine", "is_singular", "spacing_of"]

_FLAT = 1e-6  # volume of the cell of unit columns: axes that are a plane, but for rounding


def crop_affine(affine: NDArray[np.float64], start: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine of the array that remains when the voxels before `start` are cut off.

    A voxel keeps its world position: ``crop_affine(A, s) @ [0, 0, 0, 1]`` equals ``A @ [*s, 1]``.

    Parameters
    ----------
    affine : (4, 4) ndarray of float64
        Voxel index to world position in mm, RAS+.
    start : sequence of 3 int
        First voxel kept, along x, y, z.

    Returns
    -------
    (4, 4) ndarray of float64
        A new array; `affine` is not modified.
    """
    cropped = affine.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # positions beyond floats are infinite
        cropped[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
    return cropped


def corners_apart(
    affine: NDArray[np.float64], other: NDArray[np.float64], shape: Sequence[int]
) -> float:
    """Return how far the corners of a volume move, in mm, if it has another affine.

    Parameters
    ----------
    affine, other : (4, 4) ndarray of float64
        Voxel index to world position in mm, RAS+.
    shape : sequence of int
        Extents along x, y, z; more are ignored.

    Returns
    -------
    float
        The longest way of the eight corners; NaN or infinity if one has no finite position.
    """
    corners = np.array([[*ends, 1] for ends in product(*((0, n - 1) for n in shape[:3]))])
    with np.errstate(over="ignore", invalid="ignore"):
        ways = (corners @ (affine - other).T)[:, :3]
        return float(np.linalg.norm(ways, axis=1).max())


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the distance in mm between neighbours along i, j, k: the norms of the columns.

    Infinite where it is beyond floats.
    """
    norms, scale = _column_norms(affine[:3, :3])
    with np.errstate(over="ignore", under="ignore"):
        x, y, z = (norms * scale).tolist()
    return x, y, z


def is_singular(affine: NDArray[np.float64]) -> bool:
    """Whether different voxels have one position: a column is zero, or columns are a plane.

    Examples
    --------
    >>> is_singular(np.eye(4)), is_singular(np.diag([1.0, 1.0, 0.0, 1.0]))
    (False, True)
    """
    norms, scale = _column_norms(affine[:3, :3])
    if not norms.all():
        return True
    return abs(float(np.linalg.det(affine[:3, :3] / scale / norms))) < _FLAT


def _column_norms(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the norms of the columns as a product of two, of which the first is near 1.

    Squares of numbers beyond 1e154, or below 1e-154, are not those of floats.
    """
    largest = np.abs(matrix).max(axis=0)
    usual = (largest == 0) | ((largest > 1e-150) & (largest < 1e150))
    scale = np.where(usual, 1.0, largest)
    return np.sqrt(((matrix / scale) ** 2).sum(axis=0)), scale


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Return the anatomical direction each voxel axis runs to, like ``RAS`` or ``LPI``.

    Each voxel axis gets the world axis it is closest to, each world axis used once; ``?`` where
    a column of the affine is zero.

    Examples
    --------
    >>> axis_codes(np.diag([-1.0, 2.0, 3.0, 1.0]))
    'LAS'
    """
    matrix = affine[:3, :3]
    norms, scale = _column_norms(matrix)
    unit = np.divide(matrix / scale, norms, out=np.zeros_like(matrix), where=norms > 0)
    codes = ["?", "?", "?"]
    free = np.abs(unit)  # (world, voxel)
    for _ in range(3):
        world, voxel = np.unravel_index(np.argmax(free), free.shape)
        if free[world, voxel] <= 0:
            break
        pair = ("RL", "AP", "SI")[world]
        codes[voxel] = pair[int(unit[world, voxel] < 0)]
        free[world, :] = -1
        free[:, voxel] = -1
    return "".join(codes)
