"""MedROI's ROI written from its description alone: slow, one voxel at a time, no shared code."""

from __future__ import annotations

import math

import numpy as np


def percentile(values, percent, kind):
    values = sorted(kind(value) for value in values)
    position = (len(values) - 1) * (percent / 100)
    below = math.floor(position)
    share = position - below
    a = values[below]
    b = values[min(below + 1, len(values) - 1)]
    if share < 0.5:
        return kind(a + kind(kind(b - a) * kind(share)))
    return kind(b - kind(kind(b - a) * kind(1 - share)))


def levels_of(intensity, kind):
    """uint8 levels of an array of intensities (dtype `kind`); what has no level is 0."""
    positive = [value for value in intensity.ravel() if value > 0]
    levels = np.zeros(intensity.shape, np.uint8)
    if not positive:
        return levels
    low = percentile(positive, 1, kind)
    high = percentile(positive, 99, kind)
    for index in np.ndindex(intensity.shape):
        value = intensity[index]
        if math.isnan(value):
            continue
        above, span = kind(value - low), kind(high - low)
        if span == 0:
            levels[index] = 255 if above > 0 else 0
            continue
        level = kind(kind(above / span) * kind(255))
        levels[index] = int(min(max(level, 0), 255))
    return levels


def cross(ndim):
    yield (0,) * ndim
    for axis in range(ndim):
        for step in (-1, 1):
            yield tuple(step if a == axis else 0 for a in range(ndim))


def look(mask, index, *, outside):
    if all(0 <= i < n for i, n in zip(index, mask.shape, strict=True)):
        return bool(mask[index])
    return outside


def erode(mask, *, outside):
    out = np.zeros_like(mask)
    for index in np.ndindex(mask.shape):
        out[index] = all(
            look(mask, tuple(i + d for i, d in zip(index, step, strict=True)), outside=outside)
            for step in cross(mask.ndim)
        )
    return out


def dilate(mask):
    out = np.zeros_like(mask)
    for index in np.ndindex(mask.shape):
        out[index] = any(
            look(mask, tuple(i + d for i, d in zip(index, step, strict=True)), outside=False)
            for step in cross(mask.ndim)
        )
    return out


def bounds(mask):
    """Inclusive (minima, maxima) of the true entries, or None."""
    where = np.argwhere(mask)
    if not len(where):
        return None
    return where.min(axis=0).tolist(), where.max(axis=0).tolist()


def widen(box, margin, shape):
    low, high = box
    return (
        [max(0, a - margin) for a in low],
        [min(n - 1, b + margin) for b, n in zip(high, shape, strict=True)],
    )


def outside_share(reference, box):
    total = missed = 0
    for index in np.argwhere(reference):
        total += 1
        inside = all(a <= i <= b for i, a, b in zip(index, *box, strict=True))
        missed += not inside
    return missed / total if total else 0.0


def volume_roi(intensity):
    """(box or None, threshold, [(thr, box or None, miss) for every x]), boxes inclusive."""
    levels = levels_of(intensity, np.float64)
    lit = [int(v) for v in levels.ravel() if v > 0]
    if not lit:
        return None, 0.0, []
    threshold = sum(lit) / len(lit)
    mask = np.array([float(v) >= threshold for v in levels.ravel()]).reshape(levels.shape)
    box = bounds(dilate(erode(mask, outside=False)))
    if box is not None:
        box = widen(box, 3, levels.shape)
    rows = []
    for plane in levels:
        reference = np.array([float(v) >= threshold for v in plane.ravel()]).reshape(plane.shape)
        reference = erode(dilate(reference), outside=True)
        lit = [int(v) for v in plane.ravel() if v > 0]
        thr = sum(lit) / len(lit) if lit else 0.0
        rect = bounds(np.array([float(v) > thr for v in plane.ravel()]).reshape(plane.shape))
        if rect is None or not reference.any():
            rows.append((thr, None, 0.0))
            continue
        rect = widen(rect, 3, plane.shape)
        miss = outside_share(reference, rect)
        if miss > 0.002:
            rect = widen(rect, 9, plane.shape)
            miss = outside_share(reference, rect)
        rows.append((thr, rect, miss))
    return box, threshold, rows


def image_roi(intensity):
    """(inclusive rectangle, threshold, first miss, final miss), or None; `intensity` float32."""
    levels = levels_of(intensity, np.float32)
    reference = levels > 0
    lit = [int(v) for v in levels.ravel() if v > 0]
    if not lit:
        return None
    threshold = percentile(lit, 10, np.float64)
    rect = bounds(np.array([float(v) > threshold for v in levels.ravel()]).reshape(levels.shape))
    if rect is None:
        return None
    rect = widen(rect, 3, levels.shape)
    first = miss = outside_share(reference, rect)
    if miss > 0.002:
        rect = widen(rect, 9, levels.shape)
        miss = outside_share(reference, rect)
    return rect, threshold, first, miss
