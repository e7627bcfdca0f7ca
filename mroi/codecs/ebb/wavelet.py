"""The wavelets: analysis of the encoder in floats, synthesis of every decoder in integers.

The coefficients of a slab lie in one array: along each axis that is split, the low part of a level
comes first, the high part behind it. Between them, low and high samples alternate; a signal is
mirrored about its first and its last sample. Both directions are then one symmetric filter for even
places and one for odd ones.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import kernel, step
from mroi.codecs.ebb.bands import Plan

__all__ = ["NAMES", "analyse", "spread", "synthesise", "synthesise_slices"]

NAMES = ("6.8", "9/7")
"""The wavelets by their number: both biorthogonal."""

_REACH = 8  # of the filters, to each side
_LANES = 32  # lines that are filtered at once
_ONE = 1 << 20  # a tap of 1

# The lowpass filters of analysis and of synthesis, from the middle to one side.
_ANALYSIS = (
    (
        0.8259229974584023, 0.4207962846098268, -0.09405920349573646, -0.07726317316720414,
        0.04973290349094079, 0.01193456527972926, -0.016990639867602342, -0.0019142861290887667,
        0.0019088317364812906,
    ),
    (0.8526986790088938, 0.37740285561283066, -0.11062440441843718, -0.023849465019556843,
     0.03782845550726404, 0, 0, 0, 0),
)  # fmt: skip
_SYNTHESIS = (
    (0.7589077294536541, 0.41784910915027457, -0.04036797903033992, -0.07872200106262882,
     0.014467504896790148, 0.014426282505624435, 0, 0, 0),
    (0.7884856164055829, 0.41809227322161724, -0.04068941760916406, -0.06453888262869706,
     0, 0, 0, 0, 0),
)  # fmt: skip


def _taps(low: tuple[float, ...], high: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the filters of even and of odd places where both alternate, from the middle on."""
    even = [(low if k % 2 == 0 else high)[k] * (-1) ** k for k in range(_REACH + 1)]
    odd = [(high if k % 2 == 0 else low)[k] for k in range(_REACH + 1)]
    return np.array([even, odd])


_FORWARD = [
    np.array([a, [(-1) ** k * tap for k, tap in enumerate(s)]], np.float32)
    for a, s in zip(_ANALYSIS, _SYNTHESIS, strict=True)
]
_ENERGY = [
    np.array([np.square(s) / (2 * np.square(s).sum() - s[0] ** 2) for s in pair], np.float32)
    for pair in zip(_SYNTHESIS, _ANALYSIS, strict=True)
]  # of what a low and a high coefficient become, by distance from it: 1 in all
_BACKWARD = [
    np.rint(_ONE * _taps(s, a)).astype(np.int64) for a, s in zip(_ANALYSIS, _SYNTHESIS, strict=True)
]


def analyse(voxels: NDArray[np.float32], plan: Plan, wavelet: int) -> None:
    """Turn the voxels of a slab into its coefficients, in place."""
    _analyse(voxels, plan, _FORWARD[wavelet])


def spread(weights: NDArray[np.float32], plan: Plan, wavelet: int) -> None:
    """Turn the weights of the voxels of a slab into those of its coefficients, in place.

    The weight of a coefficient is the mean of those of the voxels that it becomes, by its energy
    in each of them.
    """
    _analyse(weights, plan, _ENERGY[wavelet])


def _analyse(array: NDArray[np.float32], plan: Plan, taps: NDArray[np.float32]) -> None:
    for level in range(1, len(plan.shapes)):
        for axis in (2, 1, 0):
            if plan.shapes[level][axis] < plan.shapes[level - 1][axis]:
                _analyse_axis(array, plan.shapes[level - 1], axis, taps)


def synthesise(coefficients: NDArray[np.int32], plan: Plan, wavelet: int, last: int = 0) -> None:
    """Turn the coefficients of a slab into its voxels, or into its low part at a level, in place.

    All is modulo 2^32: damaged coefficients give some voxels, whatever they are.
    """
    for level in range(len(plan.shapes) - 1, last, -1):
        for axis in (0, 1, 2):
            if plan.shapes[level][axis] < plan.shapes[level - 1][axis]:
                _synthesise_axis(coefficients, plan.shapes[level - 1], axis, _BACKWARD[wavelet])


@step
def _lines(array, shape, axis):
    """Return how far samples, lines and blocks of lines are apart, and how many there are."""
    rows, columns = array.shape[1], array.shape[2]
    slice_, row = rows * columns, columns
    if axis == 0:
        return slice_, 1, row, shape[0], shape[2], shape[1]
    if axis == 1:
        return row, 1, slice_, shape[1], shape[2], shape[0]
    return 1, row, slice_, shape[2], shape[1], shape[0]


@step
def _mirror(lines, count):
    """Fill the margins of lines of `count` samples, at least 2, that begin at `_REACH`."""
    period = 2 * (count - 1)
    for i in range(1, _REACH + 1):
        before = i % period
        before = min(before, period - before)
        after = (count - 1 + i) % period
        after = min(after, period - after)
        for x in range(_LANES):
            lines[_REACH - i, x] = lines[_REACH + before, x]
            lines[_REACH + count - 1 + i, x] = lines[_REACH + after, x]


@kernel
def _analyse_axis(array, shape, axis, taps):
    along, across, block, count, wide, blocks = _lines(array, shape, axis)
    flat = array.reshape(-1)
    lines = np.zeros((count + 2 * _REACH, _LANES), np.float32)
    half = (count + 1) // 2
    for b in range(blocks):
        for first in range(0, wide, _LANES):
            lanes = min(_LANES, wide - first)
            start = b * block + first * across
            for n in range(count):
                for x in range(lanes):
                    lines[n + _REACH, x] = flat[np.uint64(start + n * along + x * across)]
            _mirror(lines, count)
            for n in range(count):
                to = start + ((n >> 1) + (n & 1) * half) * along
                t = taps[n & 1]
                for x in range(lanes):
                    total = t[0] * lines[n + _REACH, x]
                    for k in range(1, _REACH + 1):
                        total += t[k] * (lines[n + _REACH - k, x] + lines[n + _REACH + k, x])
                    flat[np.uint64(to + x * across)] = total


@kernel
def _synthesise_axis(array, shape, axis, taps):
    along, across, block, count, wide, blocks = _lines(array, shape, axis)
    flat = array.reshape(-1)
    lines = np.zeros((count + 2 * _REACH, _LANES), np.int32)
    sums = np.zeros(_LANES, np.int64)
    half = (count + 1) // 2
    for b in range(blocks):
        for first in range(0, wide, _LANES):
            lanes = min(_LANES, wide - first)
            start = b * block + first * across
            for n in range(count):
                at = start + ((n >> 1) + (n & 1) * half) * along
                for x in range(lanes):
                    lines[n + _REACH, x] = flat[np.uint64(at + x * across)]
            _mirror(lines, count)
            for n in range(count):
                to = start + n * along
                _convolve(lines, n + _REACH, taps[n & 1], sums)
                for x in range(lanes):
                    flat[np.uint64(to + x * across)] = np.int32(sums[x])


@step
def _convolve(lines, n, t, sums):
    """Filter the samples `n` of all lines."""
    here = lines[n]
    for x in range(_LANES):
        sums[x] = t[0] * np.int64(here[x]) + (_ONE >> 1)
    for k in range(1, _REACH + 1):
        if t[k] != 0:
            before, after, tap = lines[n - k], lines[n + k], t[k]
            for x in range(_LANES):
                sums[x] += tap * np.int64(np.int32(before[x] + after[x]))
    for x in range(_LANES):
        sums[x] >>= 20


def synthesise_slices(coefficients: NDArray[np.int32], plan: Plan, wavelet: int, last: int) -> None:
    """Turn the low part of a slab at a level into as many slices as the slab has, in place.

    What is finer across slices counts as 0. The array has the rows and columns of that level.
    """
    for level in range(last, 0, -1):
        fine, coarse = plan.shapes[level - 1][0], plan.shapes[level][0]
        if coarse < fine:
            coefficients[coarse:fine] = 0
            shape = (fine, *plan.shapes[last][1:])
            _synthesise_axis(coefficients, shape, 0, _BACKWARD[wavelet])
