"""Label maps: which neighbour a voxel repeats, else the number itself.

Candidates are W, N and the same place in the slice before (U), then NE and NW. The context of each
decision is which of the neighbours agree with each other. Normative in ``spec/codecs/calv.md``.

No index leaves its array: taps stay within the margins of `planes`, contexts are made of bits of
comparisons, and the nodes of the tree of numbers are fewer than 2 to the power of its depth.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0912

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.planes import close_plane, close_row, open_row

__all__ = ["decode", "encode"]

_HALF = 1 << 31  # a context that has seen nothing
_PATTERNS = 2048


def encode(volume: NDArray[np.int32], top: int) -> bytes | None:
    """Return the section of a slab of numbers from 0 to `top`, or None if it is larger than raw."""
    state, words = coder.open_writer(volume.size + 64)
    _code(False, state, words, volume, top, *_contexts(top), coder.RATES)  # noqa: FBT003
    written = coder.close(state, words)
    return None if written is None else written.astype("<u2").tobytes()


def decode(section: memoryview, out: NDArray[np.int32], slices: int, top: int) -> bool:
    """Fill `out`, the first of so many slices, from a section; return whether it is sound."""
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    state = coder.open_reader(words)
    if not _code(True, state, words, out, top, *_contexts(top), coder.RATES):  # noqa: FBT003
        return False
    return out.shape[0] < slices or bool(state[0] == 0 and state[2] == words.size)


def _contexts(top: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.full(5 * _PATTERNS, _HALF, np.int64), np.full(1 << top.bit_length(), _HALF, np.int64)


@kernel
def _code(decoding, state, words, volume, top, choices, tree, rates):
    """Code a slab; return whether all its numbers are sound."""
    slices, rows, columns = volume.shape
    width = columns + 6
    size = (rows + 5) * width
    planes = np.zeros(2 * size, np.int32)
    candidates = np.zeros(5, np.int64)
    depth = 0
    while top >> depth > 0:
        depth += 1
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size
        for y in range(rows):
            row = start + (y + 3) * width + 3
            open_row(planes, row, columns)
            for x in range(columns):
                p = row + x
                w = np.int64(planes[p - 1])
                n = np.int64(planes[p - width])
                ne = np.int64(planes[p - width + 1])
                nw = np.int64(planes[p - width - 1])
                u = np.int64(planes[p + up]) if s > 0 else n
                candidates[0], candidates[1], candidates[2] = w, n, u
                candidates[3], candidates[4] = ne, nw
                pattern = (
                    (w == n) | (w == nw) << 1 | (n == nw) << 2 | (n == ne) << 3
                    | (w == planes[p - 2]) << 4 | (n == planes[p - 2 * width]) << 5
                )  # fmt: skip
                if s > 0:
                    q = p + up
                    pattern |= (
                        (w == u) << 6 | (n == u) << 7 | (u == planes[q + 1]) << 8
                        | (u == planes[q + width]) << 9 | 1 << 10
                    )  # fmt: skip
                value = np.int64(volume[s, y, x])
                found = False
                for i in range(5):
                    candidate = candidates[i]
                    tried = False
                    for j in range(i):
                        tried |= candidates[j] == candidate
                    if not tried and not found:
                        hit = np.int64(value == candidate)
                        index = np.int64(i * 2048 + pattern)
                        if coder.adaptive(decoding, state, words, choices, index, hit, rates):
                            found = True
                            if decoding:
                                value = candidate
                if not found:
                    node = np.int64(1)
                    for i in range(depth - 1, -1, -1):
                        bit = coder.adaptive(
                            decoding, state, words, tree, node, (value >> i) & 1, rates
                        )
                        node = node * 2 + bit
                    if decoding:
                        value = node - (np.int64(1) << depth)
                    if value > top:
                        return False
                volume[s, y, x] = value
                planes[p] = value
            close_row(planes, row, columns)
            if state[2] > words.size + 3:
                return False
        close_plane(planes, start, rows, columns)
    return True
