"""Label maps: which neighbour a voxel repeats, else the number itself.

Where all around is the same, one decision says whether a whole run of voxels stays so; elsewhere
candidates are W, N and the same place in the slice before (U), then NE and NW. The context of each
decision is which of the neighbours agree with each other. Normative in ``spec/codecs/calv.md``.

No index leaves its array: taps stay within the margins of `planes`, contexts are made of bits of
comparisons or lengths, the nodes of the tree of numbers are fewer than 2 to the power of its depth,
and runs end where their row does.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0912, PLR0915, PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.planes import (
    close_plane,
    close_row,
    open_row,
    plane_size,
    row_start,
    stride,
)
from mroi.codecs.calv.values import Numbers, numbers_in

__all__ = ["decode", "encode"]

_HALF = 1 << 31  # a context that has seen nothing
_PATTERNS = 2048


def encode(volume: NDArray[np.int32], top: int) -> bytes | None:
    """Return the section of a slab of numbers from 0 to `top`, or None if it is larger than raw."""
    state, words = coder.open_writer(volume.size + 64)
    numbers = numbers_in(volume.astype("<u2"))
    _code(False, state, words, numbers, volume.shape, top, *_contexts(top), coder.RATES)  # noqa: FBT003
    written = coder.close(state, words)
    return None if written is None else written.astype("<u2").tobytes()


def decode(
    section: memoryview, out: Numbers, shape: tuple[int, int, int], slices: int, top: int
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    state = coder.open_reader(words)
    if not _code(True, state, words, out, shape, top, *_contexts(top), coder.RATES):  # noqa: FBT003
        return False
    return shape[0] < slices or bool(state[0] == 0 and state[2] == words.size)


def _contexts(top: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return contexts that have seen nothing: of candidates, of numbers, of runs."""
    sizes = (5 * _PATTERNS, 1 << top.bit_length(), 64)
    choices, tree, runs = (np.full(size, _HALF, np.int64) for size in sizes)
    return choices, tree, runs


@kernel
def _code(decoding, state, words, numbers, shape, top, choices, tree, runs, rates):
    """Code a slab; return whether all its numbers are sound."""
    slices, rows, columns = shape
    data, pairs, are_pairs, first, every = numbers
    width = stride(columns)
    size = plane_size(rows, columns)
    planes = np.zeros(min(slices, 2) * size, np.uint16)
    candidates = np.zeros(5, np.int64)
    depth = 0
    while top >> depth > 0:
        depth += 1
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size if s > 0 else -width
        for y in range(rows):
            row = row_start(start, y, columns)
            open_row(planes, row, columns)
            # Columns of these begin at -3; in the first slice the row above stands for the others.
            here = planes[row - 3 : row + columns + 3]
            norths = planes[row - width - 3 : row - width + columns + 3]
            aboves = planes[row + up - 3 : row + up + columns + 3]
            souths = planes[row + up + width - 3 : row + up + width + columns + 3]
            if s == 0:
                souths = norths
            begin = first + (s * rows + y) * columns * every
            x = 0
            while x < columns:
                w = here[x + 2]
                missed = False
                if (
                    w == norths[x + 2] and w == norths[x + 3] and w == norths[x + 4]
                    and w == aboves[x + 3] and w == aboves[x + 4] and w == souths[x + 3]
                ):  # fmt: skip
                    # A run: as far as all around stays the same, if it does so too.
                    end = x + 1
                    while (
                        end < columns and w == norths[end + 4] and w == aboves[end + 4]
                        and w == souths[end + 3]
                    ):  # fmt: skip
                        end += 1
                    stop = end
                    if not decoding:
                        stop = x
                        while stop < end and pairs[begin + stop * every] == w:
                            stop += 1
                    length = np.int64(end - x)
                    index = _depth(length)
                    whole = np.int64(stop == end)
                    whole = coder.decide(decoding, state, runs, index, whole, rates)
                    if state[1] < coder.REFRESH:
                        coder.refresh(decoding, state, words)
                    if not whole:
                        missed = True
                        place = np.int64(stop - x)
                        bits = _depth(length - 1)
                        high = bits - min(bits, np.int64(16))
                        part = coder.uniform(decoding, state, words, high, place >> 16)
                        place = part << 16 | coder.uniform(
                            decoding, state, words, bits - high, place & 65535
                        )
                        if place >= length:
                            return False
                        stop = x + place
                    for i in range(x, stop):
                        here[i + 3] = w
                    if decoding:
                        for i in range(x, stop):
                            if are_pairs:
                                pairs[begin + i * every] = w
                            else:
                                data[begin + i * every] = w
                    x = stop
                    if x == columns:
                        break
                    if not missed:
                        continue
                n = np.int64(norths[x + 3])
                ne = np.int64(norths[x + 4])
                nw = np.int64(norths[x + 2])
                u = np.int64(aboves[x + 3]) if s > 0 else n
                candidates[0], candidates[1], candidates[2] = w, n, u
                candidates[3], candidates[4] = ne, nw
                p = row + x
                pattern = (
                    np.int64(w == n) | np.int64(w == nw) << 1 | np.int64(n == nw) << 2
                    | np.int64(n == ne) << 3 | np.int64(w == here[x + 1]) << 4
                    | np.int64(n == planes[p - 2 * width]) << 5
                )  # fmt: skip
                if s > 0:
                    pattern |= (
                        np.int64(w == u) << 6 | np.int64(n == u) << 7
                        | np.int64(u == aboves[x + 4]) << 8 | np.int64(u == souths[x + 3]) << 9
                        | 1 << 10
                    )  # fmt: skip
                value = np.int64(0 if decoding else pairs[begin + x * every])
                found = False
                for i in range(5):
                    candidate = candidates[i]
                    tried = missed and candidate == w
                    for j in range(i):
                        tried |= candidates[j] == candidate
                    if not tried:
                        hit = np.int64(value == candidate)
                        index = np.int64(i * 2048 + pattern)
                        hit = coder.decide(decoding, state, choices, index, hit, rates)
                        if state[1] < coder.REFRESH:
                            coder.refresh(decoding, state, words)
                        if hit:
                            found = True
                            value = candidate
                            break
                if not found:
                    node = np.int64(1)
                    for i in range(depth - 1, -1, -1):
                        bit = (value >> i) & 1
                        bit = coder.decide(decoding, state, tree, node, bit, rates)
                        if state[1] < coder.REFRESH:
                            coder.refresh(decoding, state, words)
                        node = node * 2 + bit
                    if decoding:
                        value = node - (np.int64(1) << depth)
                    if value > top:
                        return False
                if are_pairs:
                    pairs[begin + x * every] = value
                else:
                    data[begin + x * every] = value
                here[x + 3] = value
                x += 1
            close_row(planes, row, columns)
            if state[2] > words.size + 3:
                return False
        close_plane(planes, start, rows, columns)
    return True


@kernel
def _depth(number):
    """Return the bit length of a number."""
    length = np.int64(0)
    while number >> length > 0:
        length += 1
    return length
