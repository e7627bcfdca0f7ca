"""The filter after reconstruction: taps that the encoder fits and stores, by classes of voxels.

Values are in fractions of a voxel's unit. A class says how much happens around a voxel, in steps of
the quantiser, along which axis most, and whether along that one alone. Beyond the slab, values are
those of its border.

Why no index leaves its array (numba checks none): planes have margins of 3, as wide as features
reach; slices are clipped to the slab; classes are counts of comparisons.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from mroi.codecs.compiled import kernel, part, step

__all__ = ["CLASSES", "TAPS", "apply_filter", "clip", "round_off", "sum_products"]

CLASSES = 48
"""Eight of activity, three of direction, two of shape."""

TAPS = 22
"""Taps of a class."""

_EDGE = 3
_RING = 2 * _EDGE + 1
_LIMITS = np.array([346, 1037, 2419, 4838, 8294, 13824, 24192], np.int64)  # of 27 voxels, in 1/256


@step
def _load(values, z, first, ring):
    """Copy a strip of a slice into its place of the ring, with its border around it."""
    rows, columns = values.shape[1:]
    plane = ring[z % _RING]
    for y in range(plane.shape[0]):
        source = values[z, max(0, min(first + y - _EDGE, rows - 1))]
        for x in range(columns):
            plane[y, x + _EDGE] = source[x]
        for x in range(_EDGE):
            plane[y, x] = source[0]
            plane[y, columns + _EDGE + x] = source[columns - 1]


@step
def _measure(ring, z, slices, raw, activity):
    """Sum over 3 x 3 voxels of a slice: curvature, and slopes along z, y, x."""
    here = ring[z % _RING]
    before = ring[max(z - 1, 0) % _RING]
    after = ring[min(z + 1, slices - 1) % _RING]
    rows, columns = here.shape[0] - 2 * _EDGE, here.shape[1] - 2 * _EDGE
    for y in range(rows + 2):
        k = y + _EDGE - 1
        c = here[k]
        n, s, u, d = here[k - 1], here[k + 1], before[k], after[k]
        for x in range(columns + 2):
            i = x + _EDGE - 1
            twice = 2 * c[i]
            curve = abs(u[i] + d[i] - twice) + abs(n[i] + s[i] - twice)
            raw[0, y, x] = curve + abs(c[i - 1] + c[i + 1] - twice)
            raw[1, y, x] = abs(d[i] - u[i])
            raw[2, y, x] = abs(s[i] - n[i])
            raw[3, y, x] = abs(c[i + 1] - c[i - 1])
    for k in range(4):
        for y in range(rows):
            a, b, c = raw[k, y], raw[k, y + 1], raw[k, y + 2]
            to = activity[z % 3, k, y]
            for x in range(columns):
                total = a[x] + a[x + 1] + a[x + 2] + b[x] + b[x + 1] + b[x + 2]
                to[x] = total + c[x] + c[x + 1] + c[x + 2]


@step
def _classify(activity, z, slices, y, size, classes):
    """Find the class of each voxel of a row."""
    a = activity[max(z - 1, 0) % 3]
    b = activity[z % 3]
    c = activity[min(z + 1, slices - 1) % 3]
    for x in range(classes.size):
        much = np.int64(a[0, y, x]) + b[0, y, x] + c[0, y, x]
        dz = np.int64(a[1, y, x]) + b[1, y, x] + c[1, y, x]
        dy = np.int64(a[2, y, x]) + b[2, y, x] + c[2, y, x]
        dx = np.int64(a[3, y, x]) + b[3, y, x] + c[3, y, x]
        level = np.int64(0)
        for limit in _LIMITS:
            level += np.int64(much > (size * limit) >> 8)
        way = np.int64(0)
        most = dz
        if dy > most:
            way, most = np.int64(1), dy
        if dx > most:
            way, most = np.int64(2), dx
        least = min(dz, dy, dx)
        second = dz + dy + dx - most - least
        classes[x] = level * 6 + way * 2 + np.int64(most > 2 * second)


@step
def _clip(value, limit):
    return max(-limit, min(value, limit))


@step
def _features(ring, z, slices, y, size, features):
    """Find the features of each voxel of a row: of its nearest voxels, one pair or few."""
    here = ring[z % _RING]
    before, after = ring[max(z - 1, 0) % _RING], ring[min(z + 1, slices - 1) % _RING]
    uu, dd = ring[max(z - 2, 0) % _RING][y], ring[min(z + 2, slices - 1) % _RING][y]
    near = np.int32((size * 77) >> 8)
    c, n, nn, s, ss = here[y], here[y - 1], here[y - 2], here[y + 1], here[y + 2]
    u, d = before[y], after[y]
    un, us, dn, ds = before[y - 1], before[y + 1], after[y - 1], after[y + 1]
    for x in range(features.shape[1]):
        i = x + _EDGE
        v = c[i]
        twice = 2 * v
        features[0, x] = u[i] + d[i] - twice
        features[1, x] = uu[i] + dd[i] - twice
        features[2, x] = n[i] + s[i] - twice
        features[3, x] = nn[i] + ss[i] - twice
        features[4, x] = c[i - 1] + c[i + 1] - twice
        features[5, x] = c[i - 2] + c[i + 2] - twice
        features[6, x] = un[i] + ds[i] - twice
        features[7, x] = us[i] + dn[i] - twice
        features[8, x] = u[i - 1] + d[i + 1] - twice
        features[9, x] = u[i + 1] + d[i - 1] - twice
        features[10, x] = n[i - 1] + s[i + 1] - twice
        features[11, x] = n[i + 1] + s[i - 1] - twice
        corners = un[i - 1] + un[i + 1] + us[i - 1] + us[i + 1]
        corners += dn[i - 1] + dn[i + 1] + ds[i - 1] + ds[i + 1]
        features[12, x] = (corners - 4 * twice) >> 2
        features[13, x] = _clip(u[i] - v, near) + _clip(d[i] - v, near)
        features[14, x] = _clip(n[i] - v, near) + _clip(s[i] - v, near)
        features[15, x] = _clip(c[i - 1] - v, near) + _clip(c[i + 1] - v, near)


@step
def _far_features(ring, z, slices, y, size, features):
    """Find the features of voxels two and three places away."""
    here, last = ring[z % _RING], slices - 1
    uu, uuu = ring[max(z - 2, 0) % _RING][y], ring[max(z - 3, 0) % _RING][y]
    dd, ddd = ring[min(z + 2, last) % _RING][y], ring[min(z + 3, last) % _RING][y]
    c, nn, nnn, ss, sss = here[y], here[y - 2], here[y - 3], here[y + 2], here[y + 3]
    far, half = np.int32((size * 38) >> 8), np.int32(size >> 1)
    for x in range(features.shape[1]):
        i = x + _EDGE
        v = c[i]
        along = uuu[i] + ddd[i] + nnn[i] + sss[i]
        features[17, x] = along + c[i - 3] + c[i + 3] - 6 * v
        a, b, e, f = uu[i] - v, dd[i] - v, nn[i] - v, ss[i] - v
        g, h = c[i - 2] - v, c[i + 2] - v
        along = _clip(a, far) + _clip(b, far) + _clip(e, far) + _clip(f, far)
        features[16, x] = along + _clip(g, far) + _clip(h, far)
        along = _clip(a, half) + _clip(b, half) + _clip(e, half) + _clip(f, half)
        features[21, x] = along + _clip(g, half) + _clip(h, half)


@step
def _summed_features(ring, z, slices, y, size, features):
    """Find the features of all voxels at edges, at corners, at faces together."""
    here = ring[z % _RING]
    before, after = ring[max(z - 1, 0) % _RING], ring[min(z + 1, slices - 1) % _RING]
    near, far, wide = np.int32((size * 77) >> 8), np.int32((size * 38) >> 8), np.int32(size)
    c, n, s, u, d = here[y], here[y - 1], here[y + 1], before[y], after[y]
    un, us, dn, ds = before[y - 1], before[y + 1], after[y - 1], after[y + 1]
    for x in range(features.shape[1]):
        i = x + _EDGE
        v = c[i]
        edges = _clip(un[i] - v, near) + _clip(us[i] - v, near)
        edges += _clip(dn[i] - v, near) + _clip(ds[i] - v, near)
        edges += _clip(u[i - 1] - v, near) + _clip(u[i + 1] - v, near)
        edges += _clip(d[i - 1] - v, near) + _clip(d[i + 1] - v, near)
        edges += _clip(n[i - 1] - v, near) + _clip(n[i + 1] - v, near)
        features[18, x] = edges + _clip(s[i - 1] - v, near) + _clip(s[i + 1] - v, near)
        corners = _clip(un[i - 1] - v, far) + _clip(un[i + 1] - v, far)
        corners += _clip(us[i - 1] - v, far) + _clip(us[i + 1] - v, far)
        corners += _clip(dn[i - 1] - v, far) + _clip(dn[i + 1] - v, far)
        features[19, x] = corners + _clip(ds[i - 1] - v, far) + _clip(ds[i + 1] - v, far)
        faces = _clip(u[i] - v, wide) + _clip(d[i] - v, wide)
        faces += _clip(n[i] - v, wide) + _clip(s[i] - v, wide)
        features[20, x] = faces + _clip(c[i - 1] - v, wide) + _clip(c[i + 1] - v, wide)


@step
def _find_features(ring, z, slices, y, size, features):
    y += _EDGE
    _features(ring, z, slices, y, size, features)
    _far_features(ring, z, slices, y, size, features)
    _summed_features(ring, z, slices, y, size, features)


@step
def _advance(values, z, first, ring, raw, activity):
    """Make all ready that the strip of slice `z` needs, those before it being done."""
    slices = values.shape[0]
    if z == 0:
        for k in range(min(_EDGE, slices)):
            _load(values, k, first, ring)
    if z + _EDGE < slices:
        _load(values, z + _EDGE, first, ring)
    if z == 0:
        _measure(ring, 0, slices, raw, activity)
    if z + 1 < slices:
        _measure(ring, z + 1, slices, raw, activity)


@part
def _planes(rows, columns):
    """Return what a strip needs: the ring, curvatures and slopes, their sums, features, classes."""
    return (
        np.zeros((_RING, rows + 2 * _EDGE, columns + 2 * _EDGE), np.int32),
        np.zeros((4, rows + 2, columns + 2), np.int32),
        np.zeros((3, 4, rows, columns), np.int32),
        np.zeros((TAPS, columns), np.int32),
        np.zeros(columns, np.int64),
    )


@kernel
def apply_filter(values, strip, size, taps, fraction, top, out):
    """Filter a slab, and give its voxels: integers from 0 to `top`.

    `values` are 0 to ``top << fraction``, `strip` is how many rows are done at once,
    `size` is the step of the quantiser in the units of the values,
    `taps` are (TAPS, CLASSES) in 1/256.
    """
    slices, rows, columns = values.shape
    sums = np.zeros(columns, np.int64)
    half = (1 << fraction) >> 1
    for first in range(0, rows, strip):
        count = min(strip, rows - first)
        ring, raw, activity, features, classes = _planes(count, columns)
        for z in range(slices):
            _advance(values, z, first, ring, raw, activity)
            for y in range(count):
                _classify(activity, z, slices, y, size, classes)
                _find_features(ring, z, slices, y, size, features)
                sums[:] = 128
                for k in range(TAPS):
                    for x in range(columns):
                        tap = taps[np.uint64(k), np.uint64(classes[x])]
                        sums[x] += tap * np.int64(features[k, x])
                for x in range(columns):
                    value = np.int64(values[z, first + y, x]) + (sums[x] >> 8)
                    value = max(np.int64(0), min((value + half) >> fraction, top))
                    out[z, first + y, x] = value


@kernel
def sum_products(values, strip, wanted, weights, size, fraction, products):
    """Sum the products of features, and of features with what is wanted, by classes.

    `weights` are what each voxel counts, or None.
    """
    slices, rows, columns = values.shape
    row = np.zeros(TAPS + 1, np.float64)
    unit = np.float64(1 << fraction)
    for first in range(0, rows, strip):
        count = min(strip, rows - first)
        ring, raw, activity, features, classes = _planes(count, columns)
        for z in range(slices):
            _advance(values, z, first, ring, raw, activity)
            for y in range(count):
                _classify(activity, z, slices, y, size, classes)
                _find_features(ring, z, slices, y, size, features)
                for x in range(columns):
                    for k in range(TAPS):
                        row[k] = features[k, x]
                    row[TAPS] = wanted[z, first + y, x] * unit - values[z, first + y, x]
                    if weights is not None:
                        row *= math.sqrt(weights[z, first + y, x])
                    _add_products(row, products[classes[x]])


@step
def _add_products(row, into):
    for i in range(TAPS + 1):
        for j in range(i + 1):
            into[i, j] += row[i] * row[j]


@kernel
def clip(values, most):
    """Clip the values of a slab to 0 to `most`, in place."""
    slices, rows, columns = values.shape
    for z in range(slices):
        for y in range(rows):
            for x in range(columns):
                values[z, y, x] = max(np.int32(0), min(values[z, y, x], np.int32(most)))


@kernel
def round_off(values, fraction, out):
    """Give the voxels of a slab whose values are clipped: rounded to the nearest."""
    slices, rows, columns = values.shape
    half = (1 << fraction) >> 1
    for z in range(slices):
        for y in range(rows):
            for x in range(columns):
                out[z, y, x] = (np.int64(values[z, y, x]) + half) >> fraction
