"""Kind 4, labels: which neighbour a voxel repeats, else the symbol itself.

Where all around is the same, one decision says whether a whole run of voxels stays so; elsewhere
the candidates are W, N, U, NE and NW. The context of each decision is which of the neighbours
agree. Names and order are those of *Kind 4* in ``spec/codecs/calv.md``.

No index leaves its array: taps stay within the margins of `planes`, contexts are made of bits of
comparisons or lengths, the nodes of the tree of symbols are fewer than 2 to the power of its depth,
and runs end where their row does.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # and take everything by position

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.planes import (
    close_plane,
    close_row,
    open_row,
    plane_size,
    put_symbol,
    row_start,
    stride,
)
from mroi.codecs.calv.values import Symbols, symbols_in
from mroi.codecs.compiled import inlined, kernel, part, step

__all__ = ["decode", "encode"]

_PATTERNS = 2048
_CANDIDATES = 5
_LENGTHS = 64  # contexts of a run


class _Contexts(NamedTuple):
    """What is learnt.

    Attributes
    ----------
    run, choice, tree : (n,) int64
        By a length; by candidate and pattern; by node.
    """

    run: NDArray[np.int64]
    choice: NDArray[np.int64]
    tree: NDArray[np.int64]


class _Rows(NamedTuple):
    """The row that is coded and those around it, from column -3 on.

    Attributes
    ----------
    here, north, far_north, above, south : (columns + 6,) uint16
        Of W; of N; of NN; of U; of US. In the first slice, N stands for U and US.
    """

    here: NDArray[np.uint16]
    north: NDArray[np.uint16]
    far_north: NDArray[np.uint16]
    above: NDArray[np.uint16]
    south: NDArray[np.uint16]


def encode(volume: NDArray[np.int32], top: int) -> bytes | None:
    """Return the section of a slab of symbols from 0 to `top`, or None if it is larger than raw."""
    words = np.zeros(volume.size + 64, np.uint16)
    symbols = symbols_in(volume.astype("<u2"))
    _, interval = _code(False, words, symbols, volume.shape, top, _contexts(top))  # noqa: FBT003
    written = coder.close(interval, words)
    return None if written is None else written.astype("<u2").tobytes()


def decode(
    section: memoryview, out: Symbols, shape: tuple[int, int, int], slices: int, top: int
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    sound, interval = _code(True, words, out, shape, top, _contexts(top))  # noqa: FBT003
    return bool(sound) and (shape[0] < slices or coder.is_finished(interval, words))


def _contexts(top: int) -> _Contexts:
    """Return contexts that have learnt nothing."""
    sizes = (_LENGTHS, _CANDIDATES * _PATTERNS, 1 << top.bit_length())
    return _Contexts(*(np.full(size, coder.HALF, np.int64) for size in sizes))


@kernel
def _code(decoding, words, symbols, shape, top, contexts):
    """Code a slab; return whether all its symbols are sound, and the last interval."""
    slices, rows, columns = shape
    size = plane_size(rows, columns)
    planes = np.zeros(min(slices, 2) * size, np.uint16)
    interval = coder.begin(decoding, words)
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size
        for y in range(rows):
            row = row_start(start, y, columns)
            open_row(planes, row, columns)
            begin = symbols.first + (s * rows + y) * columns * symbols.step
            sound, interval = _code_row(
                decoding, interval, words, symbols, begin, _rows(planes, row, up, columns, s == 0),
                top, s == 0, contexts,
            )  # fmt: skip
            close_row(planes, row, columns)
            if not sound or interval.at > words.size + 3:
                return False, interval
        close_plane(planes, start, rows, columns)
    return True, interval


@part
def _rows(planes, row, up, columns, first):
    """Return the rows around the one that begins at `row`."""
    width = stride(columns)
    wide = columns + 6
    begin = row - 3
    north = planes[begin - width : begin - width + wide]
    above = north if first else planes[begin + up : begin + up + wide]
    south = north if first else planes[begin + up + width : begin + up + width + wide]
    far = begin - 2 * width
    return _Rows(planes[begin : begin + wide], north, planes[far : far + wide], above, south)


@step
def _code_row(decoding, interval, words, symbols, begin, rows, top, first, contexts):
    """Code a row; return whether all its symbols are sound, and the next interval."""
    here = rows.here
    columns = here.size - 6
    x = np.int64(0)
    while x < columns:
        missed = False
        if _is_calm(rows, x):
            stop, length, interval = _code_run(
                decoding, interval, words, symbols, begin, rows, x, contexts.run
            )
            if stop - x >= length > 0:
                return False, interval
            here[x + 3 : stop + 3] = here[x + 2]
            if decoding:
                for i in range(x, stop):
                    put_symbol(symbols, begin + i * symbols.step, here[i + 3])
            x = stop
            if length == 0:
                continue
            missed = True
        at = begin + x * symbols.step
        value = np.int64(0 if decoding else symbols.pairs[at])
        value, interval = _code_label(
            decoding, interval, words, rows, x, value, missed, top, first, contexts
        )
        if value > top:
            return False, interval
        put_symbol(symbols, at, value)
        here[x + 3] = value
        x += 1
    return True, interval


@inlined
def _is_calm(rows, x):
    """Return whether all around a column is the same."""
    w = rows.here[x + 2]
    return (
        w == rows.north[x + 2] and w == rows.north[x + 3] and w == rows.north[x + 4]
        and w == rows.above[x + 3] and w == rows.above[x + 4] and w == rows.south[x + 3]
    )  # fmt: skip


@inlined
def _code_run(decoding, interval, words, symbols, begin, rows, x, contexts):
    """Code a run from a column on; return where it ends, its length if it was missed, the interval.

    A run goes as far as all around stays the same; it is missed if a voxel in it does not.
    """
    columns = rows.here.size - 6
    w = rows.here[x + 2]
    end = x + 1
    while (
        end < columns and w == rows.north[end + 4] and w == rows.above[end + 4]
        and w == rows.south[end + 3]
    ):  # fmt: skip
        end += 1
    length = np.int64(end - x)
    stop = np.int64(end if decoding else x)
    while stop < end and symbols.pairs[begin + stop * symbols.step] == w:
        stop += 1
    index = coder.bit_length(length)
    whole = np.int64(stop == end)
    whole, interval = coder.adaptive(decoding, interval, words, contexts, index, whole)
    if whole:
        return end, np.int64(0), interval
    place, interval = _code_position(decoding, interval, words, length, np.int64(stop - x))
    return x + place, length, interval


@step
def _code_position(decoding, interval, words, length, place):
    """Code which voxel of a missed run is the first that differs."""
    bits = coder.bit_length(length - 1)
    high = bits - min(bits, np.int64(16))
    upper, interval = coder.uniform(decoding, interval, words, high, place >> 16)
    lower, interval = coder.uniform(decoding, interval, words, bits - high, place & 65535)
    return upper << 16 | lower, interval


@inlined
def _pattern(rows, x, first):
    """Return which neighbours of a column agree."""
    w, n, ne = rows.here[x + 2], rows.north[x + 3], rows.north[x + 4]
    nw, u = rows.north[x + 2], rows.above[x + 3]
    pattern = (
        np.int64(w == n) | np.int64(w == nw) << 1 | np.int64(n == nw) << 2
        | np.int64(n == ne) << 3 | np.int64(w == rows.here[x + 1]) << 4
        | np.int64(n == rows.far_north[x + 3]) << 5
    )  # fmt: skip
    if not first:
        pattern |= (
            np.int64(w == u) << 6 | np.int64(n == u) << 7
            | np.int64(u == rows.above[x + 4]) << 8 | np.int64(u == rows.south[x + 3]) << 9
            | 1 << 10
        )  # fmt: skip
    return pattern


@inlined
def _code_label(decoding, interval, words, rows, x, value, missed, top, first, contexts):
    """Code a symbol; return it, not yet checked, and the next interval."""
    w, n, ne = np.int64(rows.here[x + 2]), np.int64(rows.north[x + 3]), np.int64(rows.north[x + 4])
    candidates = (w, n, np.int64(rows.above[x + 3]), ne, np.int64(rows.north[x + 2]))
    pattern = _pattern(rows, x, first)
    for i in range(_CANDIDATES):
        candidate = candidates[i]
        tried = missed and candidate == w
        for j in range(i):
            tried |= candidates[j] == candidate
        if not tried:
            hit = np.int64(value == candidate)
            index = np.uint64(i * _PATTERNS + pattern)
            hit, interval = coder.adaptive(decoding, interval, words, contexts.choice, index, hit)
            if hit:
                return candidate, interval
    node = np.int64(1)
    depth = coder.bit_length(top)
    for i in range(depth - 1, -1, -1):
        bit = (value >> i) & 1
        bit, interval = coder.adaptive(
            decoding, interval, words, contexts.tree, np.uint64(node), bit
        )
        node = node * 2 + bit
    return node - (np.int64(1) << depth), interval
